package engine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kopia/kopia/repo/blob"

	"abaca"
)

// Reach fails where the place of all repositories cannot be reached. It reads next to nothing, and may hang as long as a mount does.
func (e *Engine) Reach(ctx context.Context) error {
	if b := e.config.Bucket; b != nil {
		there, err := e.client.BucketExists(ctx, b.Name)
		if err == nil && !there {
			err = errors.New("there is no such bucket")
		}
		return wrap("reaching the repositories", err)
	}
	d, err := os.Open(e.config.Root)
	if err != nil {
		return fmt.Errorf("reaching the repositories: %w", err)
	}
	defer d.Close()
	_, err = d.Stat()
	return wrap("reaching the repositories", err)
}

// Stored returns the bytes of all blobs of a project's repository, what nothing refers to any more included; 0 where there is none.
func (e *Engine) Stored(ctx context.Context, project abaca.ProjectID) (bytes int64, err error) {
	r, release, err := e.pool.acquire(ctx, project, mustExist)
	if errors.Is(err, errNoRepository) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer release()
	err = r.kopia.BlobReader().ListBlobs(ctx, "", func(m blob.Metadata) error {
		bytes += m.Length
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("measuring the repository of project %s: %w", project, err)
	}
	return bytes, nil
}
