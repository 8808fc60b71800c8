package scale

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// slower is how much longer the last page may take than the first before that is a violation; both take about a millisecond.
const slower = 3

// longLists fills a project with backups and compares its first page with its last, and with one that is filtered.
func longLists(t *testing.T, f *fleet) {
	rows := size(t, "ROWS")
	c := f.client("long")
	h := newTenant(f, "long", 1, new(tally))
	h.backUp()
	fill := func(from, to int) {
		f.exec(fmt.Sprintf(`INSERT INTO share_backups (id, project_id, user_id, share_id, size, display_name, with_options, zone, host, topic, status, progress, ref, created_at)
			SELECT gen_random_uuid()::text, project_id, user_id, share_id, size, 'backup-' || n, with_options, zone, host, topic, status, progress, 'none-' || n, created_at + n
			FROM share_backups, generate_series(%d, %d) n WHERE project_id = 'long' AND ref NOT LIKE 'none-%%'`, from, to))
	}
	fill(1, 50)
	few := least(c, "/share-backups/detail?limit=50")
	fill(51, rows)
	f.exec(`ANALYZE share_backups`)
	if n := f.query(`SELECT count(*) FROM share_backups WHERE project_id = 'long'`); n != rows+1 {
		t.Fatalf("there are %d rows", n)
	}
	for _, sort := range []string{"created_at", "name", "size", "status"} {
		order := "/share-backups/detail?limit=50&sort_key=" + sort + "&sort_dir="
		_, end, _ := c.call("GET", order+"desc", nil)
		page := end["share_backups"].([]any)
		if len(page) != 50 {
			t.Fatalf("a page has %d backups", len(page))
		}
		first, last := least(c, order+"asc"), least(c, order+"asc&marker="+page[49].(object)["id"].(string))
		judge(t, fmt.Sprintf("%d backups by %s: first page, last page", rows, sort), first, last)
	}
	first := least(c, "/share-backups/detail?limit=50")
	judge(t, fmt.Sprintf("a page among 51 and among %d", rows), few, first)
	_, found, _ := c.call("GET", fmt.Sprintf("/share-backups/detail?limit=50&name=backup-%d", rows), nil)
	if n := len(found["share_backups"].([]any)); n != 1 {
		t.Errorf("%d backups are found by a name", n)
	}
	judge(t, "first page, and one found by its name", first, least(c, fmt.Sprintf("/share-backups/detail?limit=50&name=backup-%d", rows)))
	f.exec(`DELETE FROM share_backups WHERE project_id = 'long' AND ref LIKE 'none-%'`)
	f.settled([]string{"long"})
}

// least is the shortest time that a request takes, of 41: what it costs without what else the machine does.
func least(c *client, path string) time.Duration {
	shortest := patience
	for range 41 {
		began := time.Now()
		c.call("GET", path, nil)
		shortest = min(shortest, time.Since(began))
	}
	return shortest
}

func judge(t *testing.T, what string, first, last time.Duration) {
	t.Helper()
	ratio := float64(last) / float64(first)
	report("%s: %.1f ms, %.1f ms, ratio %.2f", what, first.Seconds()*1000, last.Seconds()*1000, ratio)
	if ratio > slower {
		t.Errorf("%s: the ratio is %.2f", what, ratio)
	}
}

// damageByHand flips a byte of a pack in the bucket: it is found, all other projects are well, and the next backup mends it.
func damageByHand(t *testing.T, f *fleet) {
	h, other := newTenant(f, "damaged", 7, new(tally)), newTenant(f, "sound", 8, new(tally))
	must(t, os.WriteFile(h.files()+"/large", randomBytes(4<<20), 0o600))
	h.changes = 0
	h.backUp()
	other.backUp()
	if t.Failed() {
		return
	}
	must(t, flip(filepath.Join(f.bucket.Dir, "abaca", "damaged")))
	well, said := f.verify()
	if well || !strings.Contains(said, "backup "+h.share+"-1: \"large\"") || !strings.Contains(said, "abaca: 1 of") {
		t.Fatalf("damage is not told: %t %s", well, said)
	}
	for _, m := range f.workers { // none of which has anything of it in memory
		m.crash(0)
	}
	h.backUp() // of the same files, of which what was damaged is read anew
	h.changes = 8
	if well, said = f.verify(); !well {
		t.Errorf("after the next backup: %s", said)
	}
	for id := range h.kept {
		h.spoil()
		h.restore(id)
	}
	other.check()
	f.settled([]string{"damaged", "sound"})
	report("a flipped byte was found, named and mended by the next backup; %d backups of it restored equal", len(h.kept))
}

// flip changes a byte in the middle of the largest pack of contents below a directory; to Kopia their names begin with p.
func flip(dir string) error {
	var largest string
	var size int64
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || !strings.HasPrefix(d.Name(), "p") {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() > size {
			largest, size = path, info.Size()
		}
		return err
	})
	if err != nil {
		return err
	}
	if largest == "" {
		return errors.New("there is no pack below " + dir)
	}
	file, err := os.OpenFile(largest, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	b := make([]byte, 1)
	if _, err := file.ReadAt(b, size/2); err != nil {
		return err
	}
	_, err = file.WriteAt([]byte{b[0] ^ 1}, size/2)
	return err
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}
