package scale

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"abaca/internal/test/torture"
)

// A tally counts what all tenants have had acknowledged and how it ended.
type tally struct{ backups, failed, restores, deletes, again atomic.Int64 }

// A tenant works on one share and remembers what it has been told, which is what has to hold.
type tenant struct {
	*client
	share   string
	n       int               // of copies
	changes int               // that are made to the files at a time
	kept    map[string]string // what is available: a copy of the files as they were, by backup
	deleted []string          // what was deleted and seen to be gone
	history []string          // what was done to the share, for whoever has to find out why something did not hold
	random  *rand.Rand
	*tally
}

func newTenant(f *fleet, project string, seed uint64, t *tally) *tenant {
	h := &tenant{
		client: &client{f: f, project: project, again: &t.again}, kept: map[string]string{}, random: rand.New(rand.NewPCG(seed, 0)), tally: t,
		changes: 8,
	}
	h.share = h.newShare()
	must(f.t, torture.Grow(h.files(), seed, 30))
	return h
}

func (h *tenant) files() string { return filepath.Join(h.f.files(), h.share) }

// errorf tells of a violation, and of what was done before.
func (h *tenant) errorf(format string, args ...any) {
	h.f.t.Errorf("project %s, share %s: %s\n%s", h.project, h.share, fmt.Sprintf(format, args...), strings.Join(h.history, "\n"))
}

func (h *tenant) note(format string, args ...any) {
	h.history = append(h.history, time.Now().UTC().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

// live backs up, restores and deletes at random until the context ends.
func (h *tenant) live(ctx context.Context) {
	for ctx.Err() == nil && !h.f.t.Failed() {
		switch r := h.random.IntN(10); {
		case len(h.kept) == 0 || r < 5 && len(h.kept) < 4:
			h.backUp()
		case r < 8:
			h.spoil()
			h.restore(h.any())
		default:
			h.remove(h.any())
		}
	}
}

// any picks one of the backups that are available.
func (h *tenant) any() (id string) {
	skip := h.random.IntN(len(h.kept))
	for id = range h.kept {
		if skip--; skip < 0 {
			break
		}
	}
	return id
}

func (h *tenant) spoil() {
	seed := h.random.Uint64()
	h.note("vandalised with seed %d", seed)
	if _, err := torture.Vandalise(h.files(), seed, h.changes); err != nil {
		h.errorf("%v", err)
	}
}

// copy changes the files and copies them.
func (h *tenant) copy(golden string) error {
	for range 100 {
		h.spoil()
		if out, err := exec.Command("cp", "-a", h.files(), golden).CombinedOutput(); err != nil {
			return fmt.Errorf("copy: %w: %s", err, out)
		}
		differences, err := torture.Compare(golden, h.files())
		if err != nil || len(differences) == 0 {
			return err
		}
		if err := os.RemoveAll(golden); err != nil { // cp makes holes of zeros that lie beside holes
			return err
		}
	}
	return errors.New("the files cannot be copied as they are")
}

// backUp asks for a backup and waits for its end. Where an answer was lost the backup is looked for by its name.
func (h *tenant) backUp() {
	h.n++
	name := fmt.Sprint(h.share, "-", h.n)
	golden := filepath.Join(h.f.dir, "golden-"+name)
	if err := h.copy(golden); err != nil {
		h.errorf("%v", err)
		return
	}
	status, answer, lost := h.call("POST", "/share-backups", object{"share_backup": object{"share_id": h.share, "name": name}})
	h.note("backup %s is answered with %d, lost %t", name, status, lost)
	var ids []string
	if status == http.StatusAccepted {
		ids = append(ids, answer["share_backup"].(object)["id"].(string))
	} else if !lost {
		h.errorf("a backup is answered with %d: %v", status, answer)
	}
	if lost {
		h.rest("/shares/"+h.share, "share")
		_, found, _ := h.call("GET", "/share-backups?name="+name, nil)
		ids = ids[:0]
		for _, item := range found["share_backups"].([]any) {
			ids = append(ids, item.(object)["id"].(string))
		}
		if len(ids) == 0 && status == http.StatusAccepted {
			h.errorf("backup %s was acknowledged and cannot be found", name)
		}
	}
	for _, id := range ids {
		h.backups.Add(1)
		got := h.rest("/share-backups/"+id, "share_backup")
		h.note("backup %s is %s", id, got)
		switch got {
		case "available":
			h.kept[id] = golden
		case "error": // which an outage may lead to, and has to be said
			h.failed.Add(1)
			h.kept[id] = ""
			h.remove(id)
		default:
			h.errorf("backup %s was acknowledged and is %q", id, got)
		}
	}
	h.rest("/shares/"+h.share, "share")
}

// restore restores a backup and compares the files.
func (h *tenant) restore(id string) {
	for range 5 { // failures, which an outage may lead to
		status, answer, lost := h.call("POST", "/share-backups/"+id+"/action", object{"restore": nil})
		if status != http.StatusAccepted && !lost {
			h.errorf("restoring %s is answered with %d: %v", id, status, answer)
			return
		}
		h.note("restore of %s is answered with %d, lost %t", id, status, lost)
		share, backup := h.rest("/shares/"+h.share, "share"), h.rest("/share-backups/"+id, "share_backup")
		h.note("share is %s, backup is %s", share, backup)
		if share == "backup_restoring_error" || status != http.StatusAccepted {
			h.failed.Add(1)
			continue
		}
		if share != "available" || backup != "available" {
			h.errorf("after a restore of %s they are %q and %q", id, share, backup)
			return
		}
		h.restores.Add(1)
		differences, err := torture.Compare(h.kept[id], h.files())
		if err != nil || len(differences) > 0 {
			h.errorf("restored from %s: %v %q", id, err, differences)
		}
		return
	}
	h.errorf("backup %s cannot be restored", id)
}

// remove deletes a backup and waits until it is gone.
func (h *tenant) remove(id string) {
	delete(h.kept, id)
	for range 5 { // failures, which an outage may lead to
		status, answer, lost := h.call("DELETE", "/share-backups/"+id, nil)
		if status != http.StatusAccepted && !lost {
			h.errorf("deleting %s is answered with %d: %v", id, status, answer)
			return
		}
		if h.rest("/share-backups/"+id, "share_backup") == "gone" {
			h.deletes.Add(1)
			h.deleted = append(h.deleted, id)
			return
		}
		h.failed.Add(1)
	}
	h.errorf("backup %s cannot be deleted", id)
}

// check looks at everything that the tenant has been told.
func (h *tenant) check() {
	for _, id := range h.deleted {
		if status, _, _ := h.call("GET", "/share-backups/"+id, nil); status != http.StatusNotFound {
			h.errorf("%s was deleted and is answered with %d", id, status)
		}
	}
	there := map[string]bool{}
	for _, b := range h.list("/share-backups/detail", "share_backups") {
		if b["share_id"] == h.share {
			there[b["id"].(string)] = true
		}
	}
	for id := range h.kept {
		if !there[id] {
			h.errorf("backup %s was available and is gone", id)
			continue
		}
		delete(there, id)
		h.spoil()
		h.restore(id)
	}
	for id := range there {
		h.errorf("there is a backup %s that nobody has", id)
	}
}
