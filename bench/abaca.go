package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// abacaTool is what both ways to measure the engine share. Its key lies in a file, as the server's does.
type abacaTool struct {
	root, key string
	profiles  string
	dense     bool
	saves     int
	latest    string
	open      *worker // nil where every operation is a process of its own
}

func newAbaca(o options, key, name string) *abacaTool {
	return &abacaTool{root: filepath.Join(o.work, name), key: key, profiles: o.profiles}
}

// wholeAbaca measures processes that open the engine, do one thing and end.
func wholeAbaca(o options, key string) *tool {
	a := newAbaca(o, key, "abaca")
	t := a.tool("abaca", "a process for each operation; BLAKE3-256-128, AES-256-GCM, s2, own chunker")
	t.start = a.makeRepository
	return t
}

// denseAbaca measures processes with the denser compression.
func denseAbaca(o options, key string) *tool {
	o.profiles = ""
	a := newAbaca(o, key, "abaca-dense")
	a.dense = true
	t := a.tool("abaca dense", "a process for each operation; zstd instead of s2")
	t.start = a.makeRepository
	return t
}

// openAbaca measures the same in a process that has the repository open, as the server has.
func openAbaca(o options, key string) *tool {
	a := newAbaca(o, key, "abaca-open")
	a.profiles = ""
	t := a.tool("abaca (open)", "the same in a process that has its repository open, as the server has; peak memory is counted anew for each operation")
	t.start = func(ctx context.Context) error {
		if err := a.begin(); err != nil {
			return err
		}
		w, err := startWorker(ctx)
		if err != nil {
			return err
		}
		a.open = w
		_, err = w.do(request{Op: "open", Root: a.root, Key: a.key})
		return err
	}
	t.stop = func() error {
		if a.open == nil {
			return nil
		}
		w := a.open
		a.open = nil
		return w.stop()
	}
	return t
}

func (a *abacaTool) tool(name, about string) *tool {
	return &tool{
		name: name, about: about, repository: a.root, exact: true, mirrors: true, inPlace: true,
		save: func(ctx context.Context, p phase, set, tree string) (figure, error) {
			a.saves++
			parent := a.latest
			a.latest = fmt.Sprintf("save-%d", a.saves)
			return a.do(ctx, p, set, request{Op: "save", Tree: tree, ID: a.latest, Parent: parent})
		},
		restore: func(ctx context.Context, p phase, set, _, target string) (figure, error) {
			return a.do(ctx, p, set, request{Op: "restore", Tree: target, ID: a.latest})
		},
	}
}

// begin empties the repositories.
func (a *abacaTool) begin() error {
	a.saves, a.latest = 0, ""
	return errors.Join(os.RemoveAll(a.root), os.MkdirAll(a.root, 0o700))
}

// makeRepository begins with a new repository, which is not measured of the peers either.
func (a *abacaTool) makeRepository(ctx context.Context) error {
	if err := a.begin(); err != nil {
		return err
	}
	_, _, err := once(ctx, request{Op: "open", Root: a.root, Key: a.key, Dense: a.dense})
	return err
}

func (a *abacaTool) do(ctx context.Context, p phase, set string, req request) (figure, error) {
	req.Root, req.Key, req.Dense = a.root, a.key, a.dense
	if a.profiles != "" {
		if err := os.MkdirAll(a.profiles, 0o755); err != nil {
			return figure{}, err
		}
		req.Profile = filepath.Join(a.profiles, strings.NewReplacer(" ", "-", "%", "percent").Replace(set+"-"+string(p))+".pprof")
	}
	if a.open == nil {
		whole, _, err := once(ctx, req)
		return whole, err
	}
	r, err := a.open.do(req)
	return r.Figure, err
}

// writeKey makes a random master key.
func writeKey(path string) error {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // it never fails
	return os.WriteFile(path, key, 0o600)
}
