// This file owns the tests of a client under Redis Sentinel.

package client_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-redis/redis/v7"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
)

func sentinelOptions(addrs ...string) client.Options {
	return client.Options{Mode: client.Sentinel, MasterName: redistest.MasterName, Addrs: addrs, PoolSize: 50}
}

func TestSentinelsWithUsersAndTLS(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	certs := redistest.NewCerts(t)
	s := redistest.StartSentinel(t, redistest.SentinelOptions{
		Certs:        certs,
		Args:         []string{"--user", "default off", "--user", "app on >secret ~* +@all"},
		SentinelArgs: []string{"--user", "default off", "--user", "asker on >watch +sentinel"},
	})
	o := sentinelOptions(s.Addrs()...)
	o.TLS, o.SentinelTLS = clientTLS(t, certs), clientTLS(t, certs)
	o.Username, o.Password = "app", func() (string, error) { return "secret", nil }
	o.SentinelUsername, o.SentinelPassword = "asker", "watch"
	o.DB = 2
	c := open(t, o)
	ctx := within(t, 20*time.Second)
	if err := setAndGet(ctx, c, "key"); err != nil {
		t.Fatal(err)
	}
	fillPool(t, s.Master(), c, 40)
	s.Failover()
	if n := failedAttempts(t, 100, func(i int) error { return setAndGet(ctx, c, fmt.Sprint("key", i)) }); n > 0 {
		t.Errorf("%d attempts failed after the failover", n)
	}
}

func TestSentinelsHaveTheirOwnTLS(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	certs := redistest.NewCerts(t)
	for _, tt := range []struct {
		name               string
		started            redistest.SentinelOptions
		servers, sentinels bool   // speak TLS
		confused           string // what is said where the Sentinels are taken to speak like the servers
	}{
		{name: "plain Sentinels", started: redistest.SentinelOptions{Certs: certs, PlainPort: true}, servers: true,
			confused: "for a Sentinel: sentinel_tls"},
		{name: "plain servers", sentinels: true, confused: "if the server speaks TLS on this port"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := redistest.StartSentinel(t, tt.started)
			addrs := s.Addrs()
			if tt.sentinels {
				for i := range addrs {
					addrs[i] = speakTLS(t, certs, addrs[i])
				}
			}
			o := sentinelOptions(addrs...)
			if tt.servers {
				o.TLS = clientTLS(t, certs)
			}
			if tt.sentinels {
				o.SentinelTLS = clientTLS(t, certs)
			}
			o.SentinelPassword = "not asked for"
			o.NoPassword = func(addr string) { t.Errorf("told that %s has no password", addr) }
			c := open(t, o)
			ctx := within(t, 20*time.Second)
			if err := setAndGet(ctx, c, "key"); err != nil {
				t.Fatal(err)
			}
			fillPool(t, s.Master(), c, 10)
			s.Failover()
			if n := failedAttempts(t, 20, func(i int) error { return setAndGet(ctx, c, fmt.Sprint("key", i)) }); n > 0 {
				t.Errorf("%d attempts failed after the failover", n)
			}
			o.SentinelTLS, o.DialTimeout = o.TLS, 2*time.Second
			if err := ping(ctx, open(t, o)); err == nil || !strings.Contains(err.Error(), tt.confused) {
				t.Errorf("as if the Sentinels spoke like the servers: %v", err)
			}
		})
	}
}

// speakTLS listens with TLS for a server that does not.
func speakTLS(t *testing.T, certs *redistest.Certs, addr string) string {
	pair, err := tls.LoadX509KeyPair(certs.CertFile, certs.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", addr)
			if err != nil {
				client.Close()
				continue
			}
			for _, pipe := range [][2]net.Conn{{client, server}, {server, client}} {
				go func() {
					_, _ = io.Copy(pipe[0], pipe[1])
					client.Close()
					server.Close()
				}()
			}
		}
	}()
	return l.Addr().String()
}

// outage calls until stop is closed, and returns how many calls failed, from the first to the last of them for how long,
// and the longest call.
func outage(stop <-chan struct{}, call func() error) (calls, failed int, lasted, longest time.Duration, last error) {
	var first time.Time
	for {
		select {
		case <-stop:
			return
		default:
		}
		start := time.Now()
		err := call()
		longest = max(longest, time.Since(start))
		calls++
		if err != nil {
			if first.IsZero() {
				first = start
			}
			failed, lasted, last = failed+1, time.Since(first), err
			time.Sleep(5 * time.Millisecond)
		}
	}
}

