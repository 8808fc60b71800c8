package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

// errNotDone says that a tool has nothing to measure in a phase.
var errNotDone = errors.New("not measured")

// results are all figures of a set, by the tool's name and the phase.
type results map[string]map[phase][]figure

// sizes are those of a repository: after the full backup, and those after all of them.
type sizes struct{ full, all int64 }

// A bench measures all tools with one set.
type bench struct {
	options
	set     set
	tools   []*tool
	log     *slog.Logger
	info    setInfo
	results results
	round   int
}

// setInfo is what the report says of a set besides figures.
type setInfo struct {
	size    string
	sizes   map[string]sizes // of repositories, by tool
	checked []string         // restores that were compared with their source
	cold    bool             // whether caches could be dropped
}

func (b *bench) tree() string   { return filepath.Join(b.work, "tree") }
func (b *bench) target() string { return filepath.Join(b.work, "target") }

// run measures all rounds. In each phase the tools follow each other, so that what disturbs the machine disturbs all.
func (b *bench) run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, os.RemoveAll(b.tree())) }()
	b.info.sizes = map[string]sizes{}
	if err := os.Mkdir(b.tree(), 0o755); err != nil {
		return err
	}
	b.log.InfoContext(ctx, "generating")
	_, made, err := once(ctx, request{Op: "generate", Tree: b.tree(), Set: b.set.name, Scale: b.scale, Seed: 1})
	if err != nil {
		return err
	}
	b.info.size = made.Detail
	for b.round = 1; b.round <= b.rounds; b.round++ {
		if err := errors.Join(b.oneRound(ctx), b.end()); err != nil {
			return fmt.Errorf("round %d: %w", b.round, err)
		}
	}
	return nil
}

func (b *bench) oneRound(ctx context.Context) error {
	for _, t := range b.tools {
		if t.start != nil {
			if err := t.start(ctx); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	for _, p := range []phase{full, coldUnchanged, unchanged, changed} {
		if !b.wants(p) {
			continue
		}
		if p == changed {
			if err := b.mutate(ctx, b.tree(), uint64(b.round)); err != nil {
				return err
			}
		}
		for _, t := range b.tools {
			if t.save == nil {
				continue
			}
			if err := b.save(ctx, t, p); err != nil {
				return fmt.Errorf("%s, %s: %w", t.name, p, err)
			}
		}
	}
	for _, t := range b.tools {
		if err := b.restoreInPlace(ctx, t); err != nil {
			return fmt.Errorf("%s, %s: %w", t.name, inPlace, err)
		}
	}
	for _, t := range b.tools {
		if err := b.restores(ctx, t); err != nil {
			return fmt.Errorf("%s, %s: %w", t.name, restore, err)
		}
	}
	return nil
}

// wants says whether a phase is to be measured.
func (b *bench) wants(p phase) bool {
	switch {
	case p == full:
		return true
	case p == coldUnchanged && !b.set.cold:
		return false
	}
	return len(b.phases) == 0 || slices.Contains(b.phases, string(p))
}

// end ends what the tools have begun, after failures too.
func (b *bench) end() (err error) {
	for _, t := range b.tools {
		if t.stop != nil {
			err = errors.Join(err, t.stop())
		}
		if t.repository != "" {
			err = errors.Join(err, os.RemoveAll(t.repository))
		}
	}
	return err
}

func (b *bench) save(ctx context.Context, t *tool, p phase) error {
	if b.set.cold && (p == full || p == coldUnchanged) {
		b.info.cold = dropCaches()
	}
	err := b.measure(t, p, b.work, func() (figure, error) { return t.save(ctx, p, b.set.name, b.tree()) })
	if err != nil || t.repository == "" || p != full && p != changed {
		return err
	}
	n, err := size(t.repository)
	s := b.info.sizes[t.name]
	if p == full {
		s.full = n
	} else {
		s.all = n
	}
	b.info.sizes[t.name] = s
	return err
}

// restoreInPlace restores over the tree that was saved and has been changed since. Only tools that bring every field
// back do it, because the others go on with the tree.
func (b *bench) restoreInPlace(ctx context.Context, t *tool) error {
	if !t.inPlace || !b.wants(inPlace) {
		return nil
	}
	if err := b.mutate(ctx, b.tree(), 1000+uint64(b.round)); err != nil {
		return err
	}
	return b.measure(t, inPlace, b.tree(), func() (figure, error) { return t.restore(ctx, inPlace, b.set.name, b.tree(), b.tree()) })
}

// restores restores into nothing, and over that after 1 % of it has been changed.
func (b *bench) restores(ctx context.Context, t *tool) (err error) {
	if t.restore == nil || !b.wants(restore) && !b.wants(over) {
		return nil
	}
	defer func() { err = errors.Join(err, os.RemoveAll(b.target())) }()
	if err := os.MkdirAll(b.target(), 0o755); err != nil {
		return err
	}
	for _, p := range []phase{restore, over} {
		if p == over {
			if !t.mirrors || !b.wants(over) {
				continue
			}
			if err := b.mutate(ctx, b.target(), 2000+uint64(b.round)); err != nil {
				return err
			}
		}
		err := b.measure(t, p, b.target(), func() (figure, error) { return t.restore(ctx, p, b.set.name, b.tree(), b.target()) })
		if err != nil {
			return err
		}
		if err := b.check(ctx, t, p); err != nil {
			return err
		}
	}
	return nil
}

// measure takes one figure. Nobody pays for what an earlier one left to be written.
func (b *bench) measure(t *tool, p phase, written string, work func() (figure, error)) error {
	if err := syncTree(b.work); err != nil {
		return err
	}
	f, err := work()
	if errors.Is(err, errNotDone) {
		return nil
	}
	if err != nil {
		return err
	}
	began := now()
	if err := syncTree(written); err != nil {
		return err
	}
	f.Synced = f.Wall + since(began)
	b.log.Info("measured", "round", b.round, "tool", t.name, "phase", p,
		"wall", fmt.Sprintf("%.2f", f.Wall), "cpu", fmt.Sprintf("%.2f", f.CPU), "mib", f.RSS>>20)
	if b.results[t.name] == nil {
		b.results[t.name] = map[phase][]figure{}
	}
	b.results[t.name][p] = append(b.results[t.name][p], f)
	return nil
}

func (b *bench) mutate(ctx context.Context, tree string, seed uint64) error {
	_, _, err := once(ctx, request{Op: "mutate", Tree: tree, Seed: seed})
	return err
}

// check compares what the first round restored with its source.
func (b *bench) check(ctx context.Context, t *tool, p phase) error {
	if b.round != 1 || t.empty {
		return nil
	}
	if t.exact {
		_, _, err := once(ctx, request{Op: "compare", Tree: b.tree(), Other: b.target()})
		if err != nil {
			return fmt.Errorf("the restored tree is not the saved one: %w", err)
		}
		b.info.checked = append(b.info.checked, fmt.Sprintf("%s, %s: equal in every field", t.name, p))
		return nil
	}
	out, err := exec.CommandContext(ctx, "rsync", "-ai", "--checksum", "--dry-run", "--delete", "--omit-dir-times",
		b.tree()+"/", b.target()+"/").CombinedOutput()
	if err != nil {
		return fmt.Errorf("comparing with rsync: %w: %.500s", err, out)
	}
	said := "equal but for times of directories"
	if len(out) > 0 { // a peer's failing belongs into the report
		said = fmt.Sprintf("DIFFERENT (%.60q …)", out)
	}
	b.info.checked = append(b.info.checked, fmt.Sprintf("%s, %s: %s", t.name, p, said))
	return nil
}
