package main

import (
	"fmt"
	"io"
	"os"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// A progress shows how far the server has come. Percent is unknown where an operation has none.
type progress interface {
	update(status string, percent int)
	finish() // leaves the last state on the screen
}

const unknown = -1

// newProgress shows a moving bar to people and plain lines to files and programs.
func newProgress(w io.Writer, what string) progress {
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return newBar(what, mpb.WithOutput(w))
	}
	return &lines{w: w, what: what, start: time.Now(), now: time.Now}
}

// A lines prints a line for each new status and every tenth of the work, so that a log stays short.
type lines struct {
	w       io.Writer
	what    string
	start   time.Time
	now     func() time.Time
	status  string
	percent int
}

func (l *lines) update(status string, percent int) {
	if status == l.status && percent/10 == l.percent/10 {
		return
	}
	l.status, l.percent = status, percent
	if percent != unknown {
		status = fmt.Sprintf("%s %d%%", status, percent)
	}
	//nolint:errcheck // the work does not depend on a line about it
	fmt.Fprintf(l.w, "%s: %s, %v\n", l.what, status, l.now().Sub(l.start).Round(time.Second))
}

func (l *lines) finish() {}

// A bar is drawn by goroutines of its own, which finish waits for.
type bar struct {
	all  *mpb.Progress
	one  *mpb.Bar
	pace chan pace // holds the latest, which the drawing goroutine reads too
}

// A pace is what a bar's words are made of.
type pace struct {
	status     string
	percent    int
	first      int       // the percentage when work was first seen, at start
	start, now time.Time // now is when percent was last seen
}

func newBar(what string, options ...mpb.ContainerOption) *bar {
	b := &bar{all: mpb.New(options...), pace: make(chan pace, 1)}
	b.pace <- pace{percent: unknown, first: unknown}
	text := func(words func(pace) string) decor.Decorator {
		return decor.Any(func(decor.Statistics) string { return words(b.seen()) })
	}
	style := mpb.BarStyle().Lbound("[").Filler("=").Tip(">").Padding(" ").Rbound("]")
	b.one = b.all.New(100, filler{style.Build(), b},
		mpb.PrependDecorators(decor.Name(what+" "), text(pace.done)),
		mpb.AppendDecorators(decor.Elapsed(decor.ET_STYLE_GO), text(pace.outlook)))
	return b
}

// A filler draws the bar itself. It draws nothing for work without a percentage: an empty bar looks like work that does not begin.
type filler struct {
	mpb.BarFiller
	bar *bar
}

func (f filler) Build() mpb.BarFiller { return f }

func (f filler) Fill(w io.Writer, s decor.Statistics) error {
	if f.bar.seen().percent == unknown {
		return nil
	}
	return f.BarFiller.Fill(w, s)
}

func (b *bar) seen() pace {
	p := <-b.pace
	b.pace <- p
	return p
}

func (b *bar) update(status string, percent int) {
	p := <-b.pace
	p.status, p.percent, p.now = status, percent, time.Now()
	if p.first == unknown || percent < p.first {
		p.first, p.start = percent, p.now
	}
	b.pace <- p
	b.one.SetCurrent(int64(max(0, percent)))
}

func (b *bar) finish() {
	b.one.Abort(false)
	b.all.Wait()
}

func (p pace) done() string {
	if p.percent == unknown {
		return p.status + " "
	}
	return fmt.Sprintf("%s %3d%% ", p.status, p.percent)
}

// outlook is the mean rate since watching began and the time left at that rate. The API tells percentages alone, not bytes.
func (p pace) outlook() string {
	elapsed := p.now.Sub(p.start)
	if p.percent <= p.first || elapsed <= 0 {
		return ""
	}
	perMinute := float64(p.percent-p.first) / elapsed.Minutes()
	left := time.Duration(float64(100-p.percent) / perMinute * float64(time.Minute)).Round(time.Second)
	if perMinute >= 60 {
		return fmt.Sprintf(", %.1f %%/s, %v left", perMinute/60, left)
	}
	return fmt.Sprintf(", %.1f %%/min, %v left", perMinute, left)
}
