// This file owns the tests of a client of one server: dead connections, passwords, contexts.

package client_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-redis/redis/v7"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
)

func open(t testing.TB, o client.Options) redis.UniversalClient {
	t.Helper()
	c := client.New(o)
	t.Cleanup(func() { c.Close() })
	return c
}

// within returns a context that ends after d.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// deadline is a context that has a deadline and no Done channel.
type deadline struct {
	context.Context
	t time.Time
}

func (d deadline) Deadline() (time.Time, bool) { return d.t, true }

func ping(ctx context.Context, c redis.UniversalClient) error {
	return c.ProcessContext(ctx, redis.NewStatusCmd("ping"))
}

// fillPool leaves n connections to a server idle in the pool. Each call waits there until all do, so that it needs one of its own.
func fillPool(t testing.TB, server *redistest.Server, c redis.UniversalClient, n int) {
	t.Helper()
	ctx := within(t, 10*time.Second)
	ended := make(chan error, 1)
	go func() {
		_, err := atOnce(n, func(int) error {
			if err := c.ProcessContext(ctx, redis.NewStringCmd("brpop", "nothing", "0")); err != redis.Nil {
				return fmt.Errorf("brpop: %v", err)
			}
			return nil
		})
		ended <- err
	}()
	var waiting []string // ids
	await(t, func() bool {
		list, err := server.Client().ClientList().Result()
		if err != nil {
			t.Fatal(err)
		}
		waiting = nil
		for _, line := range strings.Split(list, "\n") {
			if strings.Contains(line, " flags=b") && strings.Contains(line, " cmd=brpop") {
				id, _, _ := strings.Cut(strings.TrimPrefix(line, "id="), " ")
				waiting = append(waiting, id)
			}
		}
		return len(waiting) == n || len(ended) > 0
	})
	for _, id := range waiting {
		if err := server.Client().Do("client", "unblock", id).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if stats := c.(interface{ PoolStats() *redis.PoolStats }).PoolStats(); stats.IdleConns < uint32(n) {
		t.Fatalf("%d idle connections, want %d", stats.IdleConns, n)
	}
}

// failedAttempts calls n times, each again at once until it succeeds, and returns how many attempts failed.
func failedAttempts(t testing.TB, n int, call func(i int) error) int {
	t.Helper()
	failed := 0
	for i := range n {
		for {
			err := call(i)
			if err == nil {
				break
			}
			t.Logf("call %d: %v", i, err)
			if failed++; failed > 100 {
				t.Fatal("too many failures")
			}
		}
	}
	return failed
}

func setAndGet(ctx context.Context, c redis.UniversalClient, key string) error {
	if err := c.ProcessContext(ctx, redis.NewStatusCmd("set", key, key)); err != nil {
		return err
	}
	got := redis.NewStringCmd("get", key)
	if err := c.ProcessContext(ctx, got); err != nil {
		return err
	}
	if got.Val() != key {
		return fmt.Errorf("got %q for %q", got.Val(), key)
	}
	return nil
}

func TestMain(m *testing.M) { redistest.Main(m) }

func TestRestartedServerCostsNoCommand(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	certs := redistest.NewCerts(t)
	tls12 := clientTLS(t, certs)
	tls12.MaxVersion = tls12.MinVersion
	for _, tt := range []struct {
		name   string
		server func(testing.TB) *redistest.Server
		opt    client.Options
		unix   bool
		unused bool // connections that have never been used
	}{
		{name: "plain", server: func(t testing.TB) *redistest.Server { return redistest.Start(t) }},
		{name: "unix socket", server: func(t testing.TB) *redistest.Server { return redistest.Start(t) }, opt: client.Options{Network: "unix"}, unix: true},
		{name: "MinIdleConns", server: func(t testing.TB) *redistest.Server { return redistest.Start(t) }, opt: client.Options{MinIdleConns: 40}, unused: true},
		{name: "TLS 1.3", server: func(t testing.TB) *redistest.Server { return redistest.StartTLS(t, certs) }, opt: client.Options{TLS: clientTLS(t, certs)}},
		{name: "TLS 1.2", server: func(t testing.TB) *redistest.Server { return redistest.StartTLS(t, certs) }, opt: client.Options{TLS: tls12}},
		{name: "TLS 1.3 and MinIdleConns", server: func(t testing.TB) *redistest.Server { return redistest.StartTLS(t, certs) }, opt: client.Options{TLS: clientTLS(t, certs), MinIdleConns: 40}, unused: true},
	} {
		for _, end := range []string{"kill", "stop", "close"} {
			t.Run(tt.name+"/"+end, func(t *testing.T) {
				t.Parallel()
				server := tt.server(t)
				o := tt.opt
				o.PoolSize, o.Addrs = 50, []string{server.Addr()}
				if tt.unix {
					o.Addrs[0] = server.Socket()
				}
				c := open(t, o)
				if tt.unused {
					await(t, func() bool { // what the pool counts is not yet connected
						list, err := server.Client().ClientList().Result()
						return err == nil && strings.Count(list, "cmd=ping") >= 40
					})
				} else {
					fillPool(t, server, c, 40)
				}
				switch end {
				case "kill":
					server.Kill()
					server.Restart()
				case "stop":
					server.Stop()
					server.Restart()
				case "close":
					time.Sleep(200 * time.Millisecond) // until the last has read its answer, and has been idle for a while
					if err := server.Client().Do("client", "kill", "type", "normal").Err(); err != nil {
						t.Fatal(err)
					}
				}
				ctx := within(t, 20*time.Second)
				if n := failedAttempts(t, 100, func(i int) error { return setAndGet(ctx, c, fmt.Sprint("key", i)) }); n > 0 {
					t.Errorf("%d attempts failed", n)
				}
				if n, err := atOnce(40, func(i int) error { return setAndGet(ctx, c, fmt.Sprint("at once", i)) }); n > 0 {
					t.Errorf("%d of 40 attempts at once failed, the last: %v", n, err)
				}
			})
		}
	}
}

// patient gives a client time limits that nothing in a test takes, neither on a slow machine nor where it waits in vain.
func patient(o client.Options) client.Options {
	o.DialTimeout, o.ReadTimeout = time.Minute, time.Minute
	return o
}

// await polls until done, for ten seconds at most.
func await(t testing.TB, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("did not happen within 10 s")
		}
	}
}

