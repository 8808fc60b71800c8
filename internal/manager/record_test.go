package manager

import (
	"encoding/json"
	"os"
	"reflect"
	"testing"
	"time"

	"abaca"
)

func TestARecordOfBeforeStaysReadable(t *testing.T) {
	text, err := os.ReadFile("testdata/record.json")
	if err != nil {
		t.Fatal(err)
	}
	var got record
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	name, about, fast, host, topic, docs := "monday", "the first", "fast", "abaca@local#local", abaca.TopicShare, "docs"
	share := abaca.ShareID("22222222-2222-2222-2222-222222222222")
	at := func(day, hour int) time.Time { return time.Date(2026, 11, day, hour, 2, 3, 4000, time.UTC) }
	want := record{
		Backup: &abaca.Backup{
			ID: "11111111-1111-1111-1111-111111111111", Project: "lab", User: "ann", Share: share, Size: 3, Name: &name, Description: &about,
			Type: &fast, Zone: "nova", WithOptions: true, Host: &host, Topic: &topic, Status: abaca.Creating, Progress: 40, CreatedAt: at(24, 1),
		},
		Share: abaca.Share{
			ID: share, Project: "lab", User: "bob", Type: "33333333-3333-3333-3333-333333333333", Size: 4, Name: &docs, Proto: "NFS", Public: true,
			Metadata: map[string]string{"a": "b"}, Zone: "nova", Backend: "local", Path: string(share), Status: abaca.BackupCreating,
			CreatedAt: at(23, 1), UpdatedAt: at(23, 5),
		},
		Type: abaca.ShareType{
			ID: "33333333-3333-3333-3333-333333333333", Name: "default", Public: true, Specs: map[string]string{"snapshot_support": "True"}, CreatedAt: at(22, 1),
		},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("it reads %+v", got)
	}
	again, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	if string(again)+"\n" != string(text) {
		t.Errorf("it writes %s", again)
	}
	found := abaca.Found{ID: string(want.Backup.ID), Share: share}
	if !got.tells(found) {
		t.Error("it does not tell of its own backup")
	}
	found.ID = "another"
	if got.tells(found) {
		t.Error("it tells of another backup")
	}
}
