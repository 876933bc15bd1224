// This file owns how a connection is opened: dial, TLS, AUTH and SELECT, within the time limit, and what a user reads when
// one of them fails.

package client

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis/v7"
)

// dialer opens the connections of one client.
type dialer struct {
	network      string
	timeout      time.Duration // for all of it
	replyTimeout time.Duration // for AUTH and the like, of that
	writeTimeout time.Duration // for sending a command; none if negative
	tls          *tls.Config
	username     string
	password     Secret
	db           int
	noPassword   func(addr string) // if set, called where AUTH was not needed

	// open opens a socket for a connection that was asked for with addr. At first it is connect.
	open func(ctx context.Context, addr string) (*socket, error)

	failed func() // if set, called for each connection that failed or could not be opened

	callers
	hushes  sync.Map // *mark by address
	renewed mark     // what was opened before is opened anew
	conns   sync.Map // *conn, until they are closed
	closed  atomic.Bool
}

func newDialer(o Options) *dialer {
	d := &dialer{
		network:      cmp.Or(o.Network, "tcp"),
		timeout:      cmp.Or(o.DialTimeout, 5*time.Second),
		replyTimeout: cmp.Or(o.ReadTimeout, 3*time.Second),
		tls:          o.TLS,
		username:     o.Username,
		password:     o.Password,
		db:           o.DB,
		noPassword:   o.NoPassword,
	}
	if d.replyTimeout < 0 {
		d.replyTimeout = d.timeout
	}
	d.writeTimeout = cmp.Or(o.WriteTimeout, d.replyTimeout)
	d.open = d.connect
	return d
}

// dial is the Dialer of a go-redis client.
//
// A connection that could not be opened is handed to the pool all the same, and reports why when it is written to. The
// pool counts failed dials: after as many as it is large it fails every call at once and looks only once a second
// whether the server is back. That is right for a server that does not answer, and needlessly long for one that
// refuses, as while it restarts: this costs a call next to nothing.
func (d *dialer) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	hush, _ := d.hushes.LoadOrStore(addr, new(mark))
	c := &conn{d: d, addr: addr, hush: hush.(*mark)}
	if err := c.connect(ctx); isTimeout(err) {
		return nil, err
	}
	d.conns.Store(c, nil)
	if d.closed.Load() {
		c.Close()
		return nil, net.ErrClosed
	}
	return c, nil
}

// close closes all connections. A pool that is closed leaves those open that are being dialled.
func (d *dialer) close() {
	d.closed.Store(true)
	d.conns.Range(func(c, _ any) bool {
		c.(*conn).Close()
		return true
	})
}

// unopened is why a connection could not be opened, unopenedNetwork where that may be gone the next time.
type (
	unopened        struct{ error }
	unopenedNetwork struct{ networkError }
)

func (u unopened) Unwrap() error { return u.error }

// asUnopened marks the error of opening a connection.
func asUnopened(err error) error {
	if _, ok := err.(net.Error); ok {
		return unopenedNetwork{networkError{err}}
	}
	return unopened{err}
}

// Unsent tells whether an error means that a command was written to no connection.
func Unsent(err error) bool {
	return Unopened(err) || NoneFree(err) || errors.Is(err, redis.ErrClosed)
}

// NoneFree tells whether an error is that of waiting for a free connection in vain, which go-redis does not export.
func NoneFree(err error) bool {
	return err != nil && strings.Contains(err.Error(), "redis: connection pool timeout")
}

// Unopened tells whether an error is that of opening a connection.
func Unopened(err error) bool {
	var lasting unopened
	var passing unopenedNetwork
	return errors.As(err, &lasting) || errors.As(err, &passing)
}

// isTimeout tells whether it took too long.
func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

func (d *dialer) fail(err error) {
	if d.failed != nil && !errors.Is(err, net.ErrClosed) { // which is not the server's doing
		d.failed()
	}
}

