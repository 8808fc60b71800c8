package db

import (
	"testing"

	"abaca"
)

func TestTheOwnerOfAThingIsItsProjectAndNobodyWhereThereIsNone(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "p")
		insert(t, db, abaca.Backup{ID: "b", Project: "p", Share: "s"})
		for _, test := range []struct {
			kind, id string
			owner    abaca.ProjectID
		}{
			{"share", "s", "p"}, {"share_backup", "b", "p"}, {"share", "b", ""}, {"share_backup", "none", ""}, {"share_snapshot", "s", ""},
			{"message", "none", ""}, {"share_type", "t-s", ""}, {"", "s", ""},
		} {
			if owner, err := db.Owner(t.Context(), test.kind, test.id); owner != test.owner || err != nil {
				t.Errorf("the owner of the %s %q is %q, %v, want %q", test.kind, test.id, owner, err, test.owner)
			}
		}
	})
}