func TestHealthyConnectionsAreKept(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	certs := redistest.NewCerts(t)
	tls12 := clientTLS(t, certs)
	tls12.MaxVersion = tls12.MinVersion
	tls13 := clientTLS(t, certs)
	tls13.MinVersion = tls.VersionTLS13
	tls13.ClientSessionCache = tls.NewLRUClientSessionCache(0) // makes servers send session tickets
	const timeout = 1500 * time.Millisecond
	for name, cfg := range map[string]*tls.Config{"plain": nil, "TLS 1.2": tls12, "TLS 1.3": tls13} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var server *redistest.Server
			if cfg == nil {
				server = redistest.Start(t)
			} else {
				server = redistest.StartTLS(t, certs)
			}
			c := open(t, client.Options{Addrs: []string{server.Addr()}, TLS: cfg, PoolSize: 50, ReadTimeout: timeout})
			fillPool(t, server, c, 40)
			opened := connections(t, server)
			for i := range 200 {
				if i == 100 {
					time.Sleep(timeout + 50*time.Millisecond) // past the deadline of the last reply
				}
				if err := setAndGet(within(t, 10*time.Second), c, fmt.Sprint("key", i)); err != nil {
					t.Fatal(err)
				}
			}
			fillPool(t, server, c, 40)
			if n := connections(t, server) - opened; n > 0 {
				t.Errorf("%d connections were opened anew", n)
			}
		})
	}
}

