package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/vbauerster/mpb/v8"

	"abaca/internal/client"
)

// A look is one answer to a waiter's question.
type look struct {
	state state
	err   error
}

// script returns a look function that plays answers and repeats the last one.
func script(answers ...look) func(context.Context) (state, error) {
	return func(context.Context) (state, error) {
		a := answers[0]
		if len(answers) > 1 {
			answers = answers[1:]
		}
		return a.state, a.err
	}
}

func TestWait(t *testing.T) {
	working := look{state: state{"creating", 30, false}}
	done := look{state: state{"available", 100, true}}
	broken := look{err: &client.ServerError{Status: 503, Message: "Service Unavailable"}}
	dead := look{err: io.ErrUnexpectedEOF}
	gone := look{err: &client.ServerError{Status: 404, Message: "no such backup"}}
	gaveUp := look{err: &failure{what: "backup x", status: "error", reason: "no space"}}
	tests := []struct {
		name     string
		answers  []look
		patience time.Duration
		says     string // of the error; empty for success
		printed  string
	}{
		{"ends when the work is done", []look{working, working, done}, time.Hour, "", "x: creating 30%, 0s\nx: available 100%, 0s\n"},
		{"outlives a restart of the server", []look{working, dead, broken, dead, working, done}, time.Hour, "",
			"x: creating 30%, 0s\nx: waiting for the server, 0s\nx: creating 30%, 0s\nx: available 100%, 0s\n"},
		{"does not wait for a dead server for ever", []look{working, dead}, 0, "unexpected EOF", ""},
		{"ends when the server refuses", []look{working, gone, done}, time.Hour, "no such backup", ""},
		{"ends when the work has failed", []look{working, gaveUp, done}, time.Hour, `backup x failed (status "error"): no space`, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			w := waiter{stderr: &out, pause: time.Nanosecond, patience: test.patience}
			err := w.wait(t.Context(), "x", script(test.answers...))
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("error %v, want %q", err, test.says)
			}
			if test.printed != "" && out.String() != test.printed {
				t.Errorf("printed\n%s, want\n%s", out.String(), test.printed)
			}
		})
	}
}

func TestWaitStopsAtOnceWhenInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	w := waiter{stderr: io.Discard, pause: time.Hour, patience: time.Hour}
	err := w.wait(ctx, "backup x", func(context.Context) (state, error) {
		cancel() // as Ctrl-C does while an answer is on its way
		return state{"creating", 1, false}, nil
	})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "the server goes on with it") {
		t.Errorf("error %v", err)
	}
	if exitCode(err) != 1 {
		t.Errorf("exit code %d", exitCode(err))
	}
}

func TestUntilGone(t *testing.T) {
	missing := &client.ServerError{Status: 404}
	tests := []struct {
		name   string
		status string
		err    error
		done   bool
		failed bool
	}{
		{"not found is gone", "", missing, true, false},
		{"deleting goes on", "deleting", nil, false, false},
		{"error is a failure", "error", nil, false, true},
		{"error_deleting is a failure", "error_deleting", nil, false, true},
		{"another refusal is an error", "", &client.ServerError{Status: 403}, false, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, err := untilGone("x", func(context.Context) (string, error) { return test.status, test.err })(t.Context())
			if s.done != test.done || (err != nil) != test.failed {
				t.Errorf("got %+v, %v", s, err)
			}
		})
	}
}

func TestPace(t *testing.T) {
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(first, percent int, after time.Duration) pace {
		return pace{status: "creating", first: first, percent: percent, start: start, now: start.Add(after)}
	}
	tests := []struct {
		name    string
		pace    pace
		outlook string
	}{
		{"slow work is counted by the minute", at(0, 10, 5*time.Minute), ", 2.0 %/min, 45m0s left"},
		{"quick work is counted by the second", at(0, 50, 10*time.Second), ", 5.0 %/s, 10s left"},
		{"what was done before watching does not count", at(40, 50, time.Minute), ", 10.0 %/min, 5m0s left"},
		{"nothing is foretold before anything was done", at(0, 0, time.Minute), ""},
		{"nothing is foretold without a percentage", at(unknown, unknown, time.Minute), ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.pace.outlook(); got != test.outlook {
				t.Errorf("got %q, want %q", got, test.outlook)
			}
		})
	}
}

func TestBarShowsWhatWasSeenLast(t *testing.T) {
	var out bytes.Buffer
	refresh := make(chan any)
	b := newBar("backup x", mpb.WithOutput(&out), mpb.WithManualRefresh(refresh), mpb.WithWidth(120))
	b.update("creating", 20)
	b.update("creating", 60)
	refresh <- time.Now()
	b.finish()
	for _, want := range []string{"backup x", "creating  60%", "[=", "left"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the bar %q lacks %q", out.String(), want)
		}
	}
}

func TestBarOfWorkWithoutAPercentageHasNoBar(t *testing.T) {
	var out bytes.Buffer
	refresh := make(chan any)
	b := newBar("share x", mpb.WithOutput(&out), mpb.WithManualRefresh(refresh), mpb.WithWidth(120))
	b.update("creating", unknown)
	refresh <- time.Now()
	b.finish()
	if text := out.String(); !strings.Contains(text, "share x creating") || strings.ContainsAny(text, "[%") {
		t.Errorf("the bar is %q", text)
	}
}
