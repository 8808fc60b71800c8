package engine

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kopia/kopia/repo/content"
	"github.com/kopia/kopia/repo/object"
)

// A previousReader walks through a directory object of the previous snapshot beside the sorted names of today.
type previousReader struct {
	object object.Reader // nil for no base
	dec    *dirDecoder
	entry  entry
	valid  bool // entry has been read and not been passed
	end    bool
}

// openPrevious opens a directory object for comparing; the empty id gives a reader of nothing.
func (s *saver) openPrevious(ctx context.Context, id object.ID) (*previousReader, error) {
	if id == object.EmptyID {
		return &previousReader{end: true}, nil
	}
	r, err := s.source.OpenObject(ctx, id)
	if err != nil {
		return nil, s.lost(ctx, id, err)
	}
	dec, err := newDirDecoder(r)
	if err != nil {
		r.Close()
		return nil, previousError(ctx, err)
	}
	return &previousReader{object: r, dec: dec}, nil
}

// lost notes a directory object that cannot be read, since the save that starts over would take it for stored.
func (s *saver) lost(ctx context.Context, id object.ID, err error) error {
	if c, _, ok := id.ContentID(); ok && ending(ctx, err) == nil {
		nerr := s.w.renewal.notes.change(ctx, func(ids map[content.ID]struct{}) { ids[c] = struct{}{} })
		err = errors.Join(err, nerr)
	}
	return previousError(ctx, err)
}

func previousError(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w: %w", errPrevious, err)
}

// describes reports whether the object is of a root directory that has not changed; nobody else tells of a root.
func (b *previousReader) describes(root *item) bool {
	return b.dec != nil && b.dec.header.self != nil && root.equals(b.dec.header.self, 0)
}

func (b *previousReader) close() {
	if b.object != nil {
		b.object.Close()
	}
}

// peek returns the current entry, nil behind the last. It is valid until pass.
func (b *previousReader) peek() (*entry, error) {
	if b.valid {
		return &b.entry, nil
	}
	if b.end {
		return nil, nil
	}
	err := b.dec.next(&b.entry)
	if errors.Is(err, io.EOF) {
		b.end = true
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPrevious, err)
	}
	b.valid = true
	return &b.entry, nil
}

func (b *previousReader) pass() { b.valid = false }

// find passes all entries before name, says how many, and passes and returns that of this name, nil if there is none.
func (b *previousReader) find(name string) (e *entry, between int, err error) {
	if b.dec != nil {
		b.dec.expected = name
	}
	for {
		e, err = b.peek()
		if e == nil || err != nil || e.name > name {
			return nil, between, err
		}
		b.pass()
		if e.name == name {
			return e, between, nil
		}
		between++
	}
}

// rest passes all entries that are left and says how many they were.
func (b *previousReader) rest() (n int, err error) {
	for {
		e, err := b.peek()
		if e == nil || err != nil {
			return n, err
		}
		b.pass()
		n++
	}
}

// totals returns what the object says of itself; only valid behind the last entry.
func (b *previousReader) totals() totals {
	if b.dec == nil {
		return totals{}
	}
	return b.dec.totals
}
