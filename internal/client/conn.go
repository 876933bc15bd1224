// This file owns a connection of a pool, which opens itself anew when it is of no use any more.
//
// A pool does not look at what lies in it: after a restart of the server every connection in it is dead, and each
// command, and each retry, may draw another. Nor does it see what the server, or a proxy before it, has sent unasked, which
// the next command would take for its reply: another user's session. So before a command is written, its connection must be
// open with nothing to read, neither in the socket nor in any buffer. That takes 0.5 µs, a few percent of a command under
// full load. In a pipeline, where the commands may be of many callers, the replies are counted as well (values.go). What
// firewalls drop without a word shows only when a reply does not come: then every connection of which nothing was heard
// since that command was sent is opened anew before it is used.

package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// freshness is how long the error of opening a connection is that of the command which had it opened.
const freshness = 10 * time.Millisecond

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
	hush *mark // of the server at addr: what was not heard of since then is not to be trusted

	mu     sync.Mutex // for what Close touches; the user's goroutine alone changes socket, and reads it without mu
	socket *socket    // nil if it could not be opened
	closed bool

	err      error         // why it could not be opened
	opened   time.Duration // when that began
	used     time.Duration // when it was opened, or written to with nothing in flight
	heard    time.Duration // when it was opened, or received something
	inFlight bool          // written to and not read from since
	sent     values        // commands, since nothing was in flight
	read     values        // replies to them
	out      []byte        // written, but not yet sent
	in, buf  []byte        // received, but not yet read; and where it is received

	readBy, writeBy time.Time // deadlines
}

