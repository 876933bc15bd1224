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

// go-redis writes and reads 4 KB at a time. A pipeline of small commands costs more in system calls than in anything
// else then, so that it is sent and received by more: of 32 SETEX of 5 KB it took 2.2 times as long without.
const (
	outSize = 64 << 10
	inSize  = 32 << 10
)

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
	out      []byte        // written, but not yet sent
	in, buf  []byte        // received, but not yet read; and where it is received
	deadline time.Time     // for writing
}

// Write writes to a connection that is open: if nothing is in flight, it is checked and opened anew if need be. What is
// written goes out with the Read that follows, or when there is much of it.
func (c *conn) Write(b []byte) (int, error) {
	if !c.inFlight {
		if err := c.ensureOpen(); err != nil {
			return 0, err
		}
		c.inFlight = true
	}
	if len(c.out)+len(b) <= outSize {
		c.out = append(c.out, b...)
		return len(b), nil
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	n, err := c.socket.Write(b)
	if err != nil {
		c.d.fail(err)
	}
	return n, err
}

func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.socket.Write(c.out)
	if c.out = c.out[:0]; err != nil {
		c.d.fail(err)
	}
	return err
}

func (c *conn) Read(b []byte) (int, error) {
	if c.socket == nil {
		return 0, c.err
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	c.inFlight = false
	if len(c.in) == 0 {
		if len(b) >= inSize {
			return c.receive(b)
		}
		if c.buf == nil {
			c.buf = make([]byte, inSize)
		}
		n, err := c.receive(c.buf)
		if err != nil {
			return 0, err
		}
		c.in = c.buf[:n]
	}
	n := copy(b, c.in)
	c.in = c.in[n:]
	return n, nil
}

func (c *conn) receive(b []byte) (int, error) {
	n, err := c.socket.Read(b)
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
	c.in, c.out = nil, nil

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