func TestSentinelFailoverIsFollowed(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		end  func(*redistest.Sentinel)
	}{
		{"by hand", func(s *redistest.Sentinel) { s.Failover() }},
		{"master killed", func(s *redistest.Sentinel) { s.Master().Kill(); s.AwaitMaster(s.Replica()) }},
		{"master hangs", func(s *redistest.Sentinel) { s.Master().Pause(); s.AwaitMaster(s.Replica()) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := redistest.StartSentinel(t, redistest.SentinelOptions{})
			c := open(t, sentinelOptions(s.Addrs()...))
			fillPool(t, s.Master(), c, 40)
			stop, done := make(chan struct{}), make(chan struct{})
			go func() {
				defer close(done)
				calls, failed, lasted, longest, last := outage(stop, func() error { return setAndGet(within(t, 20*time.Second), c, "load") })
				t.Logf("%d calls, %d failed, for %v, the longest %v; last: %v", calls, failed, lasted, longest, last)
			}()
			time.Sleep(100 * time.Millisecond)
			begin := time.Now()
			tt.end(s)
			t.Logf("failover took %v", time.Since(begin))
			time.Sleep(1100 * time.Millisecond) // the hanging master's connections are given up within a second
			close(stop)
			<-done
			start := time.Now()
			ctx := within(t, 20*time.Second)
			if n := failedAttempts(t, 100, func(i int) error { return setAndGet(ctx, c, fmt.Sprint("after", i)) }); n > 0 {
				t.Errorf("%d attempts failed after the failover", n)
			}
			if d := time.Since(start); d > 10*time.Second {
				t.Errorf("100 calls took %v after the failover", d)
			}
		})
	}
}

func TestOneSentinelIsEnoughToFindTheOthers(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t, redistest.SentinelOptions{})
	c := open(t, sentinelOptions(s.Addrs()[0]))
	ctx := within(t, 30*time.Second)
	if err := ping(ctx, c); err != nil {
		t.Fatal(err)
	}
	s.Sentinels()[0].Kill()
	s.Master().Kill()
	s.AwaitMaster(s.Replica())
	if n := failedAttempts(t, 10, func(i int) error { return setAndGet(ctx, c, fmt.Sprint("key", i)) }); n > 0 {
		t.Errorf("%d attempts failed", n)
	}
}

func TestSilentSentinelDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t, redistest.SentinelOptions{})
	proxy := redistest.Proxy(t, s.Addrs()[0])
	proxy.Hold(true)
	c := open(t, patient(sentinelOptions(proxy.Addr(), s.Addrs()[1])))
	start := time.Now()
	if err := ping(within(t, 20*time.Second), c); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestSilentSentinelsKeepToTheContext(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	proxy := redistest.Proxy(t, s.Addr())
	proxy.Hold(true)
	c := open(t, patient(sentinelOptions(proxy.Addr())))
	start := time.Now()
	err := ping(deadline{context.Background(), start.Add(100 * time.Millisecond)}, c)
	if d := time.Since(start); err == nil || d > 10*time.Second {
		t.Errorf("%v after %v", err, d)
	}
}

// fakeSentinel names the server on a port as the master, and can announce another.
type fakeSentinel struct {
	listener net.Listener
	addr     string
	others   []string
	asked    atomic.Int64

	mu        sync.Mutex
	master    int
	conns     []net.Conn
	listeners []net.Conn
}

// startFakeSentinel starts one that knows others.
func startFakeSentinel(t *testing.T, master int, others ...*fakeSentinel) *fakeSentinel {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &fakeSentinel{listener: l, addr: l.Addr().String(), master: master}
	for _, other := range others {
		s.others = append(s.others, other.addr)
	}
	accept(t, l, func(c net.Conn) {
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		go s.serve(c)
	})
	return s
}

func (s *fakeSentinel) stop() {
	s.listener.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
}

func (s *fakeSentinel) serve(c net.Conn) {
	b := make([]byte, 1024)
	for {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		s.mu.Lock()
		switch request := strings.ToLower(string(b[:n])); {
		case strings.Contains(request, "get-master-addr-by-name"):
			s.asked.Add(1)
			fmt.Fprintf(c, "*2\r\n+127.0.0.1\r\n+%d\r\n*%d\r\n", s.master, len(s.others))
			for _, other := range s.others {
				host, port, _ := net.SplitHostPort(other)
				fmt.Fprintf(c, "*4\r\n+ip\r\n+%s\r\n+port\r\n+%s\r\n", host, port)
			}
		case strings.Contains(request, "subscribe"):
			fmt.Fprint(c, "*3\r\n$9\r\nsubscribe\r\n$14\r\n+switch-master\r\n:1\r\n")
			s.listeners = append(s.listeners, c)
		default:
			fmt.Fprint(c, "+PONG\r\n")
		}
		s.mu.Unlock()
	}
}

