// Package scale runs what users who outgrow one machine run: PostgreSQL, an S3 server, two processes that requests go to and three more
// that work; breaks each of them while tenants use it; and checks that what was acknowledged holds. `make test-scale` says how long.
package scale

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"abaca/internal/test/postgres"
)

func TestMain(m *testing.M) { os.Exit(postgres.Main(m)) }

// size reads one of the SCALE_* variables, all of which are set where the test is wanted.
func size(t *testing.T, name string) int {
	t.Helper()
	n, err := strconv.Atoi(os.Getenv("SCALE_" + name))
	if err != nil || n < 0 {
		t.Fatalf("SCALE_%s is not a number", name)
	}
	return n
}

// report prints a line of figures.
func report(format string, args ...any) { fmt.Printf("scale: "+format+"\n", args...) }

func TestWhatWasAcknowledgedHoldsHoweverManyAskAndWhateverBreaks(t *testing.T) {
	if os.Getenv("SCALE_BACKUPS") == "" {
		t.Skip("NOT TESTED: make test-scale sets how much")
	}
	f := launch(t, 2, 3)
	for _, phase := range []struct {
		name string
		run  func(t *testing.T, f *fleet)
	}{
		{"many backups are each made once", manyBackups},
		{"crashes and outages lose nothing", crashesAndOutages},
		{"damage by hand is found and mended", damageByHand},
		{"lists cost the same at the end", longLists},
		{"a lost database is made again", recoveryDrill},
	} {
		if !t.Run(phase.name, func(t *testing.T) {
			f.t = t
			phase.run(t, f)
		}) {
			break
		}
	}
	f.t = t
}

func (f *fleet) client(project string) *client {
	return &client{f: f, project: project, again: &new(tally).again}
}

