package faultfs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"abaca/internal/test/faultfs"
)

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func sync(t *testing.T, path string) {
	t.Helper()
	f, err := os.Open(path)
	check(t, err)
	check(t, f.Sync(), f.Close())
}

// tree lists what is below dir: names with contents behind an equals sign, directories with a slash.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var all []string
	check(t, filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		name := strings.TrimPrefix(path, dir+"/")
		switch {
		case err != nil || path == dir:
			return err
		case d.IsDir():
			all = append(all, name+"/")
		case d.Type().IsRegular():
			data, err := os.ReadFile(path)
			all = append(all, name+"="+string(data))
			return err
		default:
			all = append(all, name)
		}
		return nil
	}))
	slices.Sort(all)
	return strings.Join(all, " ")
}

func TestAPowerCutTakesWhatWasNotSynced(t *testing.T) {
	for _, test := range []struct {
		says string
		do   func(t *testing.T, dir string)
		left string
		ext4 string // where that is something else
	}{
		{"a file that nobody synced", func(t *testing.T, dir string) {
			check(t, os.WriteFile(dir+"/a", []byte("1"), 0o600))
		}, "", ""},
		{"a file whose name was not", func(t *testing.T, dir string) {
			check(t, os.WriteFile(dir+"/a", []byte("1"), 0o600))
			sync(t, dir+"/a")
		}, "", "a=1"},
		{"the content of a file whose name was", func(t *testing.T, dir string) {
			check(t, os.WriteFile(dir+"/a", []byte("1"), 0o600))
			sync(t, dir)
		}, "a=", ""},
		{"nothing of a file that was with its name", func(t *testing.T, dir string) {
			check(t, os.WriteFile(dir+"/a", []byte("1"), 0o600))
			sync(t, dir+"/a")
			sync(t, dir)
		}, "a=1", ""},
		{"what was written later", func(t *testing.T, dir string) {
			check(t, os.WriteFile(dir+"/a", []byte("1"), 0o600))
			sync(t, dir+"/a")
			sync(t, dir)
			check(t, os.WriteFile(dir+"/a", []byte("22"), 0o600))
		}, "a=1", ""},
		{"a rename", func(t *testing.T, dir string) {
			check(t, os.WriteFile(dir+"/a", []byte("1"), 0o600))
			sync(t, dir+"/a")
			sync(t, dir)
			check(t, os.Rename(dir+"/a", dir+"/b"))
		}, "a=1", ""},
		{"a removal", func(t *testing.T, dir string) {
			check(t, os.WriteFile(dir+"/a", []byte("1"), 0o600))
			sync(t, dir+"/a")
			sync(t, dir)
			check(t, os.Remove(dir+"/a"))
		}, "a=1", ""},
		{"a directory, with what is in it", func(t *testing.T, dir string) {
			check(t, os.Mkdir(dir+"/d", 0o700), os.WriteFile(dir+"/d/a", []byte("1"), 0o600))
			sync(t, dir+"/d/a")
			sync(t, dir+"/d")
		}, "", "d/ d/a=1"},
		{"neither half of a rename between directories that one of them was synced after", func(t *testing.T, dir string) {
			check(t, os.Mkdir(dir+"/d", 0o700), os.Mkdir(dir+"/e", 0o700), os.WriteFile(dir+"/d/a", []byte("1"), 0o600))
			sync(t, dir+"/d/a")
			sync(t, dir+"/d")
			sync(t, dir)
			check(t, os.Rename(dir+"/d/a", dir+"/e/a"))
			sync(t, dir+"/d")
		}, "d/ e/ e/a=1", ""},
		{"nothing that was written to be durable", func(t *testing.T, dir string) {
			f, err := os.OpenFile(dir+"/a", os.O_CREATE|os.O_WRONLY|syscall.O_DSYNC, 0o600)
			check(t, err)
			_, err = f.WriteString("1")
			check(t, err, f.Close())
			sync(t, dir)
		}, "a=1", ""},
	} {
		for _, ext4 := range []bool{false, true} {
			name, want, options := test.says, test.left, []faultfs.Option(nil)
			if ext4 {
				name, options = name+", on ext4", []faultfs.Option{faultfs.Ext4}
				if test.ext4 != "" {
					want = test.ext4
				}
			}
			t.Run(name, func(t *testing.T) {
				fs := faultfs.Mount(t, options...)
				test.do(t, fs.Dir)
				before := tree(t, fs.Dir)
				fs.Cut()
				if _, err := os.ReadDir(fs.Dir); !errors.Is(err, syscall.EIO) {
					t.Errorf("after the cut: %v", err)
				}
				fs.Restore(faultfs.All, 1)
				if got := tree(t, fs.Dir); got != want {
					t.Errorf("of %q there is %q, want %q", before, got, want)
				}
			})
		}
	}
}

func TestASeedDecidesWhatIsLost(t *testing.T) {
	after := func(loss faultfs.Loss, seed uint64) string {
		fs := faultfs.Mount(t)
		check(t, os.WriteFile(fs.Dir+"/log", []byte("kept"), 0o600))
		sync(t, fs.Dir+"/log")
		sync(t, fs.Dir)
		f, err := os.OpenFile(fs.Dir+"/log", os.O_WRONLY|os.O_APPEND, 0)
		check(t, err)
		for range 8 {
			_, err := f.WriteString("12345678")
			check(t, err)
		}
		check(t, f.Close())
		for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
			check(t, os.WriteFile(filepath.Join(fs.Dir, name), nil, 0o600))
		}
		fs.Cut()
		fs.Restore(loss, seed)
		return tree(t, fs.Dir)
	}
	for _, loss := range faultfs.Losses() {
		t.Run(loss.String(), func(t *testing.T) {
			seen := map[string]bool{}
			for seed := range uint64(6) {
				got := after(loss, seed)
				if again := after(loss, seed); again != got {
					t.Errorf("seed %d leaves %q, and then %q", seed, got, again)
				}
				if !strings.Contains(got, "log=kept") {
					t.Errorf("what was durable is gone: %q", got)
				}
				seen[got] = true
			}
			if loss == faultfs.All && len(seen) != 1 || loss != faultfs.All && len(seen) < 3 {
				t.Errorf("six seeds leave %d different trees", len(seen))
			}
		})
	}
}

func TestThePowerFailsAtASync(t *testing.T) {
	fs := faultfs.Mount(t)
	check(t, os.WriteFile(fs.Dir+"/a", []byte("1"), 0o600))
	sync(t, fs.Dir+"/a")
	failed := fs.CutAfter(1)
	d, err := os.Open(fs.Dir)
	check(t, err)
	if err := d.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("the sync: %v", err)
	}
	d.Close()
	<-failed
	fs.Restore(faultfs.All, 1)
	if got := tree(t, fs.Dir); got != "" {
		t.Errorf("the sync that failed made %q durable", got)
	}
}
