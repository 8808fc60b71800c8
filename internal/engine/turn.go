package engine

import (
	"context"
	"errors"
	"sync"
)

// A turn is the right to save or delete under an id, of one at a time in this process. Who is cancelled and does not end, because the share's
// file system holds it up in a call, loses it to the next: what it publishes after that, if it ever gets so far, would bring back what others have
// deleted, and is refused.
type turn struct {
	r         *repository
	id        string
	cancelled <-chan struct{}
	ended     chan struct{}

	mu   sync.Mutex // held while something is published
	lost bool
}

var errTurnLost = errors.New("another has saved or deleted under this id since the save was cancelled")

// takeTurn waits until nobody else has a turn under the id, but for who was cancelled.
func (r *repository) takeTurn(ctx context.Context, id string) (*turn, error) {
	mine := &turn{r: r, id: id, cancelled: ctx.Done(), ended: make(chan struct{})}
	for {
		v, taken := r.saving.LoadOrStore(id, mine)
		if !taken {
			return mine, nil
		}
		other := v.(*turn)
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-other.ended:
		case <-other.cancelled:
			other.mu.Lock()
			other.lost = true
			other.mu.Unlock()
			r.saving.CompareAndDelete(id, other)
		}
	}
}

// end gives the turn up.
func (t *turn) end() {
	t.r.saving.CompareAndDelete(t.id, t)
	close(t.ended)
}

// publish makes something known under the id while the turn is kept.
func (t *turn) publish(do func() error) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.lost {
		return errTurnLost
	}
	return do()
}