// renewInterval is how often all connections are opened anew at most: a server that refuses writes for long may well serve
// reads.
const renewInterval = time.Second

// renew has every connection opened anew before it is used again.
func (d *dialer) renew() {
	now := time.Since(started)
	if last := time.Duration(d.renewed.time.Load()); last == 0 || now-last >= renewInterval {
		d.renewed.set(now)
	}
}

// connect opens a socket to addr that is ready for commands. It ends with ctx, or after the time limit.
func (d *dialer) connect(ctx context.Context, addr string) (*socket, error) {
	bounded, cancel := d.bounded(ctx)
	defer cancel()

	tcp, err := new(net.Dialer).DialContext(bounded, d.network, addr)
	if isTimeout(err) {
		// Not the net package's, which may pass for the end of the caller's context.
		err = networkError{fmt.Errorf("dial %s %s: %w", d.network, addr, os.ErrDeadlineExceeded)}
	}
	if err != nil {
		return nil, err
	}
	nc := tcp
	err = until(bounded, tcp, func() (err error) {
		nc, err = d.secure(tcp, addr)
		return err
	})
	if err == nil {
		// A server that hangs accepts connections all the same: the system does that. It shows here.
		replied, cancel := context.WithTimeout(bounded, d.replyTimeout)
		defer cancel()
		err = until(replied, tcp, func() error { return d.login(nc, addr) })
	}
	if err != nil {
		tcp.Close()
		return nil, err
	}
	return newSocket(nc, tcp)
}

// bounded is ctx with the time that a connection may take to open, if that is shorter. It has a timer also where ctx has a
// deadline and no Done channel.
func (d *dialer) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline := time.Now().Add(d.timeout)
	if t, ok := ctx.Deadline(); ok && t.Before(deadline) {
		deadline = t
	}
	return context.WithDeadline(ctx, deadline)
}

// past is a deadline that has always been over.
var past = time.Unix(1, 0)

// until makes what do reads and writes fail with a timeout once ctx ends.
func until(ctx context.Context, nc net.Conn, do func() error) error {
	stop := context.AfterFunc(ctx, func() { nc.SetDeadline(past) })
	err := do()
	if !stop() && (err == nil || ctx.Err() == context.Canceled) {
		err = networkError{fmt.Errorf("connect to %s: %w", nc.RemoteAddr(), ctx.Err())}
	}
	return err
}

// secure does the TLS handshake, if that is configured, and returns what is to be used from then on.
func (d *dialer) secure(tcp net.Conn, addr string) (net.Conn, error) {
	if d.tls == nil {
		return tcp, nil
	}
	cfg := d.tls
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName, _, _ = net.SplitHostPort(addr)
	}
	nc := tls.Client(&records{Conn: tcp}, cfg)
	if err := nc.Handshake(); err != nil {
		return nil, d.explain("TLS handshake", addr, err)
	}
	return nc, nil
}

// login sends AUTH and SELECT, or PING if there is need of neither: only a reply shows that the server takes this client.
// With TLS 1.3 it comes before that to refuse the client's certificate.
func (d *dialer) login(nc net.Conn, addr string) error {
	var steps []string
	var request []byte
	send := func(step string, args ...string) {
		steps = append(steps, step)
		request = fmt.Appendf(request, "*%d\r\n", len(args))
		for _, arg := range args {
			request = fmt.Appendf(request, "$%d\r\n%s\r\n", len(arg), arg)
		}
	}
	password := ""
	if d.password != nil {
		var err error
		if password, err = d.password(); err != nil {
			// Without %w: a system error in it would pass for one of the network.
			return fmt.Errorf("connect to %s: %v", addr, err)
		}
	}
	switch {
	case d.username != "":
		send(fmt.Sprintf("AUTH as user %q", d.username), "AUTH", d.username, password)
	case password != "":
		send("AUTH", "AUTH", password)
	}
	if d.db != 0 {
		db := strconv.Itoa(d.db)
		send("SELECT "+db, "SELECT", db)
	}
	if len(steps) == 0 {
		send("PING", "PING")
	}

	_, _ = nc.Write(request) // should that fail, reading tells more about why
	replies := bufio.NewReader(nc)
	for _, step := range steps {
		line, err := replies.ReadSlice('\n')
		if err == nil {
			err = checkReply(step, strings.TrimRight(string(line), "\r\n"))
		}
		if step == "AUTH" && asksForNone(err) {
			err = nil
			if d.noPassword != nil {
				d.noPassword(addr)
			}
		}
		if err != nil {
			return d.explain(step, addr, err)
		}
	}
	if replies.Buffered() > 0 {
		return fmt.Errorf("connect to %s: more replies than commands", addr)
	}
	return nil
}

