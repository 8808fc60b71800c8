package abaca

import "context"

type guardKey struct{}

// WithGuard returns a context for work whose right to touch a share may end at any moment, and without a word: guard says whether it
// still has it. Whoever changes files of a share, or makes known what was saved, under the context asks before each change, see Guard.
// A nil guard takes that of ctx away.
func WithGuard(ctx context.Context, guard func() error) context.Context {
	return context.WithValue(ctx, guardKey{}, guard)
}

// Guard returns the question that is to be asked before each change to a share's files, or to what a repository shows: its error, once there
// is one, says that they are somebody else's business now and stays. A process that was stopped for a while finds out by asking, sooner
// than its context ends.
func Guard(ctx context.Context) func() error {
	if guard, _ := ctx.Value(guardKey{}).(func() error); guard != nil {
		return guard
	}
	return func() error { return nil }
}
