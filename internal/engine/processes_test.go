package engine

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"abaca"
	"abaca/internal/test/s3"
)

// Several of the tests run this test binary again as a worker of its own.
const workerTask = "ABACA_TEST_ENGINE_WORKER" // a workerJob in JSON; set in the worker alone

func TestMain(m *testing.M) {
	if task := os.Getenv(workerTask); task != "" {
		if err := work(task); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// A workerJob is what a worker does: it saves a tree so many times under ids of its own, and deletes every second one and maintains in between.
type workerJob struct {
	Root   string
	Bucket *Bucket
	Tree   string
	Name   string
	Saves  int
}

func work(text string) error {
	var do workerJob
	if err := json.Unmarshal([]byte(text), &do); err != nil {
		return err
	}
	ctx := context.Background()
	e, err := New(Config{Root: do.Root, Bucket: do.Bucket, MasterKey: testKey(), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	if err != nil {
		return err
	}
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	var parent abaca.Ref
	for n := range do.Saves {
		if err := os.WriteFile(filepath.Join(do.Tree, "changing"), fmt.Append(nil, do.Name, n), 0o600); err != nil {
			return err
		}
		root, err := os.Open(do.Tree)
		if err != nil {
			return err
		}
		req := abaca.SaveRequest{Project: testProject, Share: abaca.ShareID(do.Name), ID: fmt.Sprintf("%s-%d", do.Name, n), Parent: parent}
		ref, _, err := e.Save(ctx, req, &abaca.Volume{Root: root}, nil)
		root.Close()
		if err != nil {
			return err
		}
		if parent != "" && n%2 == 0 {
			if err := e.Delete(ctx, testProject, string(parent)); err != nil {
				return err
			}
		}
		if err := e.Maintain(ctx, testProject); err != nil {
			return err
		}
		parent = ref
	}
	return e.Close(ctx)
}

// together runs workers, each of which begins when all are ready.
func together(t *testing.T, tasks []workerJob) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	begin := make([]io.WriteCloser, len(tasks))
	var group errgroup.Group
	for i, do := range tasks {
		text, err := json.Marshal(do)
		must(t, err)
		cmd := exec.CommandContext(ctx, os.Args[0])
		cmd.Env = append(os.Environ(), workerTask+"="+string(text))
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		begin[i], err = cmd.StdinPipe()
		must(t, err)
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
			t.Fatalf("%q, %v: %s", line, err, &stderr)
		}
		group.Go(func() error {
			if err := cmd.Wait(); err != nil {
				return fmt.Errorf("worker %s: %w: %s", do.Name, err, &stderr)
			}
			return nil
		})
	}
	for _, w := range begin {
		fmt.Fprintln(w)
	}
	must(t, group.Wait())
}

// A site is where a test's engines have their repositories.
type site struct {
	bucket *Bucket
	root   func() string // of a host; on a shared directory the same for all
}

// sites are both kinds of site, each new at every call.
func sites(t *testing.T) map[string]func(t *testing.T) site {
	server := s3.Start(t)
	next := 0
	return map[string]func(t *testing.T) site{
		"in a directory": func(t *testing.T) site {
			root := t.TempDir()
			return site{root: func() string { return root }}
		},
		"in a bucket": func(t *testing.T) site {
			var c Config
			inBucket(server)(&c)
			next++
			c.Bucket.Prefix = fmt.Sprintf("abaca/%d/", next)
			return site{c.Bucket, t.TempDir}
		},
	}
}

func (p site) engine(t *testing.T, change ...func(*Config)) *Engine {
	t.Helper()
	return newEngine(t, p.root(), append([]func(*Config){func(c *Config) { c.Bucket = p.bucket }}, change...)...)
}

func (p site) tasks(t *testing.T, workers, saves int) (all []workerJob) {
	t.Helper()
	for i := range workers {
		tree := t.TempDir()
		must(t, os.WriteFile(filepath.Join(tree, "same"), randomBytes(1, 2<<20), 0o600))
		must(t, os.WriteFile(filepath.Join(tree, "own"), randomBytes(uint64(i+2), 1<<20), 0o600))
		all = append(all, workerJob{p.root(), p.bucket, tree, fmt.Sprintf("worker%d", i), saves})
	}
	return all
}

func TestProcessesThatMakeAProjectsRepositoryAtOnceMakeOne(t *testing.T) {
	t.Parallel()
	for name, empty := range sites(t) {
		t.Run(name, func(t *testing.T) {
			for range 4 {
				p := empty(t)
				tasks := p.tasks(t, 4, 1)
				together(t, tasks)
				e := p.engine(t)
				for _, do := range tasks {
					mustEqual(t, do.Tree, restored(t, e, abaca.Ref(do.Name+"-0")))
				}
				stockVerify(t, openFor(t, e).kopia)
			}
		})
	}
}

func TestWhatSeveralProcessesSaveDeleteAndMaintainAtOnceIsAllThere(t *testing.T) {
	t.Parallel()
	for name, empty := range sites(t) {
		t.Run(name, func(t *testing.T) {
			p := empty(t)
			const saves = 12
			tasks := p.tasks(t, 3, saves)
			together(t, tasks)
			e := p.engine(t)
			var refs []abaca.Ref
			for _, do := range tasks {
				mustEqual(t, do.Tree, restored(t, e, abaca.Ref(fmt.Sprintf("%s-%d", do.Name, saves-1))))
			}
			left := map[abaca.Ref]bool{}
			for _, do := range tasks {
				for n := range saves {
					deleted := n%2 == 1 && n < saves-1
					ref := abaca.Ref(fmt.Sprintf("%s-%d", do.Name, n))
					refs, left[ref] = append(refs, ref), !deleted
				}
			}
			for ref, v := range mustVerify(t, e, everything, refs...) {
				if left[ref] && v.Damaged != 0 || !left[ref] && v != nothingSaved {
					t.Errorf("%s, to be there: %v: found %+v", ref, left[ref], v)
				}
			}
			stockVerify(t, openFor(t, e).kopia)
		})
	}
}
