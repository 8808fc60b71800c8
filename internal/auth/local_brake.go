package auth

import (
	"context"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// A brake makes guessing slow. Wrong guesses are counted for each address and each user's name, and each is answered later than
// the one before. It holds nobody up who is right: it is asked only after a guess was wrong.
type brake struct {
	now func() time.Time

	mu      sync.Mutex
	sources *simplelru.LRU[source, *misses] // the latest ones: an attacker with many addresses costs no more memory
	waiting int
}

// A source is where wrong guesses come from, or whom they are about; one of the two is empty.
type source struct {
	network netip.Prefix // an IPv4 address, or the /64 that an IPv6 subscriber has all addresses of
	name    string
}

type misses struct {
	count   int
	last    time.Time
	waiting int
}

// What a brake allows for. Everybody mistypes; whoever has not been wrong for a while starts anew.
const (
	freeMisses     = 3
	firstDelay     = 250 * time.Millisecond // doubled with each further miss
	longestDelay   = 8 * time.Second
	memory         = 15 * time.Minute
	maxSources     = 10_000
	maxWaiting     = 256 // requests that are made to wait at a time
	maxWaitingEach = 8   // of one source
)

func newBrake(now func() time.Time) *brake {
	sources, err := simplelru.NewLRU[source, *misses](maxSources, nil)
	if err != nil {
		panic(err) // the size is positive
	}
	return &brake{now: now, sources: sources}
}

// miss counts a wrong guess, waits, and returns the answer: 401, or without waiting 429 where enough requests wait already.
func (b *brake) miss(ctx context.Context, address, name string) error {
	delay, release := b.count(address, name)
	if release == nil {
		c := Unauthorized("There were too many wrong tokens.")
		c.Status = http.StatusTooManyRequests
		c.Header.Set("Retry-After", strconv.Itoa(int(longestDelay/time.Second)))
		return c
	}
	defer release()
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return unknown("The token is not one of this server.")
}

// count notes a miss of the address and of the name, if one is given, and takes a place among those who wait; release, which gives
// it back, is nil where there is none.
func (b *brake) count(address, name string) (delay time.Duration, release func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	noted := []*misses{b.note(source{network: networkOf(address)})}
	if userName.MatchString(name) { // nobody can have another one
		noted = append(noted, b.note(source{name: name}))
	}
	room := b.waiting < maxWaiting
	for _, m := range noted {
		delay = max(delay, m.delay())
		room = room && m.waiting < maxWaitingEach
	}
	if !room {
		return 0, nil
	}
	add := func(n int) {
		b.waiting += n
		for _, m := range noted {
			m.waiting += n
		}
	}
	add(1)
	return delay, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		add(-1)
	}
}

// note counts a miss of one source.
func (b *brake) note(s source) *misses {
	m, ok := b.sources.Get(s)
	if !ok {
		m = &misses{}
		b.sources.Add(s, m)
	}
	now := b.now()
	if now.Sub(m.last) > memory {
		m.count = 0
	}
	m.count, m.last = m.count+1, now
	return m
}

func (m *misses) delay() time.Duration {
	if m.count <= freeMisses {
		return 0
	}
	return min(firstDelay<<min(m.count-freeMisses-1, 10), longestDelay)
}

// networkOf returns the network that an address of a connection counts as.
func networkOf(address string) netip.Prefix {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return netip.Prefix{} // no address of the internet, such as a socket's: all of them are one source
	}
	ip, bits := at.Addr().Unmap().WithZone(""), 32
	if ip.Is6() {
		bits = 64
	}
	network, err := ip.Prefix(bits)
	if err != nil {
		panic(err) // there are as many bits
	}
	return network
}
