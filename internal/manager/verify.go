package manager

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"abaca"
	"abaca/internal/db"
)

const (
	// restVerified is how long a project's data rests between one slice of its rolling verification and the next.
	restVerified = 24 * time.Hour
	// restUnread is how long it rests where each try to read the slice has failed, as when the repository cannot be opened.
	restUnread = time.Hour
	// verifiedLife is how long records of verifications are kept that a later one makes dispensable.
	verifiedLife = 90 * 24 * time.Hour
	// namedDamage is how many paths an abaca.Verification names at most.
	namedDamage = 100
)

// Verify reads saved trees of one project back, structure and all contents in the slice, records what it finds, and tells the
// project of damage that it has not been told of. What was deleted meanwhile is left out of the answer.
func (m *Manager) Verify(ctx context.Context, project abaca.ProjectID, trees []abaca.Saved, slice abaca.Slice, report func(abaca.Progress)) (
	done []abaca.Verified, err error,
) {
	began := m.now()
	found, err := m.Engine.Verify(ctx, project, refs(trees), slice, report)
	if err != nil {
		return nil, err
	}
	err = m.DB.Transact(ctx, func(tx *db.Tx) error {
		done, err = m.record(ctx, tx, trees, abaca.Verified{Slice: slice, Began: began}, found)
		return err
	})
	return done, err
}

func refs(trees []abaca.Saved) []abaca.Ref {
	list := make([]abaca.Ref, len(trees))
	for i, t := range trees {
		list[i] = t.Ref
	}
	return list
}

// record writes down what was found in trees that are still there: one that was being deleted while it was read looks damaged.
// what says when the reading began and which slice it was of.
func (m *Manager) record(ctx context.Context, tx *db.Tx, trees []abaca.Saved, what abaca.Verified, found map[abaca.Ref]abaca.Verification) ([]abaca.Verified, error) {
	what.Ended = m.now()
	done := []abaca.Verified{}
	var news []abaca.Verified
	for _, tree := range trees {
		v, ok := found[tree.Ref]
		if !ok {
			continue
		}
		still, err := tx.StillSaved(ctx, tree)
		if err != nil {
			return nil, err
		}
		if !still {
			continue
		}
		what.Saved, what.Verification = tree, v
		if v.Damaged > 0 {
			known, err := tx.Findings(ctx, tree)
			if err != nil {
				return nil, err
			}
			if isNews(v, known) {
				news = append(news, what)
			}
		}
		if err := tx.InsertVerification(ctx, newID(), what); err != nil {
			return nil, err
		}
		done = append(done, what)
	}
	return done, m.tellDamage(ctx, tx, news)
}

// tellDamage writes messages about damage that the trees' owners do not know of. Backups of a share have most of their contents in
// common, so that what hits one hits many: those that have lost the same are told of together.
func (m *Manager) tellDamage(ctx context.Context, tx *db.Tx, news []abaca.Verified) error {
	for len(news) > 0 {
		v := news[0]
		var ids []string
		var others []abaca.Verified
		for _, n := range news {
			if n.Share == v.Share && n.Kind == v.Kind && n.Damaged == v.Damaged && n.Detail == v.Detail && (n.Files == 0) == (v.Files == 0) {
				ids = append(ids, n.ID)
			} else {
				others = append(others, n)
			}
		}
		if err := m.tell(ctx, tx, about(db.Job{Project: v.Project}, v.Share, actionVerify, describe(v, ids))); err != nil {
			return err
		}
		news = others
	}
	return nil
}

// describe puts what each of these trees has lost into a tenant's words.
func describe(v abaca.Verified, ids []string) string {
	what := strings.ReplaceAll(string(v.Kind), "_", " ") + " " + ids[0]
	if len(ids) > 1 {
		what = "each of the " + strings.ReplaceAll(string(v.Kind), "_", " ") + "s " + strings.Join(ids, ", ")
	}
	lost := plural(v.Damaged, "file", "is damaged and cannot be restored as it was saved", "are damaged and cannot be restored as they were saved") +
		"; everything else in it can"
	if v.Files == 0 {
		lost = "all of it is damaged, and nothing can be restored from it"
	}
	return fmt.Sprintf("verify %s: %s:\n%s", what, lost, v.Detail)
}

// isNews reports whether a finding names something that no earlier one named. Where there may be more damage than it has room to
// name, what it names says little, so that only more of it is news.
func isNews(found abaca.Verification, known []abaca.Verification) bool {
	var most int64
	named := map[string]bool{}
	for _, k := range known {
		most = max(most, k.Damaged)
		for line := range strings.Lines(k.Detail) {
			named[strings.TrimSuffix(line, "\n")] = true
		}
	}
	lines := strings.Split(found.Detail, "\n")
	if len(lines) >= namedDamage {
		return found.Damaged > most
	}
	return slices.ContainsFunc(lines, func(line string) bool { return !named[line] })
}

