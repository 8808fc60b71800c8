package server_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"abaca"
	"abaca/internal/server"
	"abaca/internal/test/serve"
)

// A calendar is a clock that a test moves on by days.
type calendar struct{ ahead atomic.Int64 }

func (c *calendar) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *calendar) nextDay()       { c.ahead.Add(int64(25 * time.Hour)) }

// passing sends on the channel each time work comes to a step.
func passing(step string) (server.Option, <-chan struct{}) {
	at := make(chan struct{}, 100)
	return server.WithStep(func(_ context.Context, name string) error {
		if name == step {
			at <- struct{}{}
		}
		return nil
	}), at
}

// stopping holds work at a step until it is let go or the server stops.
func stopping(step string) (option server.Option, reached, letGo chan struct{}) {
	reached, letGo = make(chan struct{}, 1), make(chan struct{})
	return server.WithStep(func(ctx context.Context, name string) error {
		if name != step {
			return nil
		}
		reached <- struct{}{}
		select {
		case <-letGo:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}), reached, letGo
}

// everyDay is a configuration by which all data is read back every day.
func everyDay(t *testing.T) server.Config {
	t.Helper()
	c, err := serve.Config(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.Verify.SharePerDay = 1
	return c
}

// plant writes a large file that does not compress, beside small ones.
func plant(t *testing.T, dir string) {
	t.Helper()
	big := make([]byte, 1<<20)
	rand.Read(big)
	for name, data := range map[string][]byte{"big": big, "small": []byte("small"), "other": []byte("other")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func flipBit(t *testing.T, s *serve.Server) {
	t.Helper()
	if err := serve.FlipBit(s.Config.DataDir); err != nil {
		t.Fatal(err)
	}
}

func lastVerified(t *testing.T, s *serve.Server) map[string]abaca.Verified {
	t.Helper()
	list, err := s.DB.LastVerified(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]abaca.Verified{}
	for _, v := range list {
		m[v.ID] = v
	}
	return m
}

func messages(t *testing.T, s *serve.Server, share string) (texts []string) {
	t.Helper()
	_, answer := s.Do("GET", "/messages?resource_id="+share, nil)
	for _, m := range answer["messages"].([]any) {
		texts = append(texts, m.(object)["user_message"].(string))
	}
	return texts
}

func TestADamagedFileIsFoundWithinTheDayAndToldOnce(t *testing.T) {
	var clock calendar
	steps, recorded := passing("verify: recorded")
	s := serve.StartWith(t, everyDay(t), steps, server.WithClock(clock.now))
	share, sound := s.NewShare("docs"), s.NewShare("sound")
	plant(t, s.Share(share))
	backup, other := s.NewBackup(share), s.NewBackup(sound)
	if v := lastVerified(t, s)[backup]; !v.Ended.IsZero() {
		t.Fatalf("it was verified when it was made: %+v", v)
	}
	flipBit(t, s)
	for day := range 3 {
		clock.nextDay()
		<-recorded
		v := lastVerified(t, s)
		if got := v[backup]; got.Damaged != 1 || got.Files == 0 || got.Slice != (abaca.Slice{From: 0, To: 1}) || !strings.Contains(got.Detail, "big") {
			t.Errorf("on day %d the record of the damaged backup is %+v", day, got)
		}
		if got := v[other]; got.Damaged != 0 || got.Ended.IsZero() || got.Detail != "" {
			t.Errorf("on day %d the record of the sound backup is %+v", day, got)
		}
		told := messages(t, s, share)
		if len(told) != 1 || !strings.Contains(told[0], `"big"`) || !strings.Contains(told[0], "1 file is damaged") ||
			strings.Contains(told[0], "small") || strings.Contains(told[0], s.Config.DataDir) {
			t.Errorf("on day %d the tenant is told %q", day, told)
		}
		if told := messages(t, s, sound); len(told) != 0 {
			t.Errorf("on day %d the sound share's tenant is told %q", day, told)
		}
	}
	s.AtRest("/share-backups/"+backup, "share_backup", "available")
}

func TestWhatSeveralBackupsHaveLostIsToldTogetherAndOnce(t *testing.T) {
	var clock calendar
	steps, recorded := passing("verify: recorded")
	s := serve.StartWith(t, everyDay(t), steps, server.WithClock(clock.now))
	share := s.NewShare("docs")
	plant(t, s.Share(share))
	one, two := s.NewBackup(share), s.NewBackup(share)
	flipBit(t, s)
	clock.nextDay()
	<-recorded
	told := messages(t, s, share)
	if len(told) != 1 || !strings.Contains(told[0], one) || !strings.Contains(told[0], two) {
		t.Fatalf("the tenant is told %q", told)
	}
	three := s.NewBackup(share) // of the same contents
	clock.nextDay()
	<-recorded
	told = messages(t, s, share)
	for _, id := range []string{one, two, three} {
		if n := strings.Count(strings.Join(told, "\n"), id); n != 1 && (id != three || lastVerified(t, s)[three].Damaged > 0) {
			t.Errorf("%q tells of %s %d times", told, id, n)
		}
	}
}

func TestASnapshotIsVerifiedAsBackupsAre(t *testing.T) {
	var clock calendar
	steps, recorded := passing("verify: recorded")
	s := serve.StartWith(t, everyDay(t), steps, server.WithClock(clock.now))
	share := s.NewShare("docs")
	plant(t, s.Share(share))
	snapshot := s.Must(202, "snapshot", "POST", "/snapshots", object{"snapshot": object{"share_id": share}})["id"].(string)
	s.AtRest("/snapshots/"+snapshot, "snapshot", "available")
	flipBit(t, s)
	clock.nextDay()
	<-recorded
	if v := lastVerified(t, s)[snapshot]; v.Damaged != 1 || v.Kind != abaca.KindSnapshot {
		t.Errorf("its record is %+v", v)
	}
	if told := messages(t, s, share); len(told) != 1 || !strings.Contains(told[0], "verify share snapshot "+snapshot) {
		t.Errorf("the tenant is told %q", told)
	}
}

func TestABackupDeletedWhileItIsReadRaisesNoAlarm(t *testing.T) {
	var clock calendar
	steps, read, letGo := stopping("verify: read")
	s := serve.StartWith(t, everyDay(t), steps, server.WithClock(clock.now))
	share := s.NewShare("docs")
	plant(t, s.Share(share))
	kept, deleted := s.NewBackup(share), s.NewBackup(share)
	flipBit(t, s) // in what both share, so that an alarm would be raised
	clock.nextDay()
	<-read
	s.Must(202, "", "DELETE", "/share-backups/"+deleted, nil)
	s.AtRest("/share-backups/"+deleted, "share_backup", "gone")
	close(letGo)
	s.Until("/share-backups/"+kept, "share_backup", "verified", func(object) bool { return !lastVerified(t, s)[kept].Ended.IsZero() })
	if told := messages(t, s, share); len(told) != 1 || !strings.Contains(told[0], kept) {
		t.Errorf("the tenant is told %q", told)
	}
}

func TestWhoLosesASliceToAnotherWorkerRecordsNothing(t *testing.T) {
	var clock calendar
	steps, read, letGo := stopping("verify: read")
	s := serve.StartWith(t, everyDay(t), steps, server.WithClock(clock.now))
	share := s.NewShare("docs")
	plant(t, s.Share(share))
	backup := s.NewBackup(share)
	flipBit(t, s)
	clock.nextDay()
	<-read
	database(t, s.Config.DataDir, s.Config.Database, func(d *sql.DB) error { // as another worker's claim would, which then gives it up
		_, err := d.ExecContext(t.Context(), "UPDATE verification_rounds SET attempt = attempt + 1, lease_owner = NULL, due_at = 0")
		return err
	})
	letGo <- struct{}{}
	<-read // it has claimed the slice again
	if v := lastVerified(t, s)[backup]; !v.Ended.IsZero() {
		t.Errorf("recorded is %+v", v)
	}
	if told := messages(t, s, share); len(told) > 0 {
		t.Errorf("the tenant is told %q", told)
	}
	letGo <- struct{}{}
	s.Until("/shares/"+share, "share", "verified", func(object) bool { return !lastVerified(t, s)[backup].Ended.IsZero() })
	if told := messages(t, s, share); len(told) != 1 {
		t.Errorf("the tenant is told %q", told)
	}
}

func TestVerifyingGoesOnWhereAStopLeftIt(t *testing.T) {
	var clock calendar
	c := everyDay(t)
	c.Verify.SharePerDay = 0.3
	steps, recorded := passing("verify: recorded")
	first := serve.StartWith(t, c, steps, server.WithClock(clock.now))
	share := first.NewShare("docs")
	plant(t, first.Share(share))
	backup := first.NewBackup(share)
	clock.nextDay()
	<-recorded
	first.Stop()

	clock.nextDay()
	steps, read, _ := stopping("verify: read")
	second := serve.StartWith(t, c, steps, server.WithClock(clock.now))
	<-read
	second.Stop()

	steps, recorded = passing("verify: recorded")
	third := serve.StartWith(t, c, steps, server.WithClock(clock.now))
	var bytes int64
	for _, want := range []abaca.Slice{{From: 0.3, To: 0.6}, {From: 0.6, To: 0.9}, {From: 0.9, To: 1}, {From: 0, To: 0.3}} {
		<-recorded
		v := lastVerified(t, third)[backup]
		if got := v.Slice; abs(got.From-want.From) > 1e-9 || abs(got.To-want.To) > 1e-9 {
			t.Errorf("read %+v, want %+v", got, want)
		}
		bytes += v.Bytes
		clock.nextDay()
	}
	if want := int64(1<<20 + len("small") + len("other")); bytes != want {
		t.Errorf("one round has read %d bytes back, want each of %d once", bytes, want)
	}
}

func TestARepositoryThatCannotBeOpenedIsTriedAgainWithinTheDay(t *testing.T) {
	var clock calendar
	c := everyDay(t)
	first := serve.StartWith(t, c)
	share := first.NewShare("docs")
	backup := first.NewBackup(share)
	first.Stop()
	secret := filepath.Join(c.DataDir, "repository", "admin", "secret")
	kept, err := os.ReadFile(secret)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(data []byte) {
		t.Helper()
		if err := os.WriteFile(secret, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	replace(make([]byte, len(kept)))
	clock.nextDay()
	steps, taken := passing("verify: taken up")
	second := serve.StartWith(t, c, steps, server.WithClock(clock.now))
	<-taken
	var due int64
	second.Until("/shares/"+share, "share", "given up", func(object) (yes bool) {
		database(t, c.DataDir, second.Config.Database, func(d *sql.DB) error {
			return d.QueryRowContext(t.Context(), "SELECT lease_owner IS NULL AND tries = 0, due_at FROM verification_rounds").Scan(&yes, &due)
		})
		return yes
	})
	if in := time.UnixMicro(due).Sub(clock.now()); in < 30*time.Minute || in > time.Hour {
		t.Errorf("it is tried again in %v", in)
	}
	if v := lastVerified(t, second)[backup]; !v.Ended.IsZero() {
		t.Errorf("recorded is %+v", v)
	}
	if told := messages(t, second, share); len(told) > 0 {
		t.Errorf("the tenant is told %q", told)
	}
	second.Stop()
	replace(kept)
	clock.ahead.Add(int64(time.Hour))
	steps, recorded := passing("verify: recorded")
	third := serve.StartWith(t, c, steps, server.WithClock(clock.now))
	<-recorded
	if v := lastVerified(t, third)[backup]; v.Ended.IsZero() || v.Damaged != 0 {
		t.Errorf("recorded is %+v", v)
	}
}

func TestAnotherUsersDataIsNotTouched(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("giving files to another user needs root")
	}
	s := serve.Start(t)
	s.Stop()
	const nobody = 65534
	for _, file := range []string{"abaca.db", "lock"} {
		if err := os.Chown(filepath.Join(s.Config.DataDir, file), nobody, nobody); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	v, err := server.OpenBeside(t.Context(), s.Config, slog.New(slog.DiscardHandler))
	if err == nil {
		t.Fatalf("it was opened; closed with %v", v.Close())
	}
	if !strings.Contains(err.Error(), "65534") {
		t.Error(err)
	}
}

func abs(x float64) float64 { return max(x, -x) }
