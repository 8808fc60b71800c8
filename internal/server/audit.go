package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"abaca"
)

// auditName is the audit log's default name in the data directory.
const auditName = "audit.log"

// Words for log.audit that are no paths.
const (
	auditOff    = "off"
	auditStderr = "stderr"
)

// openAudit makes what writes audits as the configuration says, a JSON object a line; nil for nothing.
func (c *Config) openAudit(log *slog.Logger) (audit func(abaca.Audit), close func() error, err error) {
	switch c.Log.Audit {
	case auditOff:
		return nil, nil, nil
	case auditStderr:
		return auditor(os.Stderr), func() error { return nil }, nil
	}
	f := &auditFile{path: c.Log.Audit, log: log}
	if err := f.open(); err != nil {
		return nil, nil, fmt.Errorf("open audit log: %w", err)
	}
	return auditor(f), f.Close, nil
}

// auditor writes an audit's fields and nothing of the handler's own.
func auditor(w io.Writer) func(abaca.Audit) {
	h := slog.NewJSONHandler(w, &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 0 && (a.Key == slog.LevelKey || a.Key == slog.MessageKey) {
			return slog.Attr{}
		}
		return a
	}})
	return func(a abaca.Audit) {
		r := slog.NewRecord(time.Time{}, slog.LevelInfo, "", 0) // without a time of its own, since the audit has one
		r.AddAttrs(a.Attrs()...)
		h.Handle(context.Background(), r) //nolint:errcheck // an auditFile tells of its errors itself, and standard error has nobody to tell
	}
}

// An auditFile is a file that lines are appended to, one write each. It is opened anew when it has been moved away.
type auditFile struct {
	path string
	log  *slog.Logger // for what could not be written

	mu   sync.Mutex
	file *os.File
	info os.FileInfo
	torn bool // whether the file ends in the middle of a line, as after a power loss or on a full disk
}

// Write appends a line. Where that fails, the line is in the log instead; who is audited goes on.
func (f *auditFile) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.append(line); err != nil {
		f.log.Error("writing the audit log", "error", err, "line", string(line))
		return 0, err
	}
	return len(line), nil
}

func (f *auditFile) append(line []byte) error {
	if now, err := os.Stat(f.path); f.file == nil || err != nil || !os.SameFile(now, f.info) {
		if err := f.open(); err != nil {
			return err
		}
	}
	if f.torn {
		line = append([]byte("\n"), line...)
	}
	n, err := f.file.Write(line)
	if n > 0 {
		f.torn = err != nil
	}
	return err
}

// open opens the file, which only its owner can read where it is made, and lets go of the one before.
func (f *auditFile) open() error {
	file, err := os.OpenFile(f.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", f.path)
	}
	torn := false
	if err == nil && info.Size() > 0 {
		last := make([]byte, 1)
		_, err = file.ReadAt(last, info.Size()-1)
		torn = last[0] != '\n'
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	old := f.file
	f.file, f.info, f.torn = file, info, torn
	if old != nil {
		return old.Close()
	}
	return nil
}

// Close closes the file.
func (f *auditFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.file.Close()
}