// connections returns how many connections a server has accepted.
func connections(t *testing.T, server *redistest.Server) int {
	t.Helper()
	info, err := server.Client().Info("stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	_, info, _ = strings.Cut(info, "total_connections_received:")
	info, _, _ = strings.Cut(info, "\r\n")
	n, err := strconv.Atoi(info)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOneFailureMakesAllOtherConnectionsBeChecked(t *testing.T) {
	server := redistest.Start(t) // not in parallel: the connections must have been in use a moment ago
	proxy := redistest.Proxy(t, server.Addr())
	c := open(t, client.Options{Addrs: []string{proxy.Addr()}, PoolSize: 50})
	ctx := within(t, 20*time.Second)
	for range 5 {
		fillPool(t, server, c, 40)
		server.Pause()
		time.AfterFunc(2*time.Millisecond, server.Resume) // so that each of the 40 needs a connection of its own
		if _, err := atOnce(40, func(int) error { return ping(ctx, c) }); err != nil {
			t.Fatal(err)
		}
		proxy.CutAll()
		if n := failedAttempts(t, 100, func(int) error { return ping(ctx, c) }); n > 1 {
			t.Errorf("%d attempts failed, want one at most", n)
		}
	}
}

func TestSilentConnectionsCostOneTimeout(t *testing.T) {
	t.Parallel()
	for _, timeout := range []time.Duration{1500 * time.Millisecond, 3 * time.Second} {
		t.Run(fmt.Sprint(timeout), func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t)
			proxy := redistest.Proxy(t, server.Addr())
			c := open(t, client.Options{Addrs: []string{proxy.Addr()}, PoolSize: 10, ReadTimeout: timeout})
			// pingAtOnce lets each of n calls need a connection of its own.
			pingAtOnce := func(n int) (failed int, err error) {
				sent, done := proxy.RoundTrips()+n, make(chan struct{})
				server.Pause()
				go func() {
					defer close(done)
					failed, err = atOnce(n, func(int) error { return ping(context.Background(), c) })
				}()
				await(t, func() bool { return proxy.RoundTrips() >= sent })
				server.Resume()
				<-done
				return failed, err
			}
			await(t, func() bool { failed, _ := pingAtOnce(9); return failed == 0 })
			opened := connections(t, server)
			proxy.Silence()
			if err := ping(context.Background(), c); err == nil || !strings.Contains(err.Error(), "timeout") {
				t.Fatalf("the first call: %v", err)
			}
			if failed, err := pingAtOnce(9); failed > 0 {
				t.Errorf("%d more calls failed: %v", failed, err)
			}
			if n := connections(t, server) - opened; n != 9 {
				t.Errorf("%d connections were opened", n)
			}
		})
	}
}

func TestOneSilentConnectionLeavesThoseThatAreHeardOf(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := open(t, client.Options{Addrs: []string{server.Addr()}, PoolSize: 6, ReadTimeout: 2 * time.Second})
	fillPool(t, server, c, 5)
	silent := make(chan error)
	go func() { silent <- c.ProcessContext(context.Background(), redis.NewStringCmd("blpop", "never", "0")) }()
	await(t, func() bool {
		list, err := server.Client().ClientList().Result()
		return err == nil && countLines(list, "flags=b") == 1
	})
	fillPool(t, server, c, 4)
	opened := connections(t, server)
	if err := <-silent; err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Fatalf("a call that the server does not answer: %v", err)
	}
	fillPool(t, server, c, 4)
	if n := connections(t, server) - opened; n > 0 {
		t.Errorf("%d connections were opened anew", n)
	}
}

func TestRenewedConnectionsAreOpenedAnew(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := open(t, client.Options{Addrs: []string{server.Addr()}, PoolSize: 5})
	fillPool(t, server, c, 3)
	opened := connections(t, server)
	c.(client.Client).Renew()
	fillPool(t, server, c, 3)
	if n := connections(t, server) - opened; n != 3 {
		t.Errorf("%d connections were opened anew, want 3", n)
	}
	fillPool(t, server, c, 3)
	if n := connections(t, server) - opened; n != 3 {
		t.Errorf("%d connections were opened anew after that", n-3)
	}
}

func TestAConnectionThatIsBeingOpenedIsRenewedToo(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.Proxy(t, server.Addr())
	proxy.Hold(true)
	c := open(t, patient(client.Options{Addrs: []string{proxy.Addr()}, PoolSize: 1}))
	first := make(chan error)
	go func() { first <- ping(within(t, 30*time.Second), c) }()
	await(t, func() bool { return proxy.Connections() == 1 })
	c.(client.Client).Renew()
	proxy.Hold(false)
	if err := <-first; err != nil {
		t.Fatal(err)
	}
	if err := ping(within(t, 30*time.Second), c); err != nil {
		t.Fatal(err)
	}
	if n := proxy.Connections(); n != 2 {
		t.Errorf("%d connections were opened, want 2", n)
	}
}