// keepVerifying reads a slice of each project's saved data back each day, so that a backup that cannot be restored any more is
// known before it is needed. It takes one project after the other and leaves the lanes to what tenants have asked for.
func (m *Manager) keepVerifying(ctx context.Context) {
	if m.VerifyShare <= 0 {
		return
	}
	tick := time.NewTicker(look)
	defer tick.Stop()
	for {
		asked, now := m.Uptime(), m.now()
		round, ok, err := m.DB.ClaimRound(ctx, m.Host, now, now.Add(m.Lease))
		if err != nil && ctx.Err() == nil {
			m.Log.ErrorContext(ctx, "looking for a verification that is due", "error", err)
		}
		if ok {
			m.runRound(ctx, round, asked)
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// runRound reads one slice, or gives it up to be read later.
func (m *Manager) runRound(ctx context.Context, round db.Round, asked time.Duration) {
	ctx, ended := m.watch(abaca.LogWith(ctx, "operation", abaca.WorkVerify, "project_id", round.Project, "attempt", round.Attempt), abaca.WorkVerify)
	outcome := abaca.OutcomeDone
	defer func() { ended(outcome) }()
	err := errors.New("the worker died each time")
	if round.Tries <= m.Tries {
		err = m.readSlice(ctx, round, asked)
	}
	switch {
	case err == nil:
		return
	case errors.Is(err, db.ErrLeaseLost):
		outcome = abaca.OutcomeLeaseLost
		m.Log.WarnContext(ctx, "the verification is no longer ours", "error", err)
		return
	}
	tries, rest := round.Tries-1, time.Duration(0)
	outcome = abaca.OutcomeInterrupted
	if ctx.Err() == nil {
		switch {
		case abaca.FaultOf(err) == abaca.Unavailable:
			rest = m.Lease
		case round.Tries < m.Tries:
			outcome, tries, rest = abaca.OutcomeRetried, round.Tries, m.Backoff<<(round.Tries-1)
		default:
			outcome, tries, rest = abaca.OutcomeRetried, 0, restUnread
		}
		m.Log.ErrorContext(ctx, "saved data could not be verified; it will be tried again", "error", err, "in", rest)
	}
	after, cancel := context.WithTimeout(context.WithoutCancel(ctx), m.Lease)
	defer cancel()
	if err := m.DB.Transact(after, func(tx *db.Tx) error { return tx.YieldRound(after, round, tries, m.now().Add(rest)) }); err != nil {
		m.Log.ErrorContext(ctx, "giving up a verification; it goes on when its lease has passed", "error", err)
	}
}

// readSlice reads the round's next slice and moves the round on in the transaction that records what was found.
func (m *Manager) readSlice(ctx context.Context, round db.Round, asked time.Duration) error {
	slice, next := nextSlice(round.Reached, m.VerifyShare)
	began := m.now()
	if err := m.step(ctx, "verify: taken up"); err != nil {
		return err
	}
	trees, err := m.DB.Saved(ctx, round.Project)
	if err != nil {
		return err
	}
	found := map[abaca.Ref]abaca.Verification{}
	if len(trees) > 0 {
		beat := func(ctx context.Context, until time.Time) error {
			return m.DB.Transact(ctx, func(tx *db.Tx) error { return tx.BeatRound(ctx, round, until) })
		}
		err = m.underLease(ctx, lease{asked: asked, beat: beat}, func(ctx context.Context) (err error) {
			found, err = m.Engine.Verify(ctx, round.Project, refs(trees), slice, func(abaca.Progress) {})
			return err
		})
		if err != nil {
			return err
		}
	}
	if err := m.step(ctx, "verify: read"); err != nil {
		return err
	}
	var done []abaca.Verified
	err = m.DB.Transact(ctx, func(tx *db.Tx) (err error) {
		if done, err = m.record(ctx, tx, trees, abaca.Verified{Slice: slice, Began: began}, found); err != nil {
			return err
		}
		return tx.AdvanceRound(ctx, round, next, began.Add(restVerified))
	})
	if err != nil {
		return err
	}
	m.logDamage(ctx, done)
	return m.step(ctx, "verify: recorded")
}

func (m *Manager) logDamage(ctx context.Context, done []abaca.Verified) {
	for _, v := range done {
		if v.Damaged > 0 {
			m.Log.ErrorContext(ctx, "saved data is damaged", strings.TrimPrefix(string(v.Kind), "share_")+"_id", v.ID, "share_id", v.Share, "project_id", v.Project,
				"files", v.Damaged, "detail", v.Detail)
		}
	}
}

// nextSlice returns a slice of the given width that begins at from, and where the one after it begins: at 0 once 1 is reached.
func nextSlice(from, width float64) (s abaca.Slice, next float64) {
	to := from + width
	// A sum of many widths misses 1 by less than this; what is left would be a slice of nothing.
	if to > 1-width/1000 {
		return abaca.Slice{From: from, To: 1}, 0
	}
	return abaca.Slice{From: from, To: to}, to
}
