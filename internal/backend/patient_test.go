package backend

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"abaca"
)

func open(t *testing.T) *Patient {
	t.Helper()
	p, err := Open("remote", "directory", filepath.Join(t.TempDir(), "shares"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func TestWhatIsAskedOfABackEndThatHangsIsAnsweredInTimeByFewGoroutines(t *testing.T) {
	p := open(t)
	answer := make(chan struct{})
	var asked atomic.Int64
	hang := func(context.Context, files) (int, error) {
		asked.Add(1)
		<-answer
		return 1, nil
	}
	for range 3 * maxAsked {
		if _, err := ask(t.Context(), p, time.Millisecond, hang); abaca.FaultOf(err) != abaca.Unavailable {
			t.Errorf("asked in vain: %v", err)
		}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ask(gone, p, time.Hour, hang); err == nil {
		t.Error("who has gone away is answered")
	}
	if n := asked.Load(); n > maxAsked {
		t.Errorf("%d goroutines hang, %d may", n, maxAsked)
	}
	close(answer)
	for n := 0; n != 1; { // a goroutine comes back some time
		var err error
		n, err = ask(t.Context(), p, time.Minute, func(context.Context, files) (int, error) { return 1, nil })
		if err != nil && abaca.FaultOf(err) != abaca.Unavailable {
			t.Fatal(err)
		}
	}
}

func TestAnErrorOfABackEndIsToldAsItIs(t *testing.T) {
	p, wrong := open(t), errors.New("wrong")
	_, err := ask(t.Context(), p, time.Hour, func(context.Context, files) (int, error) { return 0, wrong })
	if err != wrong {
		t.Errorf("told is %v", err)
	}
	if err := p.Sweep(t.Context(), nil); err != nil {
		t.Errorf("a back end without snapshots: %v", err)
	}
}

func TestABackEndThatCannotBeOpenedIsAnErrorAtOnce(t *testing.T) {
	for _, driver := range []string{"directory", "btrfs"} {
		if p, err := Open("remote", driver, "/proc/self/status/shares", slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%s: opened %v", driver, p.Close())
		}
	}
}

func TestABackEndAnswersUntilAnAnswerIsOverdue(t *testing.T) {
	p := open(t)
	now := time.Now()
	p.now = func() time.Time { return now }
	if !p.Answers() {
		t.Error("before it was asked")
	}
	p.mu.Lock()
	p.asking, p.since = true, now // as when it is asked and does not answer
	p.mu.Unlock()
	now = now.Add(slow - 1)
	if !p.Answers() {
		t.Error("while it may take its time")
	}
	now = now.Add(1)
	if p.Answers() {
		t.Error("although the answer is overdue")
	}
	p.probe()
	if !p.Answers() {
		t.Error("after it has answered")
	}
}