func TestRepliesMayTakeLongerTogetherThanTheReadTimeout(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	s := startReplyServer(t, nil, 20, func(p *peer, replies []string) {
		for _, reply := range replies {
			_, _ = io.WriteString(p, reply)
			time.Sleep(timeout / 40) // nothing can be awaited
		}
	})
	c := open(t, client.Options{Addrs: []string{s.addr}, ReadTimeout: timeout})
	pipe := c.Pipeline()
	for i := range 64 {
		_ = pipe.Process(get(fmt.Sprint("user", i)))
	}
	start := time.Now()
	if _, err := pipe.ExecContext(within(t, 20*time.Second)); err != nil {
		t.Errorf("after %v: %v", time.Since(start), err)
	}
}

func TestNoTimeToConnectIsNotTheEndOfTheContext(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	err := ping(context.Background(), open(t, client.Options{Addrs: []string{server.Addr()}, DialTimeout: time.Nanosecond}))
	var netErr net.Error
	if !errors.As(err, &netErr) || !netErr.Timeout() || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

// atOnce calls n times at once and returns how many calls failed, and the error of one of them.
func atOnce(n int, call func(i int) error) (int, error) {
	errs := make(chan error, n)
	for i := range n {
		go func() { errs <- call(i) }()
	}
	failed := 0
	var last error
	for range n {
		if err := <-errs; err != nil {
			failed, last = failed+1, err
		}
	}
	return failed, last
}

func TestServerThatIsBackIsUsedAtOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := open(t, client.Options{Addrs: []string{server.Addr()}, PoolSize: 3})
	ctx := within(t, 20*time.Second)
	server.Kill()
	for range 10 {
		if err := ping(ctx, c); !strings.Contains(fmt.Sprint(err), "refused") {
			t.Fatalf("got %v", err)
		}
	}
	server.Restart()
	if err := ping(ctx, c); err != nil {
		t.Errorf("first command after the restart: %v", err)
	}
}

func TestSilentServerIsLeftAloneAfterManyTimeouts(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.Proxy(t, server.Addr())
	proxy.Hold(true)
	c := open(t, client.Options{Addrs: []string{proxy.Addr()}, PoolSize: 2, DialTimeout: 500 * time.Millisecond})
	for range 3 {
		_ = ping(context.Background(), c)
	}
	start := time.Now()
	for range 20 {
		if ping(context.Background(), c) == nil {
			t.Fatal("succeeded")
		}
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("20 more calls took %v: each waited for the dial timeout", d)
	}
}

// accept calls f, which must not wait, for each connection, and closes them and the listener when the test ends.
func accept(t *testing.T, l net.Listener, f func(net.Conn)) {
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			f(c)
		}
	}()
}

// fakeServer answers PING, and GET with the key, and says for each connection what else to send after a reply. sent gets a
// value when that is on its way.
func fakeServer(t *testing.T, extra func(conn int) string) (addr string, sent <-chan struct{}) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	all := make(chan struct{}, 100)
	go func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			go func() {
				buf := make([]byte, 1024)
				for {
					k, err := c.Read(buf)
					if err != nil {
						return
					}
					reply := "+PONG\r\n"
					if lines := strings.Split(string(buf[:k]), "\r\n"); lines[2] == "get" {
						reply = "+" + lines[4] + "\r\n"
					}
					c.Write([]byte(reply))
					if reply != "+PONG\r\n" {
						time.Sleep(5 * time.Millisecond)
						c.Write([]byte(extra(n)))
						all <- struct{}{}
					}
				}
			}()
		}
	}()
	return l.Addr().String(), all
}

