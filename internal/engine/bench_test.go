package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"abaca"
)

// The sets that the benchmarks save; ABACA_BENCH_SCALE multiplies the numbers of files, in percent.
func scaled(n int) int {
	if s, err := strconv.Atoi(os.Getenv("ABACA_BENCH_SCALE")); err == nil {
		return n * s / 100
	}
	return n
}

// words makes text that compresses about as well as prose.
func words(r *rand.Rand, n int) []byte {
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = strconv.AppendInt(b, int64(r.ExpFloat64()*300), 36)
		b = append(b, " the of and to"[:1+r.IntN(13)]...)
	}
	return b[:n]
}

func plantSmall(b *testing.B, root string, files, perDir int, size func(*rand.Rand) int) {
	b.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	for i := range files {
		dir := filepath.Join(root, fmt.Sprintf("%02d", i/perDir/100), fmt.Sprintf("%04d", i/perDir))
		if i%perDir == 0 {
			must(b, os.MkdirAll(dir, 0o755))
		}
		content := words(r, size(r))
		if i%10 < 3 {
			content = randomBytes(uint64(i), len(content))
		}
		must(b, os.WriteFile(filepath.Join(dir, fmt.Sprintf("file-%07d", i)), content, 0o644))
	}
}

func plantLarge(b *testing.B, root string) {
	b.Helper()
	r := rand.New(rand.NewPCG(3, 4))
	for i := range 4 {
		content := randomBytes(uint64(i), 256<<20)
		if i%2 == 1 {
			content = words(r, 256<<20)
		}
		must(b, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), content, 0o644))
	}
}

func processorTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func BenchmarkSave(b *testing.B) {
	sets := []struct {
		name  string
		plant func(b *testing.B, root string)
	}{
		{"large", plantLarge},
		{"small", func(b *testing.B, root string) {
			plantSmall(b, root, scaled(50_000), 100, func(r *rand.Rand) int { return min(64<<10, int(r.ExpFloat64()*8000)) })
		}},
		{"tiny", func(b *testing.B, root string) {
			plantSmall(b, root, scaled(200_000), 500, func(*rand.Rand) int { return 100 })
		}},
	}
	for _, set := range sets {
		tree := b.TempDir()
		planted := false
		var used time.Duration // by the saves of one run
		save := func(b *testing.B, e *Engine, id string, parent abaca.Ref) {
			before := processorTime()
			_, report, err := e.Save(context.Background(), request(id, parent), volumeOf(b, tree), nil)
			must(b, err)
			used += processorTime() - before
			b.ReportMetric(used.Seconds()/float64(b.N), "cpu-s/op")
			b.ReportMetric(float64(report.Stored>>10)/1024, "stored-MB")
		}
		prepare := func(b *testing.B) *Engine {
			if !planted {
				set.plant(b, tree)
				planted = true
			}
			e := newEngine(b, b.TempDir())
			_, release, err := e.pool.acquire(context.Background(), testProject, create)
			must(b, err)
			release()
			return e
		}
		b.Run(set.name+"/full", func(b *testing.B) {
			used = 0
			for i := range b.N {
				b.StopTimer()
				e := prepare(b)
				b.StartTimer()
				save(b, e, fmt.Sprint(i), "")
			}
		})
		b.Run(set.name+"/unchanged", func(b *testing.B) {
			e := prepare(b)
			ref, _, err := e.Save(context.Background(), request("first", ""), volumeOf(b, tree), nil)
			must(b, err)
			b.ResetTimer()
			used = 0
			for i := range b.N {
				save(b, e, fmt.Sprint(i, "-", b.N), ref)
			}
		})
	}
}

// BenchmarkRestore restores into nothing, and over a copy in which every large file, or every hundredth small one, differs.
func BenchmarkRestore(b *testing.B) {
	for _, set := range []struct {
		name  string
		plant func(b *testing.B, root string)
		spoil func(b *testing.B, root string)
	}{
		{"large", plantLarge, spoilLarge},
		{"tiny", func(b *testing.B, root string) {
			plantSmall(b, root, scaled(200_000), 500, func(*rand.Rand) int { return 100 })
		}, func(*testing.B, string) {}},
	} {
		tree := b.TempDir()
		e := newEngine(b, b.TempDir())
		var ref abaca.Ref
		restore := func(b *testing.B, target string, used *time.Duration) {
			before := processorTime()
			report, err := e.Restore(context.Background(), testProject, ref, volumeOf(b, target), nil)
			must(b, err)
			*used += processorTime() - before
			b.ReportMetric(used.Seconds()/float64(b.N), "cpu-s/op")
			b.ReportMetric(float64(report.Stored>>10)/1024, "stored-MB")
		}
		prepare := func(b *testing.B) {
			if ref == "" {
				set.plant(b, tree)
				var err error
				ref, _, err = e.Save(context.Background(), request("one", ""), volumeOf(b, tree), nil)
				must(b, err)
			}
			b.ResetTimer()
		}
		b.Run(set.name+"/empty", func(b *testing.B) {
			prepare(b)
			var used time.Duration
			for range b.N {
				b.StopTimer()
				target, err := os.MkdirTemp(b.TempDir(), "")
				must(b, err)
				b.StartTimer()
				restore(b, target, &used)
				b.StopTimer()
				must(b, os.RemoveAll(target))
			}
		})
		b.Run(set.name+"/over", func(b *testing.B) {
			prepare(b)
			var used time.Duration
			target := b.TempDir()
			var first time.Duration
			restore(b, target, &first)
			b.ResetTimer()
			for range b.N {
				b.StopTimer()
				set.spoil(b, target)
				b.StartTimer()
				restore(b, target, &used)
			}
		})
	}
}

// spoilLarge overwrites one percent of every file, in pieces.
func spoilLarge(b *testing.B, root string) {
	b.Helper()
	names, err := os.ReadDir(root)
	must(b, err)
	for i, name := range names {
		f, err := os.OpenFile(filepath.Join(root, name.Name()), os.O_WRONLY, 0)
		must(b, err)
		for piece := range 5 {
			_, err := f.WriteAt(randomBytes(uint64(100*i+piece), 512<<10), int64(piece)*50<<20+7)
			must(b, err)
		}
		must(b, f.Close())
	}
	unix.Sync()
}
