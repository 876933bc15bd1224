// This file owns a connection of a pool, which opens itself anew when the server has closed it.
//
// A pool does not look at what lies in it: after a restart of the server every connection in it is dead, and each
// command, and each retry, may draw another. So a connection is checked before a command is written to it. The check
// takes 0.5 µs, a few percent of a command under full load, and is therefore left out on a connection that was in use a
// moment ago, which takes 0.03 µs to see, unless another one of this client has failed since.

package client

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

// checkAfter is how long a connection may have been idle without being checked.
const checkAfter = 10 * time.Millisecond

// started is what conn.used counts from: that is cheaper than time.Now.
var started = time.Now()

// conn is the net.Conn that go-redis gets. One goroutine at a time uses it; Close may come from any.
type conn struct {
	d    *dialer
	addr string

	mu     sync.Mutex // for what Close touches; the user's goroutine alone changes socket, and reads it without mu
	socket *socket    // nil if it could not be opened
	closed bool

	err      error         // why it could not be opened
	used     time.Duration // when it was opened, or written to with nothing in flight
	failures uint32        // of d, seen at that time
	inFlight bool          // written to and not read from since
	deadline time.Time     // for writing
}

// Write writes to a connection that is open: if nothing is in flight, it is checked and opened anew if need be.
func (c *conn) Write(b []byte) (int, error) {
	if !c.inFlight {
		if err := c.ensureOpen(); err != nil {
			return 0, err
		}
		c.inFlight = true
	}
	n, err := c.socket.Write(b)
	if err != nil {
		c.d.fail(err)
	}
	return n, err
}

func (c *conn) Read(b []byte) (int, error) {
	if c.socket == nil {
		return 0, c.err
	}
	n, err := c.socket.Read(b)
	c.inFlight = false
	if err != nil {
		c.d.fail(err)
	}
	return n, err
}

// ensureOpen makes the connection ready for a command to be written until the deadline.
func (c *conn) ensureOpen() error {
	now, failures := time.Since(started), c.d.failures.Load()
	recent := now-c.used < checkAfter
	skipCheck := recent && failures == c.failures
	c.used, c.failures = now, failures
	if c.socket == nil && recent {
		return c.err
	}
	if c.socket != nil && (skipCheck || c.socket.quiet()) && c.socket.SetWriteDeadline(c.deadline) == nil {
		return nil
	}

	ctx := context.Background()
	if !c.deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, c.deadline)
		defer cancel()
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	return c.socket.SetWriteDeadline(c.deadline)
}

// connect opens the connection, for the first time or anew.
func (c *conn) connect(ctx context.Context) error {
	s, err := c.d.open(ctx, c.addr)

	c.mu.Lock()
	old := c.socket
	if err == nil && c.closed {
		old, s, err = s, nil, net.ErrClosed
	}
	c.socket, c.err = s, err
	c.mu.Unlock()

	if old != nil {
		old.Close()
	}
	if err != nil {
		c.d.fail(err)
	}
	c.used, c.failures = time.Since(started), c.d.failures.Load()
	return err
}

// Close returns no error: nobody could do anything about it, and closing a client would report every connection that
// the server had closed before.
func (c *conn) Close() error {
	c.mu.Lock()
	s := c.socket
	c.closed = true
	c.mu.Unlock()
	if s != nil {
		s.Close()
	}
	return nil
}

// LocalAddr is nil on a connection that could not be opened.
func (c *conn) LocalAddr() net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil {
		return nil
	}
	return c.socket.LocalAddr()
}

// RemoteAddr is nil on a connection that could not be opened.
func (c *conn) RemoteAddr() net.Addr {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.socket == nil {
		return nil
	}
	return c.socket.RemoteAddr()
}

func (c *conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

func (c *conn) SetReadDeadline(t time.Time) error {
	if c.socket == nil {
		return nil
	}
	return c.socket.SetReadDeadline(t)
}

// SetWriteDeadline sets the deadline for the next command: for opening the connection anew, if need be, and for writing.
// It is no error that the connection is closed.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.deadline = t
	return nil
}

// socket is one connection to a server, with or without TLS.
type socket struct {
	net.Conn
	raw   syscall.RawConn // below TLS
	peek  func(fd uintptr)
	empty bool        // what peek saw
	done  func() bool // if not nil, called once it is closed
}

func newSocket(nc, tcp net.Conn) (*socket, error) {
	raw, err := tcp.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: nc, raw: raw}
	s.peek = func(fd uintptr) { s.empty = openAndEmpty(fd) } // made once: a closure for every check would be garbage
	return s, nil
}

// quiet tells whether the connection is open with nothing to read. Anything to read while no command is in flight means
// that it is of no use: it is TLS's announcement that the server closes, or a reply that would be taken for that of the
// next command. (The session tickets of TLS 1.3 come before the first reply, which login has read.)
//
// Not by RawConn.Read, which fails once the deadline of the last reply has passed.
func (s *socket) quiet() bool {
	return s.raw.Control(s.peek) == nil && s.empty
}

func (s *socket) Close() error {
	if s.done != nil {
		s.done()
	}
	return s.Conn.Close()
}
