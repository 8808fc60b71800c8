package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
)

// A phase is a column of the tables.
type phase string

const (
	full          phase = "full"
	coldUnchanged phase = "unchanged cold"
	unchanged     phase = "unchanged"
	changed       phase = "1 % changed"
	inPlace       phase = "restore in place"
	restore       phase = "restore"
	over          phase = "restore over"
)

var phases = []phase{full, coldUnchanged, unchanged, changed, inPlace, restore, over}

// A tool is a row of the tables. What it has no function for it does not do.
type tool struct {
	name  string
	about string // version and settings

	// start makes an empty repository; stop ends what start began.
	start func(ctx context.Context) error
	stop  func() error
	// save backs a tree up; every call is one more backup.
	save func(ctx context.Context, p phase, set, tree string) (figure, error)
	// restore makes target, which exists, what the last backup has. tree is what was backed up.
	restore func(ctx context.Context, p phase, set, tree, target string) (figure, error)

	repository string // the directory that grows, or empty
	exact      bool   // restores everything, times of directories included
	mirrors    bool   // can restore over a tree that differs
	inPlace    bool   // is measured restoring over the very tree that was saved
	empty      bool   // restores files without their content
}

// chooseTools prepares the tools of these names, building what is missing.
func chooseTools(ctx context.Context, o options, log *slog.Logger) (tools []*tool, versions []string, err error) {
	build, err := filepath.Abs(o.build)
	if err != nil {
		return nil, nil, err
	}
	if err := os.MkdirAll(build, 0o755); err != nil {
		return nil, nil, err
	}
	key := filepath.Join(o.work, "key")
	if err := writeKey(key); err != nil {
		return nil, nil, err
	}
	p := peers{build: build, work: o.work, log: log}
	for _, name := range o.tools {
		var more []*tool
		switch name {
		case "floor":
			more = []*tool{floorTool()}
		case "abaca":
			more = []*tool{wholeAbaca(o, key)}
		case "abaca-dense":
			more = []*tool{denseAbaca(o, key)}
		case "abaca-open":
			more = []*tool{openAbaca(o, key)}
		case "restic":
			more, err = p.restic(ctx)
		case "kopia":
			more, err = p.kopia(ctx)
		case "borg":
			more, err = p.borg(ctx)
		case "cp":
			more = p.cp()
		default:
			err = fmt.Errorf("no tool %q", name)
		}
		if err != nil {
			return nil, nil, err
		}
		tools = append(tools, more...)
	}
	for _, t := range tools {
		versions = append(versions, fmt.Sprintf("%s: %s", t.name, t.about))
	}
	return tools, versions, nil
}

// floorTool does not back anything up: its figures are what the kernel alone takes for the same phase.
func floorTool() *tool {
	own := func(ctx context.Context, req request) (figure, error) {
		_, r, err := once(ctx, req)
		return r.Figure, err
	}
	return &tool{
		name: "bare floor", empty: true,
		about: fmt.Sprintf("the system calls alone, start of the process not counted: full = open, fstat, read, close with %d threads; "+
			"unchanged = getdents and statx with %d threads; restore = mkdir, open, write, close with one thread", floorThreads, floorThreads),
		save: func(ctx context.Context, p phase, _, tree string) (figure, error) {
			switch p {
			case full:
				return own(ctx, request{Op: "read", Tree: tree})
			case changed:
				return figure{}, errNotDone
			}
			return own(ctx, request{Op: "walk", Tree: tree})
		},
		restore: func(ctx context.Context, _ phase, _, tree, target string) (figure, error) {
			return own(ctx, request{Op: "create", Tree: tree, Other: target})
		},
	}
}
