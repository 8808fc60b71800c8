package server_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"abaca/internal/test/faultfs"
	"abaca/internal/test/serve"
)

// powerless cuts the power of a server and its file system, and has both come back.
func (p *process) powerless(fs *faultfs.FS, loss faultfs.Loss, seed uint64) {
	p.t.Helper()
	fs.Cut()
	p.kill()
	fs.Restore(loss, seed)
	p.start("")
}

// A promise is what holds of a deed once its work has ended, without any work after that.
var promises = map[string]struct{ ended, holds func(*testing.T, *stage) }{
	"create_share": {
		ended: shareIs("available"),
		holds: func(t *testing.T, s *stage) {
			if info, err := os.Stat(s.files()); err != nil || info.Mode().Perm() != 0o777 {
				t.Errorf("the share's directory: %v %v", info, err)
			}
		},
	},
	"manage_share": {
		ended: shareIs("available"),
		holds: func(t *testing.T, s *stage) { deeds["manage_share"].after(t, s) },
	},
	"create_backup": {ended: backupIs("available"), holds: intact},
	"restore_backup": {
		ended: func(t *testing.T, s *stage) { backupIs("available")(t, s); shareIs("available")(t, s) },
		holds: func(t *testing.T, s *stage) { equal(t, s.kept, s.files()) },
	},
	"delete_backup": {ended: backupIs("gone"), holds: backupIsGone},
	"create_snapshot": {
		ended: func(_ *testing.T, s *stage) { s.AtRest("/snapshots/"+s.snapshot, "snapshot", "available") },
		holds: func(t *testing.T, s *stage) {
			made := object{"share": object{"share_proto": "NFS", "size": 1, "snapshot_id": s.snapshot}}
			s.share = s.Must(200, "share", "POST", "/shares", made)["id"].(string)
			shareIs("available")(t, s)
			equal(t, s.kept, s.files())
		},
	},
	"delete_snapshot": {
		ended: func(_ *testing.T, s *stage) { s.AtRest("/snapshots/"+s.snapshot, "snapshot", "gone") },
		holds: func(_ *testing.T, s *stage) { s.Must(404, "", "GET", "/snapshots/"+s.snapshot, nil) },
	},
	"delete_share": {
		ended: shareIs("gone"),
		holds: func(t *testing.T, s *stage) {
			s.Must(404, "", "GET", "/shares/"+s.share, nil)
			if _, err := os.Stat(s.files()); !os.IsNotExist(err) {
				t.Errorf("the files are there: %v", err)
			}
		},
	},
}

func shareIs(status string) func(*testing.T, *stage) {
	return func(_ *testing.T, s *stage) { s.AtRest("/shares/"+s.share, "share", status) }
}

func backupIs(status string) func(*testing.T, *stage) {
	return func(_ *testing.T, s *stage) { s.AtRest("/share-backups/"+s.backup, "share_backup", status) }
}

func backupIsGone(_ *testing.T, s *stage) { s.Must(404, "", "GET", "/share-backups/"+s.backup, nil) }

// startOn starts a server on a file system that forgets.
func startOn(t *testing.T, fs *faultfs.FS) *process {
	t.Helper()
	p := &process{t: t, dir: filepath.Join(fs.Dir, "data")}
	t.Cleanup(p.stop)
	p.start("")
	return p
}

// prepare starts a server on a file system that forgets, and does what has to be there before a deed. The share's users have synced
// their files.
func prepare(t *testing.T, fs *faultfs.FS, d deed) *stage {
	s := &stage{process: startOn(t, fs)}
	d.before(t, s)
	if err := fs.Sync(filepath.Join(s.dir, "shares")); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestWhatWasAcknowledgedSurvivesAPowerCut(t *testing.T) {
	t.Parallel()
	seed := seedOf(t)
	for name, promise := range promises {
		for _, loss := range []faultfs.Loss{faultfs.All, faultfs.Losses()[1+seed%3]} {
			t.Run(name+", cut after the answer, losing "+loss.String(), func(t *testing.T) {
				t.Parallel()
				fs := faultfs.Mount(t)
				s := prepare(t, fs, deeds[name])
				deeds[name].request(t, s)
				s.powerless(fs, loss, seed)
				deeds[name].after(t, s)
				quotasFit(t, s.Client)
			})
			t.Run(name+", cut after its end, losing "+loss.String(), func(t *testing.T) {
				t.Parallel()
				fs := faultfs.Mount(t)
				s := prepare(t, fs, deeds[name])
				deeds[name].request(t, s)
				promise.ended(t, s)
				s.powerless(fs, loss, seed)
				promise.holds(t, s)
				quotasFit(t, s.Client)
			})
		}
	}
}

// A start that was killed, or an operator, has made the key and synced nothing.
func TestAMasterKeyThatNobodySyncedIsDurableBeforeItIsUsed(t *testing.T) {
	fs := faultfs.Mount(t)
	keys := filepath.Join(fs.Dir, "keys")
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := fs.Sync(fs.Dir); err != nil {
		t.Fatal(err)
	}
	key := filepath.Join(keys, "master.key")
	if err := os.WriteFile(key, []byte(strings.Repeat("0123456789abcdef", 4)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv(crashKey, key)
	s := &stage{process: startOn(t, fs)}
	s.share = s.NewShare("docs")
	s.backup = s.NewBackup(s.share)
	s.powerless(fs, faultfs.All, 1)
	s.Restore(s.backup)
}

func TestAPowerCutAtAnySyncOfTheFirstStartLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	var started atomic.Bool
	for at := int64(1); !started.Load(); at++ {
		t.Run(fmt.Sprint("sync ", at), func(t *testing.T) {
			losses := []faultfs.Loss{faultfs.All}
			if at%3 == 0 {
				losses = append(losses, faultfs.Losses()[1+at/3%3])
			}
			for _, loss := range losses {
				t.Run("losing "+loss.String(), func(t *testing.T) {
					t.Parallel()
					fs := faultfs.Mount(t)
					fs.CutAfter(at)
					s := &stage{process: &process{t: t, dir: filepath.Join(fs.Dir, "data")}}
					defer s.stop()
					if s.tryStart("") {
						started.Store(true)
						s.kill()
					}
					fs.Cut()
					fs.Restore(loss, uint64(at))
					s.start("")
					s.NewBackup(s.NewShare("docs"))
				})
			}
		})
		if at > 200 {
			t.Fatal("the server does not start")
		}
	}
}

// quotasFit compares what is charged with what is there, as clients see it: SQLite maps a file of the database, and a process that has mapped a file
// which it serves itself may wait for itself.
func quotasFit(t *testing.T, c *serve.Client) {
	t.Helper()
	charged := c.Must(200, "quota_set", "GET", "/quota-sets/admin/detail", nil)
	for resource, list := range map[string]string{"shares": "shares", "backups": "share-backups", "snapshots": "snapshots"} {
		_, answer := c.Do("GET", "/"+list, nil)
		rows := len(answer[strings.ReplaceAll(list, "-", "_")].([]any))
		if got := charged[resource].(object)["in_use"]; got != float64(rows) {
			t.Errorf("%v %s are charged, and there are %d", got, resource, rows)
		}
	}
}

// seedOf is the seed of a test's run; ABACA_TEST_SEED repeats another's.
func seedOf(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano()) % 1e6
	if v := os.Getenv("ABACA_TEST_SEED"); v != "" {
		var err error
		if seed, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("ABACA_TEST_SEED=%d", seed)
	return seed
}
