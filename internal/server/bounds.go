package server

import (
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Bounds are what clients can take of a server.
type Bounds struct {
	Header time.Duration // for the sending of a request's header
	Body   time.Duration // for the sending of all of it
	Answer time.Duration // for finding the answer
	Whole  time.Duration // from the end of the header until the answer has been read
	Idle   time.Duration // between a connection's requests

	HeaderBytes int // of the request line and the header, give or take 4 KiB
	Requests    int // that are answered at a time; more are answered with 503
	Connections int // at a time; more are answered with 503 unread
}

// usualBounds hold for everybody. A list of all of a large service's backups takes seconds to find and to send; a Keystone token
// that names its service catalog, as old ones do, has some 20 KiB.
func usualBounds() Bounds {
	return Bounds{
		Header: 10 * time.Second, Body: time.Minute, Answer: 45 * time.Second, Whole: 2 * time.Minute, Idle: 2 * time.Minute,
		HeaderBytes: 64 << 10, Requests: 256, Connections: 1024,
	}
}

// WithBounds replaces the usual bounds.
func WithBounds(b Bounds) Option { return func(p *parts) { p.bounds = b } }

// onlyHTTP1 has a connection make one request at a time. In HTTP/2 it would make hundreds, and who has no token could have the
// server keep as many bodies for each connection that is counted.
func onlyHTTP1() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	return p
}

// A doorkeeper is a listener that lets so many connections in at a time and tells the others to come back.
type doorkeeper struct {
	net.Listener
	inside  chan struct{}
	leaving chan struct{} // one for each that is being told
}

func keepDoor(l net.Listener, connections int) *doorkeeper {
	return &doorkeeper{Listener: l, inside: make(chan struct{}, connections), leaving: make(chan struct{}, 64)}
}

// Accept returns the next connection that may come in.
func (d *doorkeeper) Accept() (net.Conn, error) {
	for {
		c, err := d.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case d.inside <- struct{}{}:
			return &visitor{Conn: c, leave: sync.OnceFunc(func() { <-d.inside })}, nil
		default:
			d.turnAway(c)
		}
	}
}

// A visitor is a connection that has a place inside.
type visitor struct {
	net.Conn
	leave func()
}

func (v *visitor) Close() error {
	defer v.leave()
	return v.Conn.Close()
}

const comeBack = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Type: text/plain; charset=UTF-8\r\nContent-Length: 0\r\n" +
	"Connection: close\r\n\r\n"

// turnAway says so, and waits a moment for what the client was sending: a connection that is closed with unread data takes the answer with it.
func (d *doorkeeper) turnAway(c net.Conn) {
	select {
	case d.leaving <- struct{}{}:
	default: // so many are told that this one is not
		c.Close() //nolint:errcheck // it was of no use to anybody
		return
	}
	go func() {
		defer func() { <-d.leaving }()
		defer c.Close() //nolint:errcheck // nothing follows
		if err := c.SetDeadline(time.Now().Add(time.Second)); err != nil {
			return
		}
		if _, err := io.WriteString(c, comeBack); err != nil {
			return
		}
		if half, ok := c.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
			io.Copy(io.Discard, io.LimitReader(c, 64<<10)) //nolint:errcheck // the client may do as it likes
		}
	}()
}
