package health

import (
	"context"
	"errors"
	"sync"
	"time"
)

// ErrSilent says that a question has not been answered in time.
var ErrSilent = errors.New("there is no answer")

// A Probe asks something that may hang, as a mount or a database may, on behalf of callers that must not. However many there are, one
// question at a time is asked, of which all get the answer.
type Probe[T any] struct {
	Ask      func(context.Context) (T, error)
	Fresh    time.Duration // how long an answer is good
	Patience time.Duration // when the context given to Ask ends, and how long callers wait at most

	mu      sync.Mutex
	asked   time.Time     // when the latest question was
	pending chan struct{} // closed at its answer; nil after that
	answer  T
	err     error
	at      time.Time // of the answer
}

// Get returns a fresh answer, or ErrSilent.
func (p *Probe[T]) Get() (T, error) {
	p.mu.Lock()
	if p.pending == nil {
		if !p.at.IsZero() && time.Since(p.at) < p.Fresh {
			defer p.mu.Unlock()
			return p.answer, p.err
		}
		p.asked, p.pending = time.Now(), make(chan struct{})
		go p.ask(p.pending)
	}
	pending, rest := p.pending, p.Patience-time.Since(p.asked)
	p.mu.Unlock()
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-pending:
	case <-timer.C:
		var none T
		return none, ErrSilent
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.answer, p.err
}

func (p *Probe[T]) ask(pending chan struct{}) {
	ctx, cancel := context.WithTimeout(context.Background(), p.Patience)
	defer cancel()
	answer, err := p.Ask(ctx)
	p.mu.Lock()
	p.answer, p.err, p.at, p.pending = answer, err, time.Now(), nil
	p.mu.Unlock()
	close(pending)
}
