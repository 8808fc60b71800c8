package auth

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// guess sends a wrong token from an address and returns the status of the answer and how long it took.
func guess(t *testing.T, l *Local, address string, headers ...string) (status int, took time.Duration) {
	t.Helper()
	if headers == nil {
		headers = []string{"X-Auth-Token", "wrong"}
	}
	r := asking(headers...)
	r.RemoteAddr = address
	begun := time.Now()
	_, err := l.Authenticate(r.WithContext(t.Context()))
	c, ok := errors.AsType[*Challenge](err)
	if !ok {
		t.Fatalf("a wrong token is answered with %v", err)
	}
	return c.Status, time.Since(begun)
}

// within runs a test with a clock that moves on as soon as everybody waits.
func within(t *testing.T, test func(t *testing.T, l *Local, ann string)) {
	d, ann, _ := newDesk(t)
	synctest.Test(t, func(t *testing.T) {
		l, err := OpenLocal(d.Path, time.Now, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		test(t, l, ann)
	})
}

func TestEachWrongGuessIsAnsweredLaterThanTheOneBefore(t *testing.T) {
	within(t, func(t *testing.T, l *Local, ann string) {
		const here = "192.0.2.1:1"
		for i, wanted := range []time.Duration{0, 0, 0, 250, 500, 1000, 2000, 4000, 8000, 8000, 8000} {
			if status, took := guess(t, l, here); status != 401 || took != wanted*time.Millisecond {
				t.Errorf("guess %d: %d after %v, want %v", i, status, took, wanted*time.Millisecond)
			}
		}
		for range 100 {
			guess(t, l, here)
		}
		if _, took := guess(t, l, here); took != longestDelay {
			t.Errorf("after many it takes %v", took)
		}
		begun := time.Now()
		r := asking("X-Auth-Token", ann)
		r.RemoteAddr = here
		if c, err := l.Authenticate(r); err != nil || c.User != "ann" || time.Since(begun) != 0 {
			t.Errorf("a right one: %v, %v after %v", c, err, time.Since(begun))
		}
		if _, took := guess(t, l, "192.0.2.2:1"); took != 0 {
			t.Errorf("another address waits %v", took)
		}
		<-time.After(memory + time.Second)
		if _, took := guess(t, l, here); took != 0 {
			t.Errorf("after a while it waits %v", took)
		}
	})
}

func TestGuessesAreCountedForANetworkAndForAName(t *testing.T) {
	within(t, func(t *testing.T, l *Local, _ string) {
		for _, test := range []struct {
			name    string
			address func(i int) string
			headers []string
			slowed  bool
		}{
			{"one address, other ports", func(i int) string { return fmt.Sprintf("198.51.100.1:%d", i) }, nil, true},
			{"one IPv4 address written as IPv6", func(i int) string { return fmt.Sprintf("[::ffff:198.51.100.2]:%d", i) }, nil, true},
			{"one /64", func(i int) string { return fmt.Sprintf("[2001:db8::%x]:1", i) }, nil, true},
			{"several /64", func(i int) string { return fmt.Sprintf("[2001:db8:0:%x::1]:1", i+1) }, nil, false},
			{"several IPv4 addresses", func(i int) string { return fmt.Sprintf("203.0.113.%d:1", i) }, nil, false},
			{"several addresses, one name", func(i int) string { return fmt.Sprintf("203.0.114.%d:1", i) }, []string{"Basic", "ann:x"}, true},
			{"several addresses, one name that nobody has", func(i int) string { return fmt.Sprintf("203.0.115.%d:1", i) },
				[]string{"Basic", "zoe:x"}, true},
			{"no address", func(int) string { return "@" }, nil, true},
		} {
			var last time.Duration
			for i := range 10 {
				_, last = guess(t, l, test.address(i), test.headers...)
			}
			if (last > 0) != test.slowed {
				t.Errorf("%s: the last one waits %v", test.name, last)
			}
		}
	})
}

func TestNoMoreThanSoManyGuessesWait(t *testing.T) {
	within(t, func(t *testing.T, l *Local, ann string) {
		statuses := make(chan int)
		send := func(address string) {
			go func() {
				r := asking("X-Auth-Token", "wrong")
				r.RemoteAddr = address
				_, err := l.Authenticate(r)
				c, _ := errors.AsType[*Challenge](err)
				if c.Status == http.StatusTooManyRequests && c.Header.Get("Retry-After") == "" {
					t.Error("429 without Retry-After")
				}
				statuses <- c.Status
			}()
		}
		// The first ones of an address are answered at once.
		hosts := maxWaiting/maxWaitingEach + 1
		for host := range hosts {
			for range freeMisses {
				guess(t, l, fmt.Sprintf("192.0.2.%d:1", host))
			}
		}
		for host := range hosts {
			for range maxWaitingEach + 5 {
				send(fmt.Sprintf("192.0.2.%d:1", host))
			}
		}
		synctest.Wait()
		if l.brake.waiting != maxWaiting {
			t.Errorf("%d wait", l.brake.waiting)
		}
		begun := time.Now()
		if c, err := l.Authenticate(asking("X-Auth-Token", ann)); err != nil || c.User != "ann" || time.Since(begun) != 0 {
			t.Errorf("a right one: %v, %v after %v", c, err, time.Since(begun))
		}
		count := map[int]int{}
		for range hosts * (maxWaitingEach + 5) {
			count[<-statuses]++
		}
		if count[401] != maxWaiting || count[429] != hosts*(maxWaitingEach+5)-maxWaiting || l.brake.waiting != 0 {
			t.Errorf("answers %v, %d still wait", count, l.brake.waiting)
		}
	})
}

func TestWhoLeavesGivesItsPlaceBack(t *testing.T) {
	within(t, func(t *testing.T, l *Local, _ string) {
		for range freeMisses {
			guess(t, l, "192.0.2.1:1")
		}
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			_, err := l.Authenticate(asking("X-Auth-Token", "wrong").WithContext(ctx))
			done <- err
		}()
		synctest.Wait()
		if l.brake.waiting != 1 {
			t.Errorf("%d wait", l.brake.waiting)
		}
		leave()
		if err := <-done; err == nil || l.brake.waiting != 0 {
			t.Errorf("%v, %d wait", err, l.brake.waiting)
		}
	})
}

func TestGuessesFromManyAddressesCostNoMoreMemory(t *testing.T) {
	b := newBrake(time.Now)
	for i := range 3 * maxSources {
		_, release := b.count(fmt.Sprintf("10.%d.%d.%d:1", i>>16, i>>8&255, i&255), fmt.Sprintf("user%d", i))
		release()
	}
	if n := b.sources.Len(); n > maxSources {
		t.Errorf("%d sources are kept", n)
	}
}
