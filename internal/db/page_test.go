package db

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"abaca"
)

func TestPagesByMarkerAreTheWholeListInOrderForEverySortKey(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "p")
		var all []abaca.Backup
		for i := range 57 {
			b := abaca.Backup{
				ID: abaca.BackupID(fmt.Sprintf("id-%02d", i*31%57)), Project: "p", Share: "s", Size: i % 4,
				CreatedAt: now.Add(time.Duration(i%9) * time.Microsecond),
			}
			if i%3 > 0 {
				b.Name, b.Type = ptr(fmt.Sprintf("N%d", i%5)), ptr("type")
			}
			all = append(all, b)
		}
		insert(t, db, all...)
		for key := range backups.sort {
			for _, ascending := range []bool{true, false} {
				t.Run(fmt.Sprintf("%s ascending %v", key, ascending), func(t *testing.T) {
					page := Page{SortKey: key, Ascending: ascending}
					whole, err := db.Backups(t.Context(), BackupFilter{Project: "p"}, page)
					if err != nil {
						t.Fatal(err)
					}
					if len(whole) != len(all) {
						t.Fatalf("the whole list has %d of %d backups", len(whole), len(all))
					}
					page.Limited, page.Limit = true, 10
					var paged []abaca.Backup
					for {
						part, err := db.Backups(t.Context(), BackupFilter{Project: "p"}, page)
						if err != nil {
							t.Fatal(err)
						}
						if len(part) == 0 {
							break
						}
						paged = append(paged, part...)
						page.Marker = string(part[len(part)-1].ID)
					}
					if got, want := ids(paged), ids(whole); !slices.Equal(got, want) {
						t.Errorf("pages give %v, the whole list is %v", got, want)
					}
					var passed []abaca.Backup
					for at := 0; at <= len(all); at += 10 {
						part, err := db.Backups(t.Context(), BackupFilter{Project: "p"}, Page{SortKey: key, Ascending: ascending, Limited: true, Limit: 10, Offset: at})
						if err != nil {
							t.Fatal(err)
						}
						passed = append(passed, part...)
					}
					if got, want := ids(passed), ids(whole); !slices.Equal(got, want) {
						t.Errorf("pages by offset give %v, the whole list is %v", got, want)
					}
					reversed, err := db.Backups(t.Context(), BackupFilter{Project: "p"}, Page{SortKey: key, Ascending: !ascending})
					if err != nil {
						t.Fatal(err)
					}
					slices.Reverse(reversed)
					if !slices.Equal(ids(reversed), ids(whole)) {
						t.Error("the other direction is not the reverse")
					}
				})
			}
		}
	})
}

func TestTextIsSortedByItsBytesWithoutRegardToCaseInASCII(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "p")
		var want []string
		for _, name := range []string{"", " z", "10", "9", "_", "a", "B", "b c", "ba", "b_", "Z", "zz", "É", "ä", "é", "ﬀ", "😀"} {
			insert(t, db, abaca.Backup{ID: abaca.BackupID("of " + name), Project: "p", Share: "s", Name: &name})
			want = append(want, "of "+name)
		}
		slices.SortFunc(want, func(a, b string) int { return strings.Compare(lowerASCII(a), lowerASCII(b)) })
		byName, err := db.Backups(t.Context(), BackupFilter{}, Page{SortKey: "name", Ascending: true})
		if err != nil || !slices.Equal(ids(byName), want) {
			t.Errorf("by name: %q, want %q, %v", ids(byName), want, err)
		}
		slices.Sort(want)
		byID, err := db.Backups(t.Context(), BackupFilter{}, Page{SortKey: "id", Ascending: true})
		if err != nil || !slices.Equal(ids(byID), want) {
			t.Errorf("by id: %q, want %q, %v", ids(byID), want, err)
		}
		for _, name := range []string{"É", "é", "B C", "b c"} {
			found, err := db.Backups(t.Context(), BackupFilter{TextFilter: TextFilter{NameLike: &name}}, Page{})
			if err != nil || len(found) != 1 {
				t.Errorf("%q is part of %q, %v", name, ids(found), err)
			}
		}
	})
}

func TestEveryListCanBeSortedAndPagedByEveryOfItsKeys(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		ctx := t.Context()
		for _, id := range []string{"1", "2", "3"} {
			withShare(t, db, abaca.ShareID(id), "p")
			db.must(t, func(tx *Tx) error {
				err := tx.InsertSnapshot(ctx, abaca.Snapshot{ID: abaca.SnapshotID(id), Project: "p", Share: "1", Status: abaca.Creating, CreatedAt: now}, abaca.Caller{})
				if err != nil {
					return err
				}
				return tx.InsertMessage(ctx, abaca.Message{ID: id, Project: "p", CreatedAt: now})
			})
		}
		for list, keys := range map[string]map[string]string{"shares": shares.sort, "snapshots": snapshots.sort, "messages": messages.sort} {
			for key := range keys {
				page := Page{SortKey: key, Ascending: true, Limited: true, Limit: 1}
				var seen int
				for n := 1; n > 0; seen += n {
					var err error
					n = 0
					switch list {
					case "shares":
						var rows []abaca.Share
						if rows, err = db.Shares(ctx, ShareFilter{}, page); len(rows) > 0 {
							n, page.Marker = 1, string(rows[0].ID)
						}
					case "snapshots":
						var rows []abaca.Snapshot
						if rows, err = db.Snapshots(ctx, SnapshotFilter{}, page); len(rows) > 0 {
							n, page.Marker = 1, string(rows[0].ID)
						}
					case "messages":
						var rows []abaca.Message
						if rows, err = db.Messages(ctx, MessageFilter{}, page); len(rows) > 0 {
							n, page.Marker = 1, rows[0].ID
						}
					}
					if err != nil {
						t.Fatalf("%s by %s: %v", list, key, err)
					}
				}
				if seen != 3 {
					t.Errorf("%s by %s: %d of 3 rows", list, key, seen)
				}
			}
		}
	})
}

