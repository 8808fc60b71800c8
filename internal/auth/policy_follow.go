package auth

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// A PolicyFile is the policy that a file makes of the defaults. It follows the file's changes.
type PolicyFile struct {
	path    string
	log     *slog.Logger
	current atomic.Pointer[Policy]

	// What Follow knows of the file: how it was when it was last read, and when it was last looked at; zero for no file.
	read, seen version
}

// OpenPolicy reads a policy file, which holds rules that override the defaults, as YAML or JSON. Where it need not exist, a missing
// one overrides nothing. The errors are one line and begin with file:line where they are about a line.
//
// Refused are: a file that somebody else could change; what is no string, or not in oslo.policy's language; rules that neither
// Manila has nor another rule refers to; references to rules that there are not, or in a circle; checks of what is not known of
// callers and things, which oslo.policy takes for false without a word.
func OpenPolicy(path string, required bool, log *slog.Logger) (*PolicyFile, error) {
	f := &PolicyFile{path: path, log: log}
	p, read, err := readPolicy(path)
	if _, none := os.Lstat(path); !required && errors.Is(none, fs.ErrNotExist) { // unlike a link that leads nowhere
		p, err = DefaultPolicy(), nil
	}
	if err != nil {
		return nil, err
	}
	f.current.Store(p)
	f.read, f.seen = read, read
	return f, nil
}

// Current returns the policy that is in force. A request must be decided by one from its beginning to its end.
func (f *PolicyFile) Current() *Policy { return f.current.Load() }

// lookEvery is how often a policy file is looked at. A changed one is read when it has not changed for as long, since somebody may
// still be writing it.
const lookEvery = time.Second

// Follow puts the file's changes into force until ctx ends. A file with an error, or none where there was one, changes nothing and is
// logged once.
func (f *PolicyFile) Follow(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			f.look()
		case <-ctx.Done():
			return
		}
	}
}

func (f *PolicyFile) look() {
	var now version
	info, err := os.Stat(f.path)
	if err == nil {
		now = versionOf(info)
	}
	settled := now == f.seen
	f.seen = now
	if !settled || now == f.read {
		return
	}
	if err != nil {
		f.read = now
		f.log.Error("the policy file cannot be found; what was read from it stays in force", "error", err)
		return
	}
	p, read, err := readPolicy(f.path)
	if err == nil && read != now {
		return // it has changed again
	}
	f.read = now
	if err != nil {
		f.log.Error("the policy file is not used; what was read before stays in force", "error", err)
		return
	}
	f.current.Store(p)
	f.log.Info("the policy file has changed and is in force", "file", f.path)
}
