package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"abaca/internal/test/faultfs"
)

// A tenant makes, restores and deletes backups of one share for as long as the server answers, and knows what was acknowledged.
type tenant struct {
	t      *testing.T
	fs     *faultfs.FS
	random *rand.Rand
	share  string
	dir    string
	files  map[string][]byte // what the share holds, and would after a power cut; nil where that is not known
	kept   map[string]*keptBackup
}

// A keptBackup is a backup that was asked for and not yet seen to be gone.
type keptBackup struct {
	files    map[string][]byte
	deleting bool // was asked to be deleted, and perhaps nobody heard
	accepted bool // the deletion was acknowledged
}

// request sends one request to a server that may fail or be gone, in which case the status is 0.
func request(url, method, path string, body any) (status int, answer object) {
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	r, err := http.NewRequest(method, url+"/v2"+path, bytes.NewReader(raw))
	if err != nil {
		panic(err)
	}
	r.Header.Set("X-Auth-Token", "admin:admin")
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-OpenStack-Manila-API-Version", "2.99")
	r.Header.Set("X-OpenStack-Manila-API-Experimental", "True")
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, nil
	}
	defer resp.Body.Close()
	if raw, err = io.ReadAll(resp.Body); err != nil || len(raw) > 0 && json.Unmarshal(raw, &answer) != nil {
		return 0, nil
	}
	return resp.StatusCode, answer
}

// restOf waits until a resource is at rest, and returns its status; "gone" where it is not there, empty where the server does not say.
func restOf(url, path, key string, failed <-chan struct{}) string {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		status, answer := request(url, "GET", path, nil)
		switch status {
		case http.StatusNotFound:
			return "gone"
		case http.StatusOK:
			if s := answer[key].(object)["status"].(string); !strings.HasSuffix(s, "ing") {
				return s
			}
		}
		select {
		case <-failed:
			return ""
		case <-tick.C:
		}
	}
}

// live does one thing after the other until the power fails.
func (w *tenant) live(url string, failed <-chan struct{}) {
	for !w.t.Failed() {
		select {
		case <-failed:
			return
		default:
		}
		ids := slices.Sorted(maps.Keys(w.kept))
		switch dice := w.random.IntN(10); {
		case len(ids) > 2, dice < 3 && len(ids) > 0: // three tenants have ten backups at most
			w.delete(url, ids[w.random.IntN(len(ids))], failed)
		case dice < 5 && len(ids) > 0:
			w.restore(url, ids[w.random.IntN(len(ids))], failed)
		default:
			if w.change() == nil {
				w.backUp(url, failed)
			}
		}
	}
}

// change writes some of the share's files and syncs them, as a careful tenant does.
func (w *tenant) change() error {
	w.files = nil
	for range 1 + w.random.IntN(4) {
		data := make([]byte, 1+w.random.IntN(40_000))
		for i := range data {
			data[i] = byte(w.random.Uint32())
		}
		name := fmt.Sprintf("file%d", w.random.IntN(10))
		if err := os.WriteFile(filepath.Join(w.dir, name), data, 0o600); err != nil {
			return err
		}
	}
	files, err := contents(w.dir)
	if err != nil {
		return err
	}
	if err := w.fs.Sync(w.dir); err != nil {
		return err
	}
	w.files = files
	return nil
}

