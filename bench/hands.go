package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"

	"abaca"
	"abaca/internal/engine"
	"abaca/internal/test/torture"
)

// An operation prepares a request and returns what is to be measured of it.
type operation func(h *hands, ctx context.Context, req request) (work func() (detail string, err error), err error)

// operations are all that a worker can do.
var operations = map[string]operation{
	"generate": measureAll(generate),
	"mutate":   measureAll(mutate),
	"compare":  measureAll(compare),
	"walk":     measureAll(func(ctx context.Context, req request) (string, error) { return walkTree(ctx, req.Tree, false) }),
	"read":     measureAll(func(ctx context.Context, req request) (string, error) { return walkTree(ctx, req.Tree, true) }),
	"create":   prepareCreate,
	"open":     (*hands).prepareOpen,
	"save":     (*hands).prepareSave,
	"restore":  (*hands).prepareRestore,
}

// measureAll is an operation without preparations.
func measureAll(f func(ctx context.Context, req request) (string, error)) operation {
	return func(_ *hands, ctx context.Context, req request) (func() (string, error), error) {
		return func() (string, error) { return f(ctx, req) }, nil
	}
}

// hands are what a worker keeps between requests: an engine.
type hands struct{ engine *engine.Engine }

const (
	project = abaca.ProjectID("bench")
	share   = abaca.ShareID("7d0e2c34-3c5c-4a5e-8df0-3a7a35b0a9a1")
)

func (h *hands) use(req request) error {
	if h.engine != nil {
		return nil
	}
	key, err := os.ReadFile(req.Key)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	h.engine, err = engine.New(engine.Config{Root: req.Root, MasterKey: key, Dense: req.Dense, Log: log})
	return err
}

func (h *hands) close() error {
	e := h.engine
	if e == nil {
		return nil
	}
	h.engine = nil
	return e.Close(context.Background())
}

// prepareOpen leaves a worker with an open repository, as a server has after its first operation.
func (h *hands) prepareOpen(ctx context.Context, req request) (func() (string, error), error) {
	return func() (string, error) {
		dir, err := os.MkdirTemp(req.Root, "")
		if err != nil {
			return "", err
		}
		defer os.Remove(dir)
		req.Tree, req.ID = dir, "warm"
		return h.save(ctx, req)
	}, nil
}

// prepareSave measures making the engine too: a whole process has to.
func (h *hands) prepareSave(ctx context.Context, req request) (func() (string, error), error) {
	return func() (string, error) { return h.save(ctx, req) }, nil
}

func (h *hands) save(ctx context.Context, req request) (string, error) {
	vol, err := h.volume(req)
	if err != nil {
		return "", err
	}
	ask := abaca.SaveRequest{Project: project, Share: share, ID: req.ID, Parent: abaca.Ref(req.Parent)}
	_, said, err := h.engine.Save(ctx, ask, vol, func(abaca.Progress) {})
	return complain(said, errors.Join(err, vol.Close()))
}

func (h *hands) prepareRestore(ctx context.Context, req request) (func() (string, error), error) {
	return func() (string, error) {
		vol, err := h.volume(req)
		if err != nil {
			return "", err
		}
		said, err := h.engine.Restore(ctx, project, abaca.Ref(req.ID), vol, func(abaca.Progress) {})
		return complain(said, errors.Join(err, vol.Close()))
	}, nil
}

func (h *hands) volume(req request) (*abaca.Volume, error) {
	if err := h.use(req); err != nil {
		return nil, err
	}
	root, err := os.Open(req.Tree)
	return &abaca.Volume{Root: root}, err
}

// complain refuses a result with marks: the trees here are whole and at rest.
func complain(said abaca.Report, err error) (string, error) {
	if err == nil && said.Changed+said.Unreadable > 0 {
		err = errors.New(said.Detail)
	}
	return fmt.Sprintf("%d entries, %d bytes, %d stored", said.Files, said.Bytes, said.Stored), err
}

// compare fails unless both trees are equal in every field.
func compare(_ context.Context, req request) (string, error) {
	differences, err := torture.Compare(req.Tree, req.Other)
	if err != nil {
		return "", err
	}
	if n := len(differences); n > 0 {
		return "", fmt.Errorf("%d differences: %s", n, strings.Join(differences[:min(n, 5)], "; "))
	}
	return "", nil
}
