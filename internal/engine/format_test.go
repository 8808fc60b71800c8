package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"

	"abaca/internal/posix"
	"github.com/kopia/kopia/snapshot"
)

func someObject(t testing.TB, s string) object.ID {
	t.Helper()
	id, err := object.ParseID(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// oddEntries has one entry for everything that the format can say, sorted by name.
func oddEntries(t testing.TB) []entry {
	file, dir := someObject(t, "00112233445566778899aabbccddeeff"), someObject(t, "Ikff112233445566778899aabbccddeeff")
	return []entry{
		{name: "\n\t\"\\ control", kind: kindFile, mode: 0o644, nlink: 1, size: 5, object: file, mtime: posix.Time{Sec: 1, Nsec: 2}},
		{name: "bad\xfe", kind: kindFile, mode: 0, nlink: 1, object: file, ino: 1<<64 - 1, ctime: posix.Time{Sec: -5, Nsec: 999999999}},
		{name: "bad\xff", kind: kindFile, mode: 0o7777, nlink: 3, scope: 9, object: file, mark: markChanged},
		{name: "block", kind: kindBlock, nlink: 1, major: 7, minor: 1 << 20, object: file},
		{name: "char", kind: kindChar, nlink: 1, object: file},
		{name: "directory", kind: kindDir, mode: 0o1755, nlink: 1, object: dir, mtime: posix.Time{Sec: -1, Nsec: 5}, totals: totals{1, 2, 3, 4, 5}},
		{name: "fifo", kind: kindFIFO, nlink: 1, object: file},
		{name: "future", kind: kindFile, nlink: 1, object: file, mtime: posix.Time{Sec: 1 << 40, Nsec: 1}, flags: flagImmutable | flagAppendOnly},
		{name: "link", kind: kindSymlink, mode: 0o777, nlink: 1, size: 4, object: file, target: "\xff\n/x"},
		{name: "past", kind: kindFile, nlink: 1, object: file, mtime: posix.Time{Sec: -1 << 40, Nsec: 999999999}},
		{name: "socket", kind: kindSocket, uid: 1<<32 - 1, gid: 1<<32 - 2, nlink: 1, object: file},
		{name: "x.abaca-name", kind: kindFile, nlink: 1, object: file, xattrs: []posix.Attr{{Name: "user.a", Value: []byte{0, 1}}, {Name: "user.b\xff", Value: []byte{}}}},
		{name: "x.kopia-entry", kind: kindFile, nlink: 1, object: file, mark: markUnreadable},
		{name: "ümlaut\u2028\ufffd", kind: kindFile, nlink: 1, object: file},
	}
}

func encodeDir(t testing.TB, self *entry, entries []entry, sum totals, mtime posix.Time) []byte {
	t.Helper()
	var out bytes.Buffer
	enc := newDirEncoder(&out, header{self: self})
	for i := range entries {
		if err := enc.add(&entries[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.close(sum, mtime); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func decodeDir(raw []byte) (header, []entry, totals, error) {
	dec, err := newDirDecoder(bytes.NewReader(raw))
	if err != nil {
		return header{}, nil, totals{}, err
	}
	var entries []entry
	for {
		var e entry
		if err := dec.next(&e); errors.Is(err, io.EOF) {
			return dec.header, entries, dec.totals, nil
		} else if err != nil {
			return header{}, nil, totals{}, err
		}
		entries = append(entries, e)
	}
}

func TestADirectoryObjectIsReadAsItWasWritten(t *testing.T) {
	t.Parallel()
	want := oddEntries(t)
	self := &entry{name: "root", kind: kindDir, nlink: 1, object: someObject(t, "k00"), mode: 0o2750, xattrs: []posix.Attr{{Name: "user.r", Value: []byte("v")}}}
	sum := totals{bytes: 10, files: 11, symlinks: 12, dirs: 13, marked: 14}
	h, got, gotSum, err := decodeDir(encodeDir(t, self, want, sum, posix.Time{Sec: 3, Nsec: 4}))
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(h.self, self) {
		t.Errorf("self: got %+v, want %+v", h.self, self)
	}
	if gotSum != sum {
		t.Errorf("totals: got %+v, want %+v", gotSum, sum)
	}
	if len(got) != len(want) {
		t.Fatalf("got %d entries, want %d", len(got), len(want))
	}
	for i := range want {
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("got  %+v\nwant %+v", got[i], want[i])
		}
	}
}

func TestStockKopiaReadsADirectoryObject(t *testing.T) {
	t.Parallel()
	want := oddEntries(t)
	raw := encodeDir(t, nil, want, totals{files: 1}, posix.Time{Sec: 3, Nsec: 4})
	var stock snapshot.DirManifest
	if err := json.Unmarshal(raw, &stock); err != nil {
		t.Fatal(err)
	}
	if stock.StreamType != streamDirectory || len(stock.Entries) != len(want) {
		t.Fatalf("stream %q with %d entries", stock.StreamType, len(stock.Entries))
	}
	seen := map[string]bool{}
	for i, s := range stock.Entries {
		e := &want[i]
		if seen[s.Name] || len(s.Name) > 255 {
			t.Errorf("name %q is used twice or too long", s.Name)
		}
		seen[s.Name] = true
		if s.ObjectID != e.object || s.FileSize != e.size || s.UserID != e.uid || s.GroupID != e.gid {
			t.Errorf("%q: got %+v, want %+v", e.name, s, e)
		}
		if unixMode(goMode(e.mode)) != e.mode || uint32(s.Permissions) != uint32(goMode(e.mode)) {
			t.Errorf("%q: mode %o, want %o", e.name, s.Permissions, e.mode)
		}
		if e.name == "directory" && (s.DirSummary == nil || !s.DirSummary.MaxModTime.ToTime().Equal(time.Unix(-1, 5))) {
			t.Errorf("%q: summary %+v does not carry its mtime", e.name, s.DirSummary)
		}
	}
}

func TestNamesThatKopiaCannotKeepGetUniqueStandIns(t *testing.T) {
	t.Parallel()
	names := []string{"a\xff", "a\xfe", "a_", strings.Repeat("\xff", 255), strings.Repeat("ü", 127) + "\xff"}
	plain, _ := stockName("a\xff")
	names = append(names, plain) // a file that is called like the stand-in of another
	seen := map[string]bool{}
	for _, n := range names {
		s, _ := stockName(n)
		if seen[s] || len(s) > 255 {
			t.Errorf("%q becomes %q (%d bytes), which is taken or too long", n, s, len(s))
		}
		seen[s] = true
	}
}

func TestDamagedDirectoryObjectsAreRefused(t *testing.T) {
	t.Parallel()
	good := string(encodeDir(t, nil, oddEntries(t), totals{}, posix.Time{}))
	for name, raw := range map[string]string{
		"empty":                    "",
		"cut off":                  good[:len(good)-20],
		"a later version":          strings.Replace(good, `"v":1`, `"v":2`, 1),
		"a name with a slash":      strings.Replace(good, `"fifo"`, `"../x"`, 1),
		"a name of two dots":       strings.Replace(good, `"name":"block"`, `"name":".."`, 1),
		"names out of order":       strings.Replace(good, `"fifo"`, `"aaaa"`, 1),
		"an entry without object":  strings.Replace(good, `"obj"`, `"odj"`, 1),
		"an unknown type":          strings.Replace(good, `"type":"d"`, `"type":"D"`, 1),
		"a number beyond 64 bits":  strings.Replace(good, `"size":5`, `"size":99999999999999999999`, 1),
		"a string that is not one": strings.Replace(good, `"mtime":"`, `"mtime":`, 1),
	} {
		if raw == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		if _, _, _, err := decodeDir([]byte(raw)); err == nil {
			t.Errorf("%s: read without an error", name)
		}
	}
}

func FuzzDirectoryDecoder(f *testing.F) {
	f.Add(encodeDir(f, nil, oddEntries(f), totals{}, posix.Time{}))
	f.Add(encodeDir(f, &entry{name: "/", kind: kindDir, object: someObject(f, "k00")}, nil, totals{}, posix.Time{}))
	f.Fuzz(func(t *testing.T, raw []byte) {
		h, entries, sum, err := decodeDir(raw)
		if err != nil {
			return
		}
		// What was accepted must survive being written and read again.
		again, _, _, err := decodeDir(encodeDir(t, h.self, nil, sum, posix.Time{}))
		if err != nil || !reflect.DeepEqual(again.self, h.self) {
			t.Fatalf("self %+v became %+v: %v", h.self, again.self, err)
		}
		_, twice, _, err := decodeDir(encodeDir(t, nil, entries, sum, posix.Time{}))
		if err != nil || len(twice) != len(entries) {
			t.Fatalf("%d entries became %d: %v", len(entries), len(twice), err)
		}
	})
}

// chunkList makes an indirect object of chunks that follow each other.
func chunkList(t testing.TB, lengths []int64, holes int) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `{"stream":"kopia:indirect","entries":[`)
	start := int64(0)
	for i, n := range lengths {
		fmt.Fprintf(&b, "%.*s\n"+`{"s":%d,"l":%d,"o":"%v","h":%d}`, min(i, 1), ",", start, n, someObject(t, "00112233445566778899aabbccddeeff"), holes>>i&1)
		start += n
	}
	b.WriteString("\n]}\n")
	return b.Bytes()
}

// A listSource has one object, a list of chunks.
type listSource struct {
	source
	raw []byte
}

type listReader struct{ *bytes.Reader }

func (listReader) Close() error    { return nil }
func (r listReader) Length() int64 { return r.Size() }

func (s listSource) OpenObject(context.Context, object.ID) (object.Reader, error) {
	return listReader{bytes.NewReader(s.raw)}, nil
}

func FuzzChunkList(f *testing.F) {
	f.Add(chunkList(f, []int64{1 << 20, 8 << 20, 5}, 2), int64(1<<20+8<<20+5))
	f.Add(chunkList(f, nil, 0), int64(0))
	f.Add([]byte(`{"stream":"kopia:indirect","entries":[`+"\n"+`{"l":1,"o":"Ix00112233445566778899aabbccddeeff"}`+"\n]}\n"), int64(1))
	list := someObject(f, "Ix00112233445566778899aabbccddeeff")
	f.Fuzz(func(t *testing.T, raw []byte, size int64) {
		if size < 1 {
			return
		}
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		end, chunks := int64(0), 0
		err := chunksOf(ctx, listSource{raw: raw}, &entry{size: size, object: list}, func(c chunk) error {
			if c.start != end || c.length <= 0 || !c.hole && c.id == content.EmptyID {
				t.Fatalf("chunk %+v behind %d", c, end)
			}
			if chunks++; chunks > len(raw) {
				cancel() // a list that contains itself
			}
			end += c.length
			return nil
		})
		if err == nil && end != size {
			t.Fatalf("%d of %d bytes are covered", end, size)
		}
	})
}
