package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"abaca"
)

// maxDetail is how many lines of detail a report has.
const maxDetail = 50

// A tally counts what a restore does, from several goroutines.
type tally struct {
	ctx    context.Context // the restore's, for the log
	log    *slog.Logger    // hears of every entry that fails, which makes the list in the log complete
	stored atomic.Int64    // bytes written

	mu         sync.Mutex
	changed    int64 // entries that were saved while they changed
	unreadable int64 // entries whose attributes could not all be set, or that were saved without their content
	failed     int64 // entries that are not as they were saved
	damaged    bool  // saved data was not readable
	first      error // of the failed
	detail     []string
}

// note adds a line of detail.
func (t *tally) note(path, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.line(path, fmt.Sprintf(format, args...))
}

func (t *tally) line(path, text string) {
	if path == "" {
		path = "."
	}
	switch {
	case len(t.detail) < maxDetail:
		t.detail = append(t.detail, fmt.Sprintf("%q: %s", path, text))
	case len(t.detail) == maxDetail:
		t.detail = append(t.detail, "and more")
	}
}

// A location says where something is below the root. Its words are made only for what is told: in a deep tree paths
// cost more than all the rest.
type location interface{ path() string }

// incomplete counts an entry whose content is right but not all of its attributes.
func (t *tally) incomplete(at location, problems []string) {
	if len(problems) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.unreadable++
	t.line(at.path(), strings.Join(problems, "; "))
}

// marked counts an entry that is restored but was not saved as it should have been.
func (t *tally) marked(j *job) {
	switch j.e.mark {
	case markUnreadable:
		t.incomplete(j, []string{"was saved without its content"})
	case markAttributes:
		t.incomplete(j, []string{"was saved without all of its extended attributes"})
	case markChanged:
		t.mu.Lock()
		t.changed++
		t.mu.Unlock()
		t.note(j.path(), "changed while it was saved")
	}
}

// fail counts an entry that could not be restored; the others go on.
func (t *tally) fail(path string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failed++
	if t.first == nil {
		t.first = fmt.Errorf("restore %q: %w", path, err)
	}
	t.log.WarnContext(t.ctx, "an entry could not be restored", "path", path, "error", err)
	if errors.Is(err, errDamaged) {
		t.damaged = true
		t.line(path, errDamaged.Error()) // where exactly in the repository is nothing for a tenant
		return
	}
	t.line(path, err.Error())
}

// result is the error at the end of a restore that went through the whole tree.
func (t *tally) result() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed == 0 {
		return nil
	}
	text := fmt.Sprintf("%d entries could not be restored:\n%s", t.failed, strings.Join(t.detail, "\n"))
	err := t.first
	if t.damaged {
		err = fmt.Errorf("%w: %w", abaca.ErrPermanent, err)
	}
	return &abaca.Reason{Text: text, Err: err}
}

// report tells what was done, the size of the saved tree aside.
func (t *tally) report() abaca.Report {
	t.mu.Lock()
	defer t.mu.Unlock()
	return abaca.Report{
		Stored: t.stored.Load(), Changed: t.changed, Unreadable: t.unreadable, Detail: strings.Join(t.detail, "\n"),
	}
}

// errDamaged says that saved data is gone or does not decode.
var errDamaged = errors.New("saved data is missing or damaged")

// fatal tells errors that meet every file from those that meet one, and words the former for the tenant; nil for the latter.
// Those of a storage that fails are worded elsewhere: the restore is tried again, and nothing that was saved is called damaged for them.
func fatal(err error) error {
	text := ""
	if f, ok := errors.AsType[fenced](err); ok {
		return f
	}
	switch {
	case errors.Is(err, errStorage):
		return err
	case errors.Is(err, errDamaged): // of the medium that it is on, too
		return nil
	case errors.Is(err, unix.ENOSPC):
		text = "the share's file system is full"
	case errors.Is(err, unix.EDQUOT):
		text = "the share's quota is used up"
	case errors.Is(err, unix.EROFS):
		text = "the share's file system is read-only"
	case errors.Is(err, unix.EIO), errors.Is(err, unix.ESTALE):
		text = "the share's file system failed"
	case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE), errors.Is(err, unix.ENOMEM):
		return err
	default:
		return nil
	}
	return &abaca.Reason{Text: text, Err: err}
}
