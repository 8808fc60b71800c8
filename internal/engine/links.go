package engine

import "sync"

// A readFiles remembers files with several names, so that only the first is read. It forgets all when it is full:
// then a file is read once more, and stored no second time.
type readFiles struct {
	mu    sync.Mutex
	files map[fileID]entry
}

type fileID struct{ scope, ino uint64 }

const maxLinks = 50_000

// find returns the entry of another name of the file that e describes, if that file is still the same.
func (t *readFiles) find(e *entry) *entry {
	if e.nlink < 2 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	known, ok := t.files[fileID{e.scope, e.ino}]
	if !ok || known.ctime != e.ctime || known.mtime != e.mtime || known.size != e.size || known.mark != markNone {
		return nil
	}
	return &known
}

func (t *readFiles) keep(e *entry) {
	if e.nlink < 2 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.files == nil || len(t.files) >= maxLinks {
		t.files = make(map[fileID]entry)
	}
	known := *e
	known.name = "" // each name has its own
	t.files[fileID{e.scope, e.ino}] = known
}