// ReplyError is an error that the server sent.
type ReplyError string

func (e ReplyError) Error() string { return string(e) }

// RedisError makes it a redis.Error.
func (ReplyError) RedisError() {}

func checkReply(step, reply string) error {
	text, isError := strings.CutPrefix(reply, "-")
	code, _, _ := strings.Cut(text, " ")
	switch {
	case strings.HasPrefix(reply, "+"):
		return nil
	case !isError:
		return fmt.Errorf("reply %.40q is none of a Redis server", reply)
	case step == "PING" && code != "ERR" && code != "DENIED" && code != "NOAUTH":
		return nil // such as LOADING, or NOPERM for PING: no reason not to try the command itself
	}
	return ReplyError(text)
}

// asksForNone tells whether the server refused a password because it has none itself. Clients that send it by HELLO are let
// in there, and so is this one. Redis and Valkey say the first, Redis before 6 and proxies the second.
func asksForNone(err error) bool {
	var reply ReplyError
	return errors.As(err, &reply) && (strings.Contains(string(reply), "without any password configured") ||
		strings.Contains(string(reply), "no password is set"))
}

// networkError is an error that may be gone the next time. go-redis looks at the outermost error only to know it as one.
type networkError struct{ error }

func (e networkError) Unwrap() error { return e.error }

func (e networkError) Timeout() bool { return isTimeout(e.error) }

func (networkError) Temporary() bool { return true }

// explain says what could not be done on a new connection, and what to do about it where that is known.
func (d *dialer) explain(step, addr string, err error) error {
	var (
		alert    *net.OpError
		netErr   net.Error
		reply    ReplyError
		unknown  x509.UnknownAuthorityError
		hostname x509.HostnameError
		noTLS    tls.RecordHeaderError
		advice   string
		network  bool
	)
	switch {
	case errors.As(err, &alert) && alert.Op == "remote error":
		err = errors.New(err.Error()) // no longer one of the network
		advice = "; the server refused the TLS connection: if it wants a client certificate, set cert_file and key_file"
	case errors.As(err, &netErr), errors.Is(err, io.EOF):
		network = true
		timeout := netErr != nil && netErr.Timeout()
		switch {
		case timeout && step == "TLS handshake":
			advice = "; does the server speak TLS on this port? (for a Sentinel: sentinel_tls)"
		case !timeout && d.tls == nil:
			advice = "; if the server speaks TLS on this port, configure tls"
		}
	case errors.As(err, &unknown):
		advice = "; set ca_file to the certificate of the authority that signed the server's"
	case errors.As(err, &hostname):
		advice = "; set server_name to a name that the server's certificate is for"
	case errors.As(err, &noTLS):
		advice = "; the server does not speak TLS on this port (for a Sentinel: sentinel_tls)"
	case errors.As(err, &reply) && strings.HasPrefix(string(reply), "WRONGPASS"):
		advice = "; check the user name and the password"
	case errors.As(err, &reply) && strings.HasPrefix(string(reply), "NOAUTH"):
		advice = "; the server wants a password"
	}
	err = fmt.Errorf("%s on %s: %w%s", step, addr, err, advice)
	if network {
		return networkError{err}
	}
	return err
}