// Write writes to a connection that is open: if nothing is in flight, it is checked and opened anew if need be. What is
// written goes out with the Read that follows, or when there is much of it.
func (c *conn) Write(b []byte) (int, error) {
	if !c.inFlight {
		if err := c.ensureOpen(); err != nil {
			return 0, err
		}
		c.inFlight = true
		c.sent.reset()
		c.read.reset()
	}
	c.sent.pass(b)
	if len(c.out)+len(b) <= outSize {
		c.out = append(c.out, b...)
		return len(b), nil
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	n, err := c.socket.Write(b)
	if err != nil {
		c.fail(err)
	}
	return n, err
}

func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.socket.Write(c.out)
	if c.out = c.out[:0]; err != nil {
		c.fail(err)
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
			n, err := c.receive(b)
			if err != nil {
				return 0, err
			}
			return c.count(b[:n])
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
	return c.count(b[:n])
}

// receive waits for the deadline of the command, but for no longer than the reply timeout without a byte: many large
// replies that come one after the other may take longer than that. It ends when the caller has left.
func (c *conn) receive(b []byte) (n int, err error) {
	now := time.Now()
	deadline := c.readBy
	if silence := now.Add(c.d.replyTimeout); deadline.IsZero() || silence.Before(deadline) {
		deadline = silence
	}
	caller := c.d.of(c.readBy)
	if soon := now.Add(glance); caller != nil && soon.Before(deadline) {
		if n, err = c.receiveUntil(soon, b); n == 0 && err != nil && isTimeout(err) {
			n, err = c.receiveFor(caller, deadline, b)
		}
	} else {
		n, err = c.receiveUntil(deadline, b)
	}
	if n > 0 {
		c.heard = time.Since(started)
	}
	if err != nil {
		c.fail(err)
	}
	return n, err
}

func (c *conn) receiveUntil(deadline time.Time, b []byte) (int, error) {
	if err := c.socket.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	return c.socket.Read(b)
}

// receiveFor is receiveUntil, and ends when the caller has left. The connection is of no use then, also if the reply has just
// come: its deadline may be about to be over.
func (c *conn) receiveFor(caller context.Context, deadline time.Time, b []byte) (int, error) {
	s := c.socket
	if err := s.SetReadDeadline(deadline); err != nil {
		return 0, err
	}
	stop := context.AfterFunc(caller, func() { s.SetReadDeadline(past) })
	n, err := s.Read(b)
	if !stop() {
		return 0, left{caller.Err()}
	}
	return n, err
}

// left is the error of a command whose caller did not wait for the reply.
type left struct{ error }

func (l left) Unwrap() error { return l.error }

// count counts the replies to a pipeline on their way to its commands. If there are more replies than commands, it cannot be
// told which of them is whose: all commands fail, and their connection is closed. (A single command's is the first: there
// was nothing to read when it was sent.)
func (c *conn) count(b []byte) (int, error) {
	if c.sent.whole == 1 {
		return len(b), nil
	}
	c.read.pass(b)
	if missing := c.sent.whole - c.read.whole; missing < 0 || missing == 0 && (len(c.in) > 0 || c.read.within() || c.socket.unread()) {
		return 0, c.tooMany()
	}
	return len(b), nil
}

func (c *conn) tooMany() error {
	return networkError{fmt.Errorf("%s sent more replies than it got commands", c.addr)}
}

// fail takes note that a command has failed.
func (c *conn) fail(err error) {
	c.d.fail(err)
	if isTimeout(err) && c.heard < c.used && time.Since(started)-c.used >= min(patience, c.d.replyTimeout) {
		c.hush.set(c.used)
	}
}

// ensureOpen makes the connection ready for a command to be written until the deadline.
func (c *conn) ensureOpen() error {
	now := time.Since(started)
	fresh := now-c.used < freshness
	c.used = now
	if c.socket == nil && fresh {
		return c.err
	}
	deadline := c.writeDeadline(now)
	if c.usable() && c.socket.SetWriteDeadline(deadline) == nil {
		return nil
	}

	ctx := context.Background()
	if caller := c.d.of(c.writeBy); caller != nil {
		ctx = caller
	}
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	if err := c.connect(ctx); err != nil {
		return err
	}
	if !c.socket.quiet() {
		return c.tooMany()
	}
	return c.socket.SetWriteDeadline(c.writeDeadline(c.used))
}

// writeDeadline is when writing that begins now has to be done.
func (c *conn) writeDeadline(now time.Duration) time.Time {
	if t := c.d.writeTimeout; t > 0 && (c.writeBy.IsZero() || c.writeBy.Sub(started) > now+t) {
		return started.Add(now + t)
	}
	return c.writeBy
}

// usable tells whether a command may be written: what is read after it is its reply.
func (c *conn) usable() bool {
	return c.socket != nil && len(c.in) == 0 && !c.hush.after(c.heard) && !c.d.renewed.after(c.opened) && c.socket.quiet()
}

// connect opens the connection, for the first time or anew.
func (c *conn) connect(ctx context.Context) error {
	c.opened = time.Since(started) // before that: renew may be called, and the address become that of another server, meanwhile
	s, err := c.d.open(ctx, c.addr)
	if err != nil {
		err = asUnopened(err)
	}

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
	c.used = time.Since(started)
	c.heard = c.used
	if err != nil {
		c.d.fail(err)
	}
	return err
}

// Close returns no error: nobody could do anything about it, and closing a client would report every connection that
// the server had closed before.
func (c *conn) Close() error {
	c.mu.Lock()
	s := c.socket
	c.closed = true
	c.mu.Unlock()
	c.d.conns.Delete(c)
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

// SetReadDeadline sets the deadline for the replies of the next commands. It is no error that the connection is closed.
func (c *conn) SetReadDeadline(t time.Time) error {
	c.readBy = t
	return nil
}

// SetWriteDeadline sets the deadline for the next command: for opening the connection anew, if need be, and for writing.
// It is no error that the connection is closed.
func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeBy = t
	return nil
}

// A mark is a time that only moves forward, counted as conn.used is.
type mark struct{ time atomic.Int64 }

func (m *mark) set(t time.Duration) {
	for last := m.time.Load(); last < int64(t) && !m.time.CompareAndSwap(last, int64(t)); {
		last = m.time.Load()
	}
}

func (m *mark) after(t time.Duration) bool { return int64(t) < m.time.Load() }

// socket is one connection to a server, with or without TLS.
type socket struct {
	net.Conn
	raw   syscall.RawConn // below TLS
	peek  func(fd uintptr)
	seen  sight       // by peek
	below *records    // what TLS reads from; nil without
	spare [1]byte     // to read into what must not be there
	done  func() bool // if not nil, called once it is closed
}

func newSocket(nc, tcp net.Conn) (*socket, error) {
	raw, err := tcp.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{Conn: nc, raw: raw}
	if secure, ok := nc.(*tls.Conn); ok {
		s.below = secure.NetConn().(*records)
	}
	s.peek = func(fd uintptr) { s.seen = look(fd) } // made once: a closure for every check would be garbage
	return s, nil
}

// sight is what the system knows of a connection.
type sight int

const (
	openAndEmpty sight = iota
	notRead            // something was received
	gone
)

// quiet tells whether the connection is open with nothing to read. Anything to read while no command is in flight means
// that it is of no use: it is TLS's announcement that the server closes, or a reply that would be taken for that of the
// next command. (The session tickets of TLS 1.3 come before the first reply, which login has read.)
func (s *socket) quiet() bool { return s.look() == openAndEmpty && s.drained() }

// unread tells whether something was received that was not read.
func (s *socket) unread() bool { return s.look() == notRead || !s.drained() }

// look does not go by RawConn.Read, which fails once the deadline of the last reply has passed.
func (s *socket) look() sight {
	if s.raw.Control(s.peek) != nil {
		return gone
	}
	return s.seen
}

// drained tells whether TLS has received nothing that it has not handed out.
func (s *socket) drained() bool {
	if s.below == nil {
		return true
	}
	s.below.dry = true
	n, err := s.Read(s.spare[:])
	s.below.dry = false
	return n == 0 && err == os.ErrDeadlineExceeded && s.below.whole()
}

func (s *socket) Close() error {
	if s.done != nil {
		s.done()
	}
	return s.Conn.Close()
}
