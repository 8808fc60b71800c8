package engine

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"abaca"
)

// reportEvery is how often progress is told.
const reportEvery = 500 * time.Millisecond

// A meter counts what has been found and what is done.
type meter struct {
	filesFound, bytesFound atomic.Int64
	filesDone, bytesDone   atomic.Int64
	bytesRead              atomic.Int64 // of files that are not done yet, or were read again

	opened, took atomic.Int64  // files that a save has opened, and bytes that it has read from them
	stored       *atomic.Int64 // bytes that it has written; nil where nothing is saved
}

func (m *meter) find(files, bytes int64) {
	m.filesFound.Add(files)
	m.bytesFound.Add(bytes)
}

// do counts whole files, with the sizes they were found with.
func (m *meter) do(files, bytes int64) {
	m.filesDone.Add(files)
	m.bytesDone.Add(bytes)
}

// read counts bytes of a large file while it is being read; the file's size takes their place when it is done.
func (m *meter) read(bytes int64) { m.bytesRead.Add(bytes) }

// now returns the progress. What is done is read first, so that it is never more than what was found.
func (m *meter) now() abaca.Progress {
	p := abaca.Progress{FilesDone: m.filesDone.Load(), BytesDone: m.bytesDone.Load() + m.bytesRead.Load()}
	p.FilesFound, p.BytesFound = m.filesFound.Load(), m.bytesFound.Load()
	p.FilesDone, p.BytesDone = min(p.FilesDone, p.FilesFound), min(p.BytesDone, p.BytesFound)
	p.FilesRead, p.BytesRead = m.opened.Load(), m.took.Load()
	if m.stored != nil {
		p.Stored = m.stored.Load()
	}
	return p
}

// tell calls report from one goroutine on time until stop, which waits for it, and a last time then.
func (m *meter) tell(ctx context.Context, report func(abaca.Progress)) (stop func()) {
	if report == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	var last abaca.Progress
	next := func() abaca.Progress {
		p := m.now()
		p.BytesDone = max(p.BytesDone, last.BytesDone) // a file that is read again has not gone backwards
		last = p
		return p
	}
	go func() {
		defer close(done)
		tick := time.NewTicker(reportEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				report(next())
				return
			case <-tick.C:
				report(next())
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// A markList keeps what could not be saved as it should be: how often, and the first few in words.
type markList struct {
	mu                  sync.Mutex
	changed, unreadable int64
	lines               []string
}

const maxMarkLines = 20

// add notes a marked path; it is quoted, since its bytes are a tenant's.
func (l *markList) add(path string, m mark, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if m == markChanged {
		l.changed++
	} else {
		l.unreadable++
	}
	if len(l.lines) < maxMarkLines {
		l.lines = append(l.lines, fmt.Sprintf("%q: %v", path, why))
	}
}

// fillIn completes a report.
func (l *markList) fillIn(r *abaca.Report) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r.Changed, r.Unreadable, r.Detail = l.changed, l.unreadable, strings.Join(l.lines, "\n")
}