func (s *fakeSentinel) listening() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.listeners) > 0
}

func (s *fakeSentinel) announce(master int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.master = master
	for _, c := range s.listeners {
		fmt.Fprint(c, "*3\r\n$7\r\nmessage\r\n$14\r\n+switch-master\r\n$3\r\n...\r\n")
	}
}

// Both servers go on to take commands, as after a failover by hand.
func TestAnnouncedMasterIsUsedAtOnce(t *testing.T) {
	t.Parallel()
	servers := []*redistest.Server{redistest.Start(t), redistest.Start(t)}
	for i, server := range servers {
		if err := server.Client().Set("number", i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	sentinel := startFakeSentinel(t, servers[0].Port())
	c := open(t, sentinelOptions(sentinel.addr))
	fillPool(t, servers[0], c, 10)
	await(t, sentinel.listening)
	fastest := time.Hour // of several, because any one may meet a machine that stalls
	for i := 1; i <= 6; i++ {
		sentinel.announce(servers[i%2].Port())
		start := time.Now()
		await(t, func() bool {
			number := redis.NewStringCmd("get", "number")
			_ = c.ProcessContext(within(t, 10*time.Second), number)
			return number.Val() == fmt.Sprint(i%2)
		})
		fastest = min(fastest, time.Since(start))
	}
	if fastest > 500*time.Millisecond { // without the announcement it is noticed within a second
		t.Errorf("the fastest switch took %v", fastest)
	}
	if err := c.Close(); err != nil {
		t.Errorf("close, with connections to the former master: %v", err)
	}
}

// startReplica starts a master and its replica.
func startReplica(t *testing.T) (master, replica *redistest.Server) {
	master, replica = redistest.Start(t), redistest.Start(t)
	if err := replica.Client().Do("replicaof", "127.0.0.1", master.Port()).Err(); err != nil {
		t.Fatal(err)
	}
	return master, replica
}

func TestReplicaIsNotTakenForTheMaster(t *testing.T) {
	t.Parallel()
	_, replica := startReplica(t)
	c := open(t, sentinelOptions(startFakeSentinel(t, replica.Port()).addr))
	ctx := within(t, 20*time.Second)
	if err := ping(ctx, c); err == nil || !strings.Contains(err.Error(), "is a replica") {
		t.Errorf("ping: %v", err)
	}
	if err := replica.Client().Do("replicaof", "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return ping(ctx, c) == nil })
}

// silentPort returns the port of a server that hangs.
func silentPort(t *testing.T, server *redistest.Server) int {
	proxy := redistest.Proxy(t, server.Addr())
	proxy.Hold(true)
	_, port, _ := net.SplitHostPort(proxy.Addr())
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestASentinelThatIsWrongIsPassedOver(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		names   func(t *testing.T, master, replica *redistest.Server) (port int)
		alone   bool // is the only one that is configured
		opt     client.Options
		failing int // attempts may fail: there is little time for each
	}{
		{name: "it names a replica", names: func(_ *testing.T, _, replica *redistest.Server) int { return replica.Port() }},
		{name: "it names a replica, and the others", names: func(_ *testing.T, _, replica *redistest.Server) int { return replica.Port() }, alone: true},
		{name: "it names a server that hangs", names: func(t *testing.T, master, _ *redistest.Server) int { return silentPort(t, master) }},
		{name: "it names a server that hangs, and there is little time", opt: client.Options{DialTimeout: time.Second}, failing: 20,
			names: func(t *testing.T, master, _ *redistest.Server) int { return silentPort(t, master) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			master, replica := startReplica(t)
			right := []*fakeSentinel{startFakeSentinel(t, master.Port()), startFakeSentinel(t, master.Port())}
			wrong := startFakeSentinel(t, tt.names(t, master, replica), right...)
			o := sentinelOptions(wrong.addr, right[0].addr, right[1].addr)
			if tt.alone {
				o.Addrs = o.Addrs[:1]
			}
			o.DialTimeout = tt.opt.DialTimeout
			for _, s := range right {
				s.others = []string{wrong.addr, right[0].addr, right[1].addr} // each is told of itself as well: that is the same
			}
			start := time.Now()
			c := open(t, o)
			ctx := within(t, 30*time.Second)
			if n := failedAttempts(t, 20, func(i int) error { return setAndGet(ctx, c, fmt.Sprint("key", i)) }); n > tt.failing {
				t.Errorf("%d attempts failed", n)
			}
			if tt.failing > 0 {
				return
			}
			if asked := wrong.asked.Load(); asked > 2 && time.Since(start) < time.Second { // the watch asks then as well
				t.Errorf("it was asked %d times", asked)
			}
			fillPool(t, master, c, 10)
			right[0].stop() // which was asked before the other
			// On a machine that stalls, the others are silent for so long that it is asked as well. So it is tried again then,
			// after the second in which all connections are opened anew once.
			for {
				asked, begun := wrong.asked.Load(), time.Now()
				c.(client.Client).Renew()
				fillPool(t, master, c, 10)
				more := wrong.asked.Load() - asked
				if more == 0 {
					break
				}
				if time.Since(begun) < 300*time.Millisecond || time.Since(start) > 15*time.Second {
					t.Errorf("the one that is wrong was asked %d more times", more)
					break
				}
				time.Sleep(1100 * time.Millisecond)
			}
			if right[1].asked.Load() == 0 {
				t.Error("the other one that is right was not asked")
			}
		})
	}
}

func TestASentinelThatBecomesWrongDeposesNobody(t *testing.T) {
	t.Parallel()
	master, replica := startReplica(t)
	sentinel := startFakeSentinel(t, master.Port())
	c := open(t, sentinelOptions(sentinel.addr))
	fillPool(t, master, c, 5)
	await(t, sentinel.listening)
	opened, asked := connections(t, master), sentinel.asked.Load()
	sentinel.announce(replica.Port())
	await(t, func() bool { return sentinel.asked.Load() > asked+1 }) // the first time all is done by then
	fillPool(t, master, c, 5)
	if n := connections(t, master) - opened; n > 0 {
		t.Errorf("%d connections to the master were opened anew", n)
	}
}

func TestAskingAMasterKeepsToTheContext(t *testing.T) {
	t.Parallel()
	long := patient(client.Options{}) // what they would wait for else
	for _, tt := range []struct {
		name string
		opt  client.Options
		ctx  func() (context.Context, context.CancelFunc)
	}{
		{"dial timeout", client.Options{DialTimeout: 100 * time.Millisecond, ReadTimeout: time.Minute}, func() (context.Context, context.CancelFunc) {
			return context.Background(), func() {}
		}},
		{"deadline", long, func() (context.Context, context.CancelFunc) {
			return context.WithTimeout(context.Background(), 100*time.Millisecond)
		}},
		{"deadline without Done", long, func() (context.Context, context.CancelFunc) {
			return deadline{context.Background(), time.Now().Add(100 * time.Millisecond)}, func() {}
		}},
		{"cancel", long, func() (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(context.Background())
			time.AfterFunc(100*time.Millisecond, cancel)
			return ctx, cancel
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, port, _ := net.SplitHostPort(script(t, "+PONG\r\n", "")) // INFO gets no reply
			master, _ := strconv.Atoi(port)
			o := sentinelOptions(startFakeSentinel(t, master).addr)
			o.DialTimeout, o.ReadTimeout = tt.opt.DialTimeout, tt.opt.ReadTimeout
			c := open(t, o)
			ctx, cancel := tt.ctx()
			defer cancel()
			start := time.Now()
			err := ping(ctx, c)
			if d := time.Since(start); err == nil || d > 10*time.Second {
				t.Errorf("%v after %v", err, d)
			}
		})
	}
}

func TestClosedFailoverClient(t *testing.T) {
	t.Parallel()
	s := redistest.StartSentinel(t, redistest.SentinelOptions{})
	c := client.New(sentinelOptions(s.Addrs()...))
	if err := ping(within(t, 10*time.Second), c); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := ping(within(t, 10*time.Second), c); err != redis.ErrClosed {
		t.Errorf("got %v", err)
	}
	for _, sentinel := range s.Sentinels() {
		await(t, func() bool {
			list, err := sentinel.Client().Do("client", "list", "type", "normal").Text()
			return err == nil && countLines(list, "user=default") == 0
		})
	}
}