func TestUnexpectedDataIsNeverTakenForAReply(t *testing.T) {
	t.Parallel()
	addr, sent := fakeServer(t, func(n int) string {
		if n < 3 {
			return "+of another user\r\n"
		}
		return ""
	})
	c := open(t, client.Options{Addrs: []string{addr}})
	ctx := within(t, 10*time.Second)
	for i := range 5 {
		got := redis.NewStringCmd("get", fmt.Sprint(i))
		if err := c.ProcessContext(ctx, got); err != nil || got.Val() != fmt.Sprint(i) {
			t.Fatalf("get %d: %q, %v", i, got.Val(), err)
		}
		<-sent
	}
}

func TestPasswordIsReadAgainForNewConnections(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--requirepass", "old")
	file := filepath.Join(t.TempDir(), "password")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("old\n")
	c := open(t, client.Options{Addrs: []string{server.Addr()}, Password: client.PasswordFile(file), PoolSize: 20})
	ctx := within(t, 20*time.Second)
	if err := setAndGet(ctx, c, "a"); err != nil {
		t.Fatal(err)
	}
	if err := server.Client().ConfigSet("requirepass", "new").Err(); err != nil {
		t.Fatal(err)
	}
	if err := setAndGet(ctx, c, "b"); err != nil {
		t.Errorf("on the old connection: %v", err)
	}
	write("new\r\n")
	fillPool(t, server, c, 10)
	if err := server.Client().Do("client", "kill", "type", "normal").Err(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	if err := setAndGet(ctx, c, "c"); err != nil {
		t.Errorf("on a connection that opened itself anew: %v", err)
	}
}

func TestUserPasswordAndDatabase(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t,
		"--user", "app on >secret ~* +@all",
		"--user", "free on nopass ~* +@all",
		"--user", "narrow on >secret ~* +get +set +select",
	)
	secret := func() (string, error) { return "secret", nil }
	for _, tt := range []struct {
		name string
		opt  client.Options
		user string
	}{
		{"default", client.Options{DB: 3}, "default"},
		{"user", client.Options{Username: "app", Password: secret, DB: 4}, "app"},
		{"user without a password", client.Options{Username: "free", DB: 5}, "free"},
		{"user who may not ping", client.Options{Username: "narrow", Password: secret, DB: 6}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.opt.Addrs = []string{server.Addr()}
			c := open(t, tt.opt)
			ctx := within(t, 10*time.Second)
			if err := setAndGet(ctx, c, tt.name); err != nil {
				t.Fatal(err)
			}
			keyspace, err := server.Client().Info("keyspace").Result()
			if want := fmt.Sprintf("db%d:", tt.opt.DB); err != nil || !strings.Contains(keyspace, want) {
				t.Errorf("want %s in %q, %v", want, keyspace, err)
			}
			if tt.user == "" {
				return
			}
			who := redis.NewStringCmd("acl", "whoami")
			if err := c.ProcessContext(ctx, who); err != nil || who.Val() != tt.user {
				t.Errorf("user %q, %v, want %q", who.Val(), err, tt.user)
			}
		})
	}
}

func TestServerWithoutAPasswordTakesAny(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for name, addr := range map[string]string{
		"redis-server": server.Addr(),
		"Redis 5":      script(t, "-ERR Client sent AUTH, but no password is set\r\n+OK\r\n", "+OK\r\n", "$3\r\nkey\r\n"),
	} {
		var told []string
		c := open(t, client.Options{
			Addrs: []string{addr}, DB: 2, PoolSize: 1,
			Password:   func() (string, error) { return "astaxie", nil },
			NoPassword: func(addr string) { told = append(told, addr) },
		})
		if err := setAndGet(within(t, 10*time.Second), c, "key"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(told) != 1 || told[0] != addr {
			t.Errorf("%s: told of %q, want %s", name, told, addr)
		}
	}
	o := client.Options{Addrs: []string{script(t, "-ERR Client sent AUTH, but no password is set\r\n")}, Username: "app"}
	if err := ping(within(t, 10*time.Second), open(t, o)); err == nil || !strings.Contains(err.Error(), `AUTH as user "app"`) {
		t.Errorf("for a user: %v", err)
	}
}

// script starts a server that answers each request with the next reply.
func script(t *testing.T, replies ...string) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { c.Close() })
		for buf := make([]byte, 1024); len(replies) > 0; replies = replies[1:] {
			if _, err := c.Read(buf); err != nil {
				return
			}
			_, _ = io.WriteString(c, replies[0])
		}
	}()
	return l.Addr().String()
}

