package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"abaca/internal/client"
)

// How often a waiter asks: at once for small work, less and less for long work.
const (
	firstPause = 200 * time.Millisecond
	longPause  = 2 * time.Second
)

// patience is how long a server may be unreachable before a wait gives up: longer than a restart takes.
const patience = 2 * time.Minute

// A state is what a look at unfinished work found.
type state struct {
	status  string
	percent int
	done    bool
}

// A waiter follows work that the server does, and stops nothing when it is interrupted.
type waiter struct {
	stderr   io.Writer
	pause    time.Duration
	patience time.Duration
}

func newWaiter(stderr io.Writer) waiter {
	return waiter{stderr: stderr, pause: firstPause, patience: patience}
}

// wait calls look until the work is done or look returns a refusal of the server or a failure of the work.
// Answers that a server gives, or fails to give, while it is restarted are waited out.
func (w waiter) wait(ctx context.Context, what string, look func(context.Context) (state, error)) error {
	show := newProgress(w.stderr, what)
	defer show.finish()
	answered := time.Now()
	for pause := w.pause; ; pause = min(longPause, pause*5/4) {
		s, err := look(ctx)
		switch {
		case ctx.Err() != nil:
			return &interruption{what: what, err: ctx.Err()}
		case err == nil:
			answered = time.Now()
			show.update(s.status, s.percent)
			if s.done {
				return nil
			}
		case !passing(err) || time.Since(answered) > w.patience:
			return err
		default:
			show.update("waiting for the server", unknown)
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// An interruption is a wait that its user ended, as by Ctrl-C.
type interruption struct {
	what string
	err  error
}

func (i *interruption) Error() string {
	return "no longer waiting for " + i.what + "; the server goes on with it"
}

func (i *interruption) Unwrap() error { return i.err }

// passing reports whether an error may go away by itself: no answer at all, or one that blames the server.
func passing(err error) bool {
	if _, failed := errors.AsType[*failure](err); failed {
		return false
	}
	refusal, ok := errors.AsType[*client.ServerError](err)
	return !ok || refusal.Status >= 500
}

// A failure is work that the server gave up.
type failure struct {
	what, status, reason string
}

func (f *failure) Error() string {
	if f.reason == "" {
		return fmt.Sprintf("%s failed: its status is %q", f.what, f.status)
	}
	return fmt.Sprintf("%s failed (status %q): %s", f.what, f.status, f.reason)
}

// failed makes a failure with the reason that the server told its users, if it told one after a time.
func failed(ctx context.Context, c *client.Client, what, status, share, after string) error {
	reason, err := c.LatestMessage(ctx, share, after)
	if err != nil || reason == "" {
		return &failure{what: what, status: status} // the failure itself matters more than why its reason cannot be had
	}
	return &failure{what: what, status: status, reason: printable(reason)}
}

// note prints what the server told its users about work that succeeded, such as files that could not be read.
func (w waiter) note(ctx context.Context, c *client.Client, share, after string) error {
	text, err := c.LatestMessage(ctx, share, after)
	if err != nil {
		return fmt.Errorf("asking for messages: %w", err)
	}
	if text != "" {
		_, err = fmt.Fprintln(w.stderr, printable(text))
	}
	return err
}

// untilGone looks at something that is being deleted. A share or backup that is not found is gone.
func untilGone(what string, status func(context.Context) (string, error)) func(context.Context) (state, error) {
	return func(ctx context.Context) (state, error) {
		s, err := status(ctx)
		switch {
		case client.IsNotFound(err):
			return state{status: "deleted", percent: unknown, done: true}, nil
		case err != nil:
			return state{}, err
		case s == "error" || s == "error_deleting":
			return state{}, &failure{what: "deleting " + what, status: s}
		}
		return state{status: s, percent: unknown}, nil
	}
}