func TestAMarkerOrSortKeyThatDoesNotExistIsAnInvalidRequest(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "other")
		insert(t, db, abaca.Backup{ID: "others", Project: "other", Share: "s"})
		for _, p := range []Page{{Marker: "nowhere"}, {Marker: "others"}, {SortKey: "metadata"}, {SortKey: "id; DROP TABLE shares"}} {
			if _, err := db.Backups(t.Context(), BackupFilter{Project: "p"}, p); abaca.FaultOf(err) != abaca.Invalid {
				t.Errorf("%+v: %v", p, err)
			}
		}
	})
}

func TestFilters(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "p")
		insert(t, db,
			abaca.Backup{ID: "1", Project: "p", Share: "s", Name: ptr("100%"), Description: ptr("One")},
			abaca.Backup{ID: "2", Project: "p", Share: "s", Name: ptr("1000"), Description: ptr("")},
			abaca.Backup{ID: "3", Project: "p", Share: "s", Name: ptr("a_b")},
			abaca.Backup{ID: "4", Project: "p", Share: "s", Name: ptr("aXb")},
			abaca.Backup{ID: "5", Project: "other", Share: "s", Name: ptr("a_b")},
			abaca.Backup{ID: "6", Project: "p", Share: "s", Name: ptr("back\\slash")},
		)
		for _, test := range []struct {
			says   string
			filter BackupFilter
			want   []string
		}{
			{"a percent sign is an ordinary character", BackupFilter{Project: "p", TextFilter: TextFilter{NameLike: ptr("0%")}}, []string{"1"}},
			{"an underscore is an ordinary character", BackupFilter{Project: "p", TextFilter: TextFilter{NameLike: ptr("a_")}}, []string{"3"}},
			{"a backslash is an ordinary character", BackupFilter{Project: "p", TextFilter: TextFilter{NameLike: ptr(`\`)}}, []string{"6"}},
			{"parts match without regard to case", BackupFilter{Project: "p", TextFilter: TextFilter{NameLike: ptr("AxB")}}, []string{"4"}},
			{"whole names match exactly", BackupFilter{Project: "p", TextFilter: TextFilter{Name: ptr("AXB")}}, nil},
			{"an empty name is the empty name and not the missing one", BackupFilter{Project: "p", TextFilter: TextFilter{Description: ptr("")}}, []string{"2"}},
			{"no project is every project", BackupFilter{TextFilter: TextFilter{Name: ptr("a_b")}}, []string{"3", "5"}},
			{"filters are all applied", BackupFilter{Project: "p", TextFilter: TextFilter{NameLike: ptr("1"), DescriptionLike: ptr("one")}}, []string{"1"}},
			{"quotes do no harm", BackupFilter{TextFilter: TextFilter{Name: ptr(`a'; DROP TABLE shares; --`)}}, nil},
		} {
			t.Run(test.says, func(t *testing.T) {
				got, err := db.Backups(t.Context(), test.filter, Page{SortKey: "id", Ascending: true})
				if err != nil {
					t.Fatal(err)
				}
				if !slices.Equal(ids(got), test.want) {
					t.Errorf("got %v, want %v", ids(got), test.want)
				}
			})
		}
	})
}

func TestSharesAreFoundByMetadata(t *testing.T) {
	onEach(t, func(t *testing.T, db *DB) {
		withShare(t, db, "s", "p")
		for _, test := range []struct {
			metadata map[string]string
			found    int
		}{
			{map[string]string{"k": `a"b`}, 1},
			{map[string]string{"x": "y"}, 1},
			{map[string]string{"x": "y", "k": `a"b`}, 1},
			{map[string]string{"x": "Y"}, 0},
			{map[string]string{"k": "a"}, 0},
			{map[string]string{"y": "x"}, 0},
			{map[string]string{"": ""}, 0},
		} {
			n, err := db.CountShares(t.Context(), ShareFilter{Metadata: test.metadata})
			if err != nil {
				t.Fatal(err)
			}
			if n != test.found {
				t.Errorf("%v finds %d shares, want %d", test.metadata, n, test.found)
			}
		}
	})
}

func ids(list []abaca.Backup) []string {
	var s []string
	for _, b := range list {
		s = append(s, string(b.ID))
	}
	return s
}
