package engine

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"abaca"
	"abaca/internal/test/torture"
)

// A randomShare is a tree that changes, and another into which each of its backups is restored.
type randomShare struct {
	engine         *Engine
	source, target string
	ref            abaca.Ref // the latest backup
}

// backUp saves the source, incrementally, restores that over what the target is, and returns how the two differ.
func (s *randomShare) backUp(id string) (differences []string, err error) {
	ctx := context.Background()
	from, err := os.Open(s.source)
	if err != nil {
		return nil, err
	}
	defer from.Close()
	if s.ref, _, err = s.engine.Save(ctx, request(id, s.ref), &abaca.Volume{Root: from}, nil); err != nil {
		return nil, err
	}
	to, err := os.Open(s.target)
	if err != nil {
		return nil, err
	}
	defer to.Close()
	if _, err := s.engine.Restore(ctx, testProject, s.ref, &abaca.Volume{Root: to}, nil); err != nil {
		return nil, err
	}
	return torture.Compare(s.source, s.target)
}

// A spoiling is random changes; fewer of a seed are the first of more.
type spoiling struct {
	seed    uint64
	changes int
}

var spoilings = rapid.Custom(func(t *rapid.T) spoiling {
	return spoiling{rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 40).Draw(t, "changes")}
})

func TestEveryRestoreOfARandomTreeEqualsItsSource(t *testing.T) {
	t.Parallel()
	if checks := flag.Lookup("rapid.checks"); checks.Value.String() == checks.DefValue {
		must(t, flag.Set("rapid.checks", "10")) // each saves and restores some trees
	}
	e := newEngine(t, t.TempDir())
	saves := 0
	rapid.Check(t, func(r *rapid.T) {
		share := randomShare{engine: e, source: t.TempDir(), target: t.TempDir()}
		grown := rapid.IntRange(0, 150).Draw(r, "entries")
		if err := torture.Grow(share.source, rapid.Uint64().Draw(r, "seed"), grown); err != nil {
			r.Fatal(err)
		}
		rounds := append(rapid.SliceOfN(spoilings, 1, 4).Draw(r, "spoilings"), spoiling{})
		for i, round := range rounds {
			saves++
			differences, err := share.backUp(fmt.Sprint("save ", saves))
			if err != nil {
				r.Fatalf("round %d: %v", i, err)
			}
			if len(differences) > 0 {
				r.Fatalf("round %d: %d differences:\n%.2000s", i, len(differences), strings.Join(differences, "\n"))
			}
			for _, tree := range []string{share.source, share.target}[:1+i%2] { // the target is spoilt now and then too
				if _, err := torture.Vandalise(tree, round.seed, round.changes); err != nil {
					r.Fatal(err)
				}
			}
		}
	})
}
