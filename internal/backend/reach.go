package backend

import (
	"context"
	"errors"
	"fmt"
	"os"
)

// Reach fails where the back end's path cannot be reached, or leads to another directory than the one that was opened, as when its file
// system has been unmounted. It reads next to nothing, and may hang as long as a mount does.
func (d *Directory) Reach(context.Context) error {
	now, err := os.Stat(d.real)
	if err != nil {
		return fmt.Errorf("reach back end: %w", err)
	}
	opened, err := d.root.Stat()
	if err != nil {
		return fmt.Errorf("reach back end: %w", err)
	}
	if !os.SameFile(now, opened) {
		return fmt.Errorf("reach back end: %s is not the directory that was opened", d.real)
	}
	return nil
}

// Reach is Directory.Reach, and fails at once while the back end has not been opened.
func (p *Patient) Reach(ctx context.Context) error {
	select {
	case <-p.opened:
		return p.files.Reach(ctx)
	default:
		return errors.New("reach back end: it has not answered since the start")
	}
}
