package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A set is a kind of tree to measure with.
type set struct {
	name     string
	about    string
	cold     bool // whether first backups begin with empty caches of the kernel
	generate func(ctx context.Context, dir string, scale float64, c *content) error
}

// allSets are the sets at scale 1.
var allSets = []set{
	{name: "large", about: "16 files of 256 MiB, half noise and half text, every fourth with four unaligned regions of its predecessor", generate: generateLarge},
	{name: "small", about: "200 000 files of 0 to 64 KiB, log-normal with a mean of 8 KB, 70 % text, 3 % duplicates, in 2 020 directories", generate: generateSmall},
	{name: "source", about: "up to 100 000 files of Go's own source and of the modules in the Go module cache", generate: generateSource},
	{name: "million", about: "1 000 000 files of 100 bytes in 2 020 directories", cold: true, generate: generateMillion},
}

func findSet(name string) (set, error) {
	for _, s := range allSets {
		if s.name == name {
			return s, nil
		}
	}
	return set{}, fmt.Errorf("no set %q", name)
}

func chooseSets(names []string) (chosen []set, err error) {
	for _, name := range names {
		s, err := findSet(name)
		if err != nil {
			return nil, err
		}
		chosen = append(chosen, s)
	}
	return chosen, nil
}

// generate makes req.Set in the directory req.Tree and tells its size.
func generate(ctx context.Context, req request) (string, error) {
	s, err := findSet(req.Set)
	if err != nil {
		return "", err
	}
	if err := s.generate(ctx, req.Tree, req.Scale, newContent(req.Seed)); err != nil {
		return "", err
	}
	files, bytes := 0, int64(0)
	err = filepath.WalkDir(req.Tree, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			files, bytes = files+1, bytes+info.Size()
		}
		return err
	})
	return fmt.Sprintf("%d files, %.0f MB", files, float64(bytes)/1e6), err
}

func generateLarge(ctx context.Context, dir string, scale float64, c *content) error {
	const files, regions = 16, 4
	length := int64(scale * (256 << 20))
	buf := make([]byte, 1<<20)
	var before *os.File
	for i := range files {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("%02d.bin", i)))
		if err != nil {
			return err
		}
		defer f.Close()
		for done := int64(0); done < length; done += int64(len(buf)) {
			piece := buf[:min(length-done, int64(len(buf)))]
			c.fill(piece, i%4 >= 2) // so that the repeated regions are of both kinds, over 00 to 15
			if _, err := f.Write(piece); err != nil {
				return err
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		for range regions {
			if i%4 != 3 {
				break
			}
			n := length / 16
			from := io.NewSectionReader(before, c.pick.Int64N(length-n), n)
			if _, err := io.Copy(io.NewOffsetWriter(f, c.pick.Int64N(length-n)), from); err != nil {
				return err
			}
		}
		before = f
	}
	return nil
}

// Small files lie in 20 directories and the 100 directories in each of these.
const (
	tops = 20
	subs = 100
)

// makeDirs makes the directories of small files and returns where the i-th file belongs.
func makeDirs(dir string, scale float64) (place func(i int) string, err error) {
	subs := max(1, int(math.Ceil(subs*scale)))
	for i := range tops * subs {
		if err := os.MkdirAll(filepath.Join(dir, fmt.Sprintf("a%02d/b%02d", i%tops, i/tops)), 0o755); err != nil {
			return nil, err
		}
	}
	return func(i int) string {
		return filepath.Join(dir, fmt.Sprintf("a%02d/b%02d/f%07d", i%tops, i/tops%subs, i))
	}, nil
}

func generateSmall(ctx context.Context, dir string, scale float64, c *content) error {
	place, err := makeDirs(dir, scale)
	if err != nil {
		return err
	}
	var buf [64 << 10]byte
	length := 0
	for i := range int(200_000 * scale) {
		if i == 0 || c.pick.Float64() >= 0.03 { // else it is the file before once more
			mean := math.Log(8192) - 0.5 // which makes the mean of the distribution 8192 with a deviation of 1
			length = min(int(math.Exp(mean+c.pick.NormFloat64())), len(buf))
			c.fill(buf[:length], c.pick.Float64() < 0.7)
		}
		if err := os.WriteFile(place(i), buf[:length], 0o644); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

func generateMillion(ctx context.Context, dir string, scale float64, c *content) error {
	place, err := makeDirs(dir, min(1, scale*4))
	if err != nil {
		return err
	}
	var same [100]byte
	c.fill(same[:], true)
	for i := range int(1_000_000 * scale) {
		if err := os.WriteFile(place(i), same[:], 0o644); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}

// generateSource copies what a Go installation has, in the order of names, until it is enough.
func generateSource(ctx context.Context, dir string, scale float64, _ *content) error {
	out, err := exec.CommandContext(ctx, "go", "env", "GOROOT", "GOMODCACHE").Output()
	if err != nil {
		return fmt.Errorf("asking go for its directories: %w", err)
	}
	left := int(100_000 * scale)
	places := strings.Split(strings.TrimSpace(string(out)), "\n")
	for i, place := range []string{filepath.Join(places[0], "src"), places[1]} {
		err := filepath.WalkDir(place, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if left <= 0 {
				return fs.SkipAll
			}
			target := filepath.Join(dir, fmt.Sprint(i), path[len(place):])
			switch {
			case path == filepath.Join(places[1], "cache"): // downloads, which are the same once more as archives
				return fs.SkipDir
			case d.IsDir():
				return os.MkdirAll(target, 0o755)
			case d.Type().IsRegular():
				left--
				return copyFile(path, target)
			}
			return ctx.Err()
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, b, 0o644)
}

// mutate changes about 1 % of the tree at req.Tree: of big files 1 % of the bytes, in regions of up to 1 MiB; of the
// other files every hundredth, which gets other content of the same length.
func mutate(ctx context.Context, req request) (string, error) {
	const big = 4 << 20
	c := newContent(req.Seed)
	touched := 0
	err := filepath.WalkDir(req.Tree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		n, change := info.Size(), info.Size()
		switch {
		case n >= big:
			change = n / 100
		case n == 0 || c.pick.IntN(100) != 0:
			return ctx.Err()
		}
		touched++
		return overwrite(path, n, change, c)
	})
	return fmt.Sprintf("%d files changed", touched), err
}

// overwrite gives so many bytes of a file other content, in pieces of up to 1 MiB anywhere in it.
func overwrite(path string, length, change int64, c *content) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for change > 0 {
		piece := make([]byte, min(change, 1<<20))
		c.fill(piece, c.pick.IntN(2) == 0)
		if _, err := f.WriteAt(piece, c.pick.Int64N(length-int64(len(piece))+1)); err != nil {
			return err
		}
		change -= int64(len(piece))
	}
	return f.Close()
}