func contents(dir string) (map[string][]byte, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	all := map[string][]byte{}
	for _, e := range entries {
		if all[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (w *tenant) backUp(url string, failed <-chan struct{}) {
	status, answer := request(url, "POST", "/share-backups", object{"share_backup": object{"share_id": w.share}})
	if !w.accepted(status, answer, failed) {
		return
	}
	id := answer["share_backup"].(object)["id"].(string)
	w.kept[id] = &keptBackup{files: w.files}
	w.is("available", restOf(url, "/share-backups/"+id, "share_backup", failed), id)
	restOf(url, "/shares/"+w.share, "share", failed)
}

// accepted reports whether a request was accepted. None of a tenant's is refused but by a server that is losing its power.
func (w *tenant) accepted(status int, answer object, failed <-chan struct{}) bool {
	if status != http.StatusAccepted {
		select {
		case <-failed:
		default:
			if status != 0 && status < 500 {
				w.t.Errorf("%d %v", status, answer)
			}
		}
	}
	return status == http.StatusAccepted
}

// is checks a status that the server has told, if it has.
func (w *tenant) is(want, got, id string) bool {
	if got != "" && got != want {
		w.t.Errorf("backup %s is %s, want %s", id, got, want)
	}
	return got == want
}

func (w *tenant) restore(url, id string, failed <-chan struct{}) {
	b := w.kept[id]
	if b.deleting {
		return
	}
	w.files = nil
	status, answer := request(url, "POST", "/share-backups/"+id+"/action", object{"restore": nil})
	if w.accepted(status, answer, failed) && w.is("available", restOf(url, "/share-backups/"+id, "share_backup", failed), id) && restOf(url, "/shares/"+w.share, "share", failed) == "available" {
		w.files = b.files
	}
}

func (w *tenant) delete(url, id string, failed <-chan struct{}) {
	b := w.kept[id]
	b.deleting = true
	if status, answer := request(url, "DELETE", "/share-backups/"+id, nil); !w.accepted(status, answer, failed) {
		return
	}
	b.accepted = true
	if w.is("gone", restOf(url, "/share-backups/"+id, "share_backup", failed), id) {
		delete(w.kept, id)
	}
}

// check compares what there is after a power cut with what was acknowledged before.
func (w *tenant) check(s *process) {
	w.t.Helper()
	s.AtRest("/shares/"+w.share, "share", "available")
	if w.files != nil {
		w.same(w.files, "the share")
	}
	_, answer := s.Do("GET", "/share-backups?share_id="+w.share, nil)
	there := map[string]bool{}
	for _, v := range answer["share_backups"].([]any) {
		there[v.(object)["id"].(string)] = true
	}
	for id, b := range w.kept {
		switch {
		case b.accepted:
			s.AtRest("/share-backups/"+id, "share_backup", "gone")
			delete(w.kept, id)
		case b.deleting && !there[id]:
			delete(w.kept, id)
		case !there[id]:
			w.t.Errorf("backup %s is lost", id)
		case b.deleting:
			if restOf(s.URL, "/share-backups/"+id, "share_backup", nil) == "gone" {
				delete(w.kept, id)
				continue
			}
			b.deleting = false
			fallthrough
		default:
			s.AtRest("/share-backups/"+id, "share_backup", "available")
		}
		delete(there, id)
	}
	for id := range there { // nobody has been told of these
		if got := restOf(s.URL, "/share-backups/"+id, "share_backup", nil); got == "available" && w.files != nil {
			w.kept[id] = &keptBackup{files: w.files}
		} else {
			w.t.Errorf("backup %s, which was gone or never acknowledged, is %s", id, got)
		}
	}
}

// restoreAll restores every backup and compares.
func (w *tenant) restoreAll(s *process, most int) {
	w.t.Helper()
	for _, id := range slices.Sorted(maps.Keys(w.kept)) {
		if most--; most < 0 {
			return
		}
		s.Restore(id)
		w.files = w.kept[id].files
		w.same(w.files, "backup "+id)
	}
}

func (w *tenant) same(want map[string][]byte, what string) {
	w.t.Helper()
	got, err := contents(w.dir)
	if err != nil {
		w.t.Fatal(err)
	}
	if !maps.EqualFunc(got, want, bytes.Equal) {
		w.t.Errorf("%s holds %v, want %v", what, lengths(got), lengths(want))
	}
}

func lengths(files map[string][]byte) (all []string) {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		all = append(all, fmt.Sprintf("%s:%d", name, len(files[name])))
	}
	return all
}

// TestNothingAcknowledgedIsLostWheneverThePowerFails cuts the power at ABACA_TEST_POWER_CUTS random moments, 10 where that is not set.
func TestNothingAcknowledgedIsLostWheneverThePowerFails(t *testing.T) {
	t.Parallel()
	cuts := 10
	if v := os.Getenv("ABACA_TEST_POWER_CUTS"); v != "" {
		var err error
		if cuts, err = strconv.Atoi(v); err != nil {
			t.Fatal(err)
		}
	}
	seed := seedOf(t)
	random := rand.New(rand.NewPCG(seed, 0))
	fs := faultfs.Mount(t)
	s := startOn(t, fs)
	var tenants []*tenant
	for i := range 3 {
		w := &tenant{t: t, fs: fs, random: rand.New(rand.NewPCG(seed, uint64(i+1))), share: s.NewShare("docs"), kept: map[string]*keptBackup{}}
		w.dir = filepath.Join(s.dir, "shares", w.share)
		tenants = append(tenants, w)
	}
	for range cuts {
		failed := fs.CutAfter(1 + random.Int64N(250))
		var living sync.WaitGroup
		for _, w := range tenants {
			living.Go(func() { w.live(s.URL, failed) })
		}
		living.Wait()
		if t.Failed() {
			return
		}
		s.kill()
		s.ahead += 7 * time.Hour // so that maintenance and verification are due
		s.powerless(fs, faultfs.Losses()[random.IntN(4)], random.Uint64())
		for _, w := range tenants {
			w.check(s)
			w.restoreAll(s, 1)
		}
		quotasFit(t, s.Client)
		if t.Failed() {
			t.Fatalf("after %d syncs", fs.Syncs())
		}
	}
	for _, w := range tenants {
		w.restoreAll(s, len(w.kept))
	}
}