func TestOpeningAConnectionKeepsToTheContext(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	certs := redistest.NewCerts(t)
	server := redistest.StartTLS(t, certs)
	proxy := redistest.Proxy(t, server.Addr())
	proxy.Hold(true)
	long := patient(client.Options{}) // what they would wait for else
	for _, tt := range []struct {
		name string
		opt  client.Options
		ctx  func() (context.Context, context.CancelFunc)
		want error
	}{
		{"deadline", long, func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 50*time.Millisecond)
		}, nil},
		{"deadline without Done", long, func() (context.Context, context.CancelFunc) {
			return deadline{context.Background(), time.Now().Add(50 * time.Millisecond)}, func() {}
		}, nil},
		{"cancel", long, func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			before := proxy.Connections()
			go func() {
				for ctx.Err() == nil && proxy.Connections() == before { // else it is no connection that ends
					time.Sleep(time.Millisecond)
				}
				time.Sleep(50 * time.Millisecond) // into the handshake, or the login
				cancel()
			}()
			return ctx, cancel
		}, context.Canceled},
		{"dial timeout", client.Options{DialTimeout: 50 * time.Millisecond, ReadTimeout: time.Minute}, func() (context.Context, context.CancelFunc) {
			return context.Background(), func() {}
		}, nil},
	} {
		for _, secure := range []bool{false, true} {
			t.Run(fmt.Sprint(tt.name, ", TLS ", secure), func(t *testing.T) {
				tt.opt.Addrs, tt.opt.TLS = []string{proxy.Addr()}, nil
				if secure {
					tt.opt.TLS = clientTLS(t, certs)
				}
				c := open(t, tt.opt)
				ctx, cancel := tt.ctx()
				defer cancel()
				start := time.Now()
				err := ping(ctx, c)
				var netErr net.Error
				if !errors.As(err, &netErr) || netErr.Timeout() != (tt.want == nil) || tt.want != nil && !errors.Is(err, tt.want) {
					t.Errorf("got %v", err)
				}
				if d := time.Since(start); d > 10*time.Second {
					t.Errorf("took %v", d)
				}
			})
		}
	}
}

func TestOpeningAnewKeepsToTheContext(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	proxy := redistest.Proxy(t, server.Addr())
	c := open(t, patient(client.Options{Addrs: []string{proxy.Addr()}}))
	if err := ping(within(t, 10*time.Second), c); err != nil {
		t.Fatal(err)
	}
	proxy.Hold(true)
	proxy.CutAll()
	time.Sleep(20 * time.Millisecond)
	start := time.Now()
	err := ping(deadline{context.Background(), start.Add(50 * time.Millisecond)}, c)
	if d := time.Since(start); err == nil || d > 10*time.Second {
		t.Errorf("%v after %v", err, d)
	}
	proxy.Hold(false)
	if err := ping(within(t, 10*time.Second), c); err != nil {
		t.Error(err)
	}
}

func TestCloseWhileAConnectionIsOpened(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := client.New(client.Options{Addrs: []string{l.Addr().String()}, MinIdleConns: 1})
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 64)); err != nil { // PING
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "+PONG\r\n")
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := conn.Read(make([]byte, 64)); err != io.EOF {
		t.Errorf("it stays open: %v", err)
	}
}

// The connections are opened anew while the client is closed.
func TestCloseWhileInUse(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	for range 5 {
		c := client.New(client.Options{Addrs: []string{server.Addr()}, PoolSize: 20})
		fillPool(t, server, c, 20)
		if err := server.Client().Do("client", "kill", "type", "normal").Err(); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		for range 20 {
			all.Add(1)
			go func() {
				defer all.Done()
				for ping(context.Background(), c) == nil {
				}
			}()
		}
		time.Sleep(2 * time.Millisecond)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		all.Wait()
		if err := ping(context.Background(), c); err != redis.ErrClosed {
			t.Errorf("got %v", err)
		}
	}
}

// countLines counts the lines that hold text.
func countLines(lines, text string) int {
	n := 0
	for _, line := range strings.Split(lines, "\n") {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}
