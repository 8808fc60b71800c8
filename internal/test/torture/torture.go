// Package torture makes trees that are hard to keep, spoils them, and compares two of them in every field.
package torture

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"abaca/internal/posix"
)

// Plant fills the empty directory root with one of everything that backup programs lose: see the functions that it
// calls. Whatever this kernel, file system or user does not allow is left out and named in missing, with the reason.
// Apart from that the tree is the same each time.
func Plant(root string) (missing []string, err error) {
	p := &planter{root: root, random: rand.NewChaCha8([32]byte{'a', 'b', 'a', 'c', 'a'})}
	for _, plant := range []func(){
		p.names, p.depths, p.contents, p.holes, p.links, p.specials, p.modes, p.attributes, p.crowd, p.times,
	} {
		plant()
	}
	return p.missing, p.err
}

// A planter makes entries until the first error that is not the environment's.
type planter struct {
	root    string
	random  *rand.ChaCha8
	missing []string
	err     error
}

func (p *planter) path(name string) string { return filepath.Join(p.root, name) }

// do keeps the first error.
func (p *planter) do(what string, err error) {
	if err != nil && p.err == nil {
		p.err = fmt.Errorf("plant %s: %w", what, err)
	}
}

// allow is do for what needs privileges or an able file system.
func (p *planter) allow(what string, err error) bool {
	for _, lack := range []error{unix.EPERM, unix.EACCES, unix.EOPNOTSUPP, unix.ENOSYS, unix.EFBIG, unix.ENOSPC} {
		if errors.Is(err, lack) {
			p.missing = append(p.missing, fmt.Sprintf("%s: %v", what, err))
			return false
		}
	}
	p.do(what, err)
	return err == nil
}

func (p *planter) dir(name string) { p.do(name, os.MkdirAll(p.path(name), 0o755)) }

func (p *planter) file(name string, content []byte) {
	p.do(name, os.WriteFile(p.path(name), content, 0o644))
}

func (p *planter) noise(n int) []byte {
	b := make([]byte, n)
	p.random.Read(b)
	return b
}

// names: bytes that JSON, terminals, shells and Kopia's own conventions stumble over.
func (p *planter) names() {
	p.dir("names")
	for _, name := range []string{
		"a", " ", "trailing ", "-rf", "*", "'\"`$", `back\slash`, "new\nline", "\n", "tab\t", "\x01\x1b[31m\x7f", "<&>", "%2f",
		"...", "..a", "~", "bad\xff", "bad\xfe", "bad\uFFFD", "\xff", "\xc3", "\xed\xa0\x80", "é", "e\u0301", "\u2028", "日本語", "🦊",
		"a.kopia-entry", "x.kopia-entry", ".kopiaignore", ".kopia-entry", "ten\xff.kopia-entry", "CACHEDIR.TAG", "lost+found", ".nfs0000",
		".abaca", ".abaca-restore-1", strings.Repeat("x", 255), strings.Repeat("ä", 127), strings.Repeat("\xff", 255),
	} {
		if name == "x.kopia-entry" || name == "lost+found" {
			p.dir("names/" + name)
			p.file("names/"+name+"/inside", []byte(name))
			continue
		}
		p.file("names/"+name, []byte(name))
	}
	p.file("names/.kopiaignore", []byte("*\n"))
	for _, dir := range []string{"dir\xff", "dir\xfe", "dir\nline"} {
		p.dir("names/" + dir)
		p.file("names/"+dir+"/f\xfd", []byte(dir))
	}
	p.dir("lost+found")
	p.file("lost+found/found", []byte("kept, since this is no file system's root"))
}

// depths: a path longer than PATH_MAX, and two thousand levels.
func (p *planter) depths() {
	p.chain("long", strings.Repeat("d", 250), 20)
	p.chain("deep", "d", 2000)
	p.dir("empty/also-empty")
}