// manyBackups has a share each for many backups in many projects, and all asked for at once.
func manyBackups(t *testing.T, f *fleet) {
	backups, projects := size(t, "BACKUPS"), size(t, "PROJECTS")
	names := make([]string, projects)
	for i := range names {
		names[i] = fmt.Sprint("many", i)
	}
	var mu sync.Mutex
	asked, accepted := map[string]*client{}, time.Time{}
	var shares sync.WaitGroup
	waiting := make(chan func(), backups)
	for worker := range 8 {
		shares.Go(func() {
			for i := worker; i < backups; i += 8 {
				c := f.client(names[i%projects])
				share := c.newShare()
				if t.Failed() {
					return
				}
				must(t, os.WriteFile(f.files()+"/"+share+"/file", []byte("of "+share), 0o600))
				waiting <- func() {
					status, answer, _ := c.call("POST", "/share-backups", object{"share_backup": object{"share_id": share}})
					if status != 202 {
						t.Errorf("a backup is answered with %d: %v", status, answer)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					asked[answer["share_backup"].(object)["id"].(string)] = c
				}
			}
		})
	}
	shares.Wait()
	close(waiting)
	began := time.Now()
	var posts sync.WaitGroup
	for range 8 {
		posts.Go(func() {
			for post := range waiting {
				post()
			}
		})
	}
	posts.Wait()
	accepted = time.Now()
	for id, c := range asked {
		if got := c.rest("/share-backups/"+id, "share_backup"); got != "available" {
			t.Errorf("backup %s is %s", id, got)
		}
	}
	took := time.Since(began)
	for id, n := range f.done("create_backup") {
		if n != 1 {
			t.Errorf("backup %s was made %d times", id, n)
		}
	}
	if n := len(f.done("create_backup")); n != backups || len(asked) != backups {
		t.Errorf("%d backups were asked for and %d were made", len(asked), n)
	}
	f.settled(names)
	report("%d backups in %d projects: accepted in %.1f s, made in %.1f s (%.1f a second), each once",
		backups, projects, accepted.Sub(began).Seconds(), took.Seconds(), float64(backups)/took.Seconds())
}

// crashesAndOutages breaks one part after the other under load.
func crashesAndOutages(t *testing.T, f *fleet) {
	clients, kills, outages := size(t, "CLIENTS"), time.Duration(size(t, "KILL_SECONDS"))*time.Second, size(t, "OUTAGES")
	var counts tally
	var tenants []*tenant
	names := []string{}
	for i := range clients {
		names = append(names, fmt.Sprint("busy", i/2)) // two to a project
		tenants = append(tenants, newTenant(f, names[i], uint64(i), &counts))
	}
	names = slices.Compact(names)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var load sync.WaitGroup
	for _, h := range tenants {
		load.Go(func() { h.live(ctx) })
	}
	defer load.Wait()
	defer stop()
	phase := func(name string, break_ func()) {
		if t.Failed() {
			return
		}
		before, failed, again := counts.ended(), counts.failed.Load(), counts.again.Load()
		began := time.Now()
		break_()
		report("%s: %d operations in %.0f s, %d failed, %d requests asked again", name, counts.ended()-before, time.Since(began).Seconds(),
			counts.failed.Load()-failed, counts.again.Load()-again)
	}
	phase("kill -9 of workers", func() { killWorkers(f, kills) })
	for range outages {
		phase("PostgreSQL away for 5 s", func() {
			f.rows.Stop()
			pause(5 * time.Second)
			f.rows.Restart(t)
			pause(5 * time.Second)
		})
		phase("S3 server away for 5 s", func() {
			f.bucket.Stop()
			pause(5 * time.Second)
			f.bucket.Restart(t)
			pause(5 * time.Second)
		})
		phase("S3 server hanging for 5 s", func() {
			f.bucket.Pause(t)
			pause(5 * time.Second)
			f.bucket.Resume(t)
			pause(5 * time.Second)
		})
		phase("one in five answers of S3 503 for 10 s", func() {
			f.refused.Store(200)
			defer f.refused.Store(0)
			pause(10 * time.Second)
		})
		for _, m := range f.apis {
			phase("kill -9 of "+m.host, func() {
				m.crash(2 * time.Second)
				pause(2 * time.Second)
			})
		}
	}
	stop()
	load.Wait()
	f.settled(names)
	var checks sync.WaitGroup
	kept := 0
	for _, h := range tenants {
		kept += len(h.kept)
		checks.Go(h.check)
	}
	checks.Wait()
	f.settled(names)
	well, said := f.verify()
	if !well {
		t.Errorf("verify: %s", said)
	}
	f.tenants = tenants
	report("acknowledged: %d backups, %d restores, %d deletions; %d failed with a reason; %d kept backups restored equal and verified",
		counts.backups.Load(), counts.restores.Load(), counts.deletes.Load(), counts.failed.Load(), kept)
}

func (t *tally) ended() int64 { return t.backups.Load() + t.restores.Load() + t.deletes.Load() }

// killWorkers kills one worker after the other for so long.
func killWorkers(f *fleet, long time.Duration) {
	killed := 0
	for end := time.Now().Add(long); time.Now().Before(end) && !f.t.Failed(); killed++ {
		f.workers[rand.IntN(len(f.workers))].crash(time.Duration(rand.IntN(3000)) * time.Millisecond)
		pause(time.Duration(500+rand.IntN(3000)) * time.Millisecond)
	}
	report("killed a worker %d times", killed)
}

// recoveryDrill takes the database away, makes it again from the bucket and the master key, and looks for all that was acknowledged.
func recoveryDrill(t *testing.T, f *fleet) {
	all := slices.Concat(f.apis, f.workers)
	for _, m := range all {
		m.kill()
	}
	f.database = f.rows.Database(t, "recovered")
	for _, m := range all {
		m.configure()
	}
	began := time.Now()
	out, err := f.workers[0].command("recover").CombinedOutput()
	if err != nil {
		t.Fatalf("recover: %v: %s", err, out)
	}
	took := time.Since(began)
	for _, m := range all {
		m.launch()
	}
	var checks sync.WaitGroup
	kept := 0
	for _, h := range f.tenants {
		if len(h.kept) == 0 {
			continue // a share without backups is known to the database alone
		}
		kept += len(h.kept)
		checks.Go(func() {
			h.check()
			f.charged(h.project)
		})
	}
	checks.Wait()
	report("database made again in %.1f s: %s; %d backups restored equal", took.Seconds(), bytes.TrimSpace(out), kept)
}
