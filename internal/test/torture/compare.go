package torture

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// Compare tells in words how the tree at got differs from the one at want: names as bytes, types, modes, owners,
// times to the nanosecond (the root's too), extended attributes and ACLs, which names are one inode, device numbers,
// holes and content. Access, change and birth times are no part of it. None means equal.
func Compare(want, got string) (differences []string, err error) {
	w, err := scan(want)
	if err != nil {
		return nil, err
	}
	g, err := scan(got)
	if err != nil {
		return nil, err
	}
	for _, path := range slices.Sorted(maps.Keys(w)) {
		other, ok := g[path]
		if !ok {
			differences = append(differences, fmt.Sprintf("%q is missing", shorten(path)))
			continue
		}
		for _, d := range w[path].differences(other) {
			differences = append(differences, fmt.Sprintf("%q %s", shorten(path), d))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(g)) {
		if _, ok := w[path]; !ok {
			differences = append(differences, fmt.Sprintf("%q is extra", shorten(path)))
		}
	}
	return differences, nil
}

func shorten(path string) string {
	if len(path) <= 200 {
		return path
	}
	return fmt.Sprintf("%s…(%d bytes)…%s", path[:80], len(path), path[len(path)-80:])
}

func (r record) differences(o record) (d []string) {
	differ := func(what string, want, got any) {
		if want != got {
			d = append(d, fmt.Sprintf("has %s %v, want %v", what, got, want))
		}
	}
	if r.stat.Type() != o.stat.Type() {
		return []string{fmt.Sprintf("has type %o, want %o", o.stat.Type(), r.stat.Type())}
	}
	differ("mode", fmt.Sprintf("%04o", r.stat.Perm()), fmt.Sprintf("%04o", o.stat.Perm()))
	differ("owner", [2]uint32{r.stat.UID, r.stat.GID}, [2]uint32{o.stat.UID, o.stat.GID})
	differ("time", r.stat.Mtime, o.stat.Mtime)
	if r.stat.Type() != unix.S_IFDIR {
		differ("size", r.stat.Size, o.stat.Size)
		differ("link count", r.stat.Nlink, o.stat.Nlink)
		differ("device number", r.stat.Rdev, o.stat.Rdev)
	}
	differ("first link", shorten(r.leader), shorten(o.leader))
	differ("target", r.target, o.target)
	differ("data ranges", r.extents, o.extents)
	if r.content != o.content {
		d = append(d, "has other content")
	}
	return append(d, attrDifferences(r.attrs, o.attrs)...)
}

func attrDifferences(want, got []posix.Attr) (d []string) {
	have := map[string][]byte{}
	for _, a := range got {
		have[a.Name] = a.Value
	}
	for _, a := range want {
		value, ok := have[a.Name]
		delete(have, a.Name)
		if !ok {
			d = append(d, fmt.Sprintf("lacks attribute %q", a.Name))
		} else if !bytes.Equal(value, a.Value) {
			d = append(d, fmt.Sprintf("has attribute %q = %.40q, want %.40q", a.Name, value, a.Value))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(have)) {
		d = append(d, fmt.Sprintf("has an extra attribute %q", name))
	}
	return d
}