func (p *planter) chain(top, name string, levels int) {
	p.dir(top)
	at, err := unix.Open(p.path(top), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	for range levels {
		if err != nil {
			break
		}
		var next int
		if err = posix.Mkdir(at, name, 0o755); err == nil {
			next, err = posix.OpenDir(at, name)
		}
		unix.Close(at)
		at = next
	}
	if err == nil {
		var fd int
		if fd, err = posix.Create(at, "bottom", 0o644); err == nil {
			err = posix.WriteAt(fd, []byte("bottom"), 0)
			unix.Close(fd)
		}
		unix.Close(at)
	}
	p.do(top, err)
}

// contents: sizes around the limits of blocks, buffers and chunks; what compresses, what does not, what repeats.
func (p *planter) contents() {
	p.dir("contents")
	for _, size := range []int{0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 512<<10 - 1, 512 << 10, 512<<10 + 1, 3<<20 + 7} {
		p.file(fmt.Sprintf("contents/noise-%d", size), p.noise(size))
	}
	p.file("contents/text", bytes.Repeat([]byte("the quick brown fox\n"), 100_000))
	p.file("contents/zeros", make([]byte, 9<<20)) // allocated: not to become a hole
	once := p.noise(6 << 20)
	p.file("contents/repeats", append(append(append([]byte("shift"), once...), once...), once[:1<<20]...))
}

// holes: at the start, in the middle, at the end, everywhere; where zeros are written beside them they are kept apart.
func (p *planter) holes() {
	p.dir("holes")
	block := p.noise(4096)
	for _, f := range []struct {
		name string
		size int64
		data []int64 // offsets of blocks
	}{
		{"tebibyte", 1 << 40, []int64{1 << 39}},
		{"only", 64 << 20, nil},
		{"small", 8192, nil},
		{"odd", 100_001, nil},
		{"start", 64<<20 + 4096, []int64{64 << 20}},
		{"end", 64 << 20, []int64{0}},
		{"striped", 1 << 20, []int64{0, 64 << 10, 256 << 10, 512 << 10}},
	} {
		fd, err := os.Create(p.path("holes/" + f.name))
		if err == nil {
			if err = fd.Truncate(f.size); err == nil {
				for _, off := range f.data {
					_, err = fd.WriteAt(block, off)
				}
			}
			fd.Close()
		}
		if !p.allow("holes/"+f.name, err) {
			os.Remove(p.path("holes/" + f.name))
		}
	}
	written := append(make([]byte, 1<<20), block...)
	p.file("holes/written-zeros", written)
	p.do("holes/written-zeros", os.Truncate(p.path("holes/written-zeros"), 4<<20))
}

// links: hard links in one and across directories, of files, links and FIFOs; symbolic links of all sorts.
func (p *planter) links() {
	p.dir("links/a/b")
	p.dir("links/z")
	p.file("links/file", []byte("one inode"))
	p.file("links/big", p.noise(1<<20))
	for target, name := range map[string]string{
		"dangling": "../nowhere", "absolute": "/etc/passwd", "up": "../../../../..", "self": "self", "bytes": "\xff\n\xfe",
		"long": strings.Repeat("t", 4095), "dir": "a", "mid": strings.Repeat("m", 61),
	} {
		p.do(target, os.Symlink(name, p.path("links/"+target)))
	}
	p.do("FIFO", unix.Mkfifo(p.path("links/fifo"), 0o600))
	for _, link := range [][2]string{
		{"file", "file-again"}, {"file", "a/b/file"}, {"file", "z/file"}, {"big", "a/big"},
		{"dangling", "z/dangling"}, {"fifo", "z/fifo"},
	} {
		p.allow("hard link "+link[1], os.Link(p.path("links/"+link[0]), p.path("links/"+link[1])))
	}
}

// specials: what is neither file, directory nor link.
func (p *planter) specials() {
	p.dir("specials")
	for _, s := range []struct {
		name string
		mode uint32
		dev  uint64
	}{
		{"fifo", unix.S_IFIFO | 0o640, 0},
		{"socket", unix.S_IFSOCK | 0o755, 0},
		{"null", unix.S_IFCHR | 0o666, unix.Mkdev(1, 3)},
		{"large-numbers", unix.S_IFCHR | 0o600, unix.Mkdev(4095, 1048575)},
		{"whiteout", unix.S_IFCHR, unix.Mkdev(0, 0)},
		{"block", unix.S_IFBLK | 0o660, unix.Mkdev(7, 200)},
	} {
		p.allow(s.name, unix.Mknod(p.path("specials/"+s.name), s.mode, int(s.dev)))
	}
}

// modes: every special bit, modes that lock their owner out, owners by number.
func (p *planter) modes() {
	p.dir("modes")
	files, dirs := []uint32{0o400, 0o777, 0o4755, 0o2755, 0o6711, 0o1644, 0o7777}, []uint32{0o1777, 0o2775, 0o700}
	if os.Getuid() == 0 { // an ordinary user could neither read nor remove these
		files, dirs = append(files, 0), append(dirs, 0, 0o500)
	} else {
		p.missing = append(p.missing, "modes that lock their owner out: not privileged")
	}
	for _, mode := range files {
		name := fmt.Sprintf("modes/file-%04o", mode)
		p.file(name, []byte(name))
		p.do(name, unix.Chmod(p.path(name), mode))
	}
	for _, mode := range dirs {
		name := fmt.Sprintf("modes/dir-%04o", mode)
		p.dir(name)
		p.file(name+"/inside", nil)
		p.do(name, unix.Chmod(p.path(name), mode))
	}
	p.file("modes/owned", nil)
	p.file("modes/owned-setuid", nil)
	p.dir("modes/owned-dir")
	p.do("owned-link", os.Symlink("x", p.path("modes/owned-link")))
	for name, uid := range map[string]int{"owned": 12345, "owned-setuid": 4294967294, "owned-dir": 65534, "owned-link": 54321} {
		p.allow("owner of "+name, unix.Lchown(p.path("modes/"+name), uid, uid-1))
	}
	p.do("owned-setuid", unix.Chmod(p.path("modes/owned-setuid"), 0o6755))
}

// attributes: all name spaces, on files, directories and links; ACLs; a capability; values that are empty or binary.
func (p *planter) attributes() {
	p.dir("attributes/dir")
	p.file("attributes/file", []byte("with attributes"))
	p.file("attributes/bare", nil)
	p.file("attributes/acl", nil)
	p.file("attributes/capable", []byte("#!"))
	p.do("link", os.Symlink("file", p.path("attributes/link")))
	p.do("fifo", unix.Mkfifo(p.path("attributes/fifo"), 0o644))
	capability := append(binary.LittleEndian.AppendUint32(nil, 0x02000001), make([]byte, 16)...)
	capability[5] = 0x04 // CAP_NET_BIND_SERVICE, effective
	for _, a := range []struct {
		on, name string
		value    []byte
	}{
		{"file", "user.text", []byte("value")}, {"file", "user.empty", nil}, {"file", "user.binary", []byte{0, 255, '\n', 0}},
		{"file", "user.bad\xff", []byte("name")}, {"file", "user.large", p.noise(2000)}, {"file", "trusted.overlay", []byte("t")},
		{"dir", "user.dir", []byte("d")}, {"dir", "trusted.dir", []byte("d")}, {"link", "trusted.link", []byte("l")}, {"fifo", "trusted.fifo", []byte("p")},
		{"capable", "security.capability", capability}, {"file", "security.other", []byte("o")},
		{"acl", "system.posix_acl_access", acl(6, 12345)}, {"dir", "system.posix_acl_access", acl(7, 12345)},
		{"dir", "system.posix_acl_default", acl(5, 54321)},
	} {
		p.allow(a.name+" on "+a.on, unix.Lsetxattr(p.path("attributes/"+a.on), a.name, a.value, 0))
	}
	p.file("attributes/dir/inherits", nil) // takes its ACL from the default
	p.do("capable", unix.Chmod(p.path("attributes/dir/inherits"), 0o600))
}

// acl is a POSIX ACL as the kernel takes it: one named user beside owner, group, mask and others.
func acl(perm uint16, uid uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, 2)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{{0x01, 7, ^uint32(0)}, {0x02, perm, uid}, {0x04, 5, ^uint32(0)}, {0x10, 7, ^uint32(0)}, {0x20, 1, ^uint32(0)}} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// crowd: more entries than one buffer of directory entries holds.
func (p *planter) crowd() {
	p.dir("crowd")
	for i := range 2500 {
		p.file(fmt.Sprintf("crowd/%05d", i*7919%100000), fmt.Appendf(nil, "%d", i%100))
	}
}

// times: before 1970 and far ahead; then a time of its own for everything, last of all the root.
func (p *planter) times() {
	p.dir("times/dir")
	instants := []time.Time{
		time.Unix(0, 0), time.Unix(0, 1), time.Unix(-1, 999999999), time.Date(1931, 3, 4, 5, 6, 7, 123456789, time.UTC),
		time.Date(2038, 1, 19, 3, 14, 8, 1, time.UTC), time.Date(2400, 1, 1, 0, 0, 0, 5, time.UTC),
	}
	for i, at := range instants {
		file, link := fmt.Sprintf("times/%d-timed", i), fmt.Sprintf("times/%d-timed-link", i)
		p.file(file, nil)
		p.do(link, os.Symlink("x", p.path(link)))
		for _, name := range []string{file, link} {
			ts := []unix.Timespec{{}, {Sec: at.Unix(), Nsec: int64(at.Nanosecond())}}
			p.do(name, unix.UtimesNanoAt(unix.AT_FDCWD, p.path(name), ts, unix.AT_SYMLINK_NOFOLLOW))
		}
	}
	if p.err != nil {
		return
	}
	fd, err := unix.Open(p.root, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		defer unix.Close(fd)
		_, err = age(fd, 0)
	}
	p.do("times", err)
}

// age gives each entry, from the bottom up, a time of its own, before 1970 for some. It returns how many it has seen.
func age(dir int, n int64) (int64, error) {
	names, err := list(dir)
	if err != nil {
		return n, err
	}
	for _, name := range names {
		child, err := posix.OpenDir(dir, name)
		switch {
		case err == nil:
			n, err = age(child, n)
			unix.Close(child)
		case name[0] >= '0' && name[0] <= '9' && strings.Contains(name, "-timed"):
			err = nil // has its time
		default:
			n++
			err = posix.SetMtimeAt(dir, name, instant(n))
		}
		if err != nil {
			return n, err
		}
	}
	n++
	return n, posix.SetMtime(dir, instant(n))
}

func instant(n int64) posix.Time {
	sec := 1_000_000_000 + n*86_411
	if n%2 == 0 {
		sec = -n * 10_007
	}
	return posix.Time{Sec: sec, Nsec: uint32(n * 7919 % 1_000_000_000)}
}
