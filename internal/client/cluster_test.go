// This file owns the tests of a client of Redis Cluster.

package client_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-redis/redis/v7"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
)

func clusterOptions(addrs ...string) client.Options {
	return client.Options{Mode: client.Cluster, Addrs: addrs, PoolSize: 20}
}

// pipeline sets and gets the keys in one pipeline, each followed by a script call.
func pipeline(ctx context.Context, c redis.UniversalClient, keys ...string) error {
	pipe := c.Pipeline()
	var gets []*redis.StringCmd
	var evals []*redis.Cmd
	for _, key := range keys {
		get := redis.NewStringCmd("get", key)
		eval := redis.NewCmd("eval", "return redis.call('get', KEYS[1])", "1", key)
		_ = pipe.Process(redis.NewStatusCmd("set", key, key))
		_ = pipe.Process(get)
		_ = pipe.Process(eval)
		gets, evals = append(gets, get), append(evals, eval)
	}
	if _, err := pipe.ExecContext(ctx); err != nil {
		return err
	}
	for i, key := range keys {
		if gets[i].Val() != key || evals[i].Val() != key {
			return fmt.Errorf("got %q and %q for %q", gets[i].Val(), evals[i].Val(), key)
		}
	}
	return nil
}

func keys(prefix string, n int) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprint(prefix, i))
	}
	return list
}

func TestCluster(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	certs := redistest.NewCerts(t)
	secret := func() (string, error) { return "secret", nil }
	for _, tt := range []struct {
		name   string
		server redistest.ClusterOptions
		opt    client.Options
	}{
		{"plain", redistest.ClusterOptions{}, client.Options{}},
		{"TLS, user and password",
			redistest.ClusterOptions{NoReplicas: true, Certs: certs, Args: []string{"--user", "default off", "--user", "app on >secret ~* +@all"}},
			client.Options{TLS: clientTLS(t, certs), Username: "app", Password: secret}},
		{"host names", redistest.ClusterOptions{NoReplicas: true, Args: []string{"--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"}}, client.Options{}},
		{"host names that are missing", redistest.ClusterOptions{NoReplicas: true, Args: []string{"--cluster-preferred-endpoint-type", "hostname"}}, client.Options{}},
		{"unknown endpoints", redistest.ClusterOptions{NoReplicas: true, Args: []string{"--cluster-preferred-endpoint-type", "unknown-endpoint"}}, client.Options{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cluster := redistest.StartCluster(t, tt.server)
			o := tt.opt
			o.Mode, o.Addrs, o.PoolSize = client.Cluster, cluster.Addrs()[:1], 20
			c := open(t, o)
			ctx := within(t, 20*time.Second)

			all := keys("key", 300)
			for _, key := range all {
				if err := setAndGet(ctx, c, key); err != nil {
					t.Fatal(err)
				}
			}
			if err := pipeline(ctx, c, all...); err != nil {
				t.Error(err)
			}
			script := redis.NewScript("return redis.call('get', KEYS[1])")
			for _, key := range all[:30] {
				sha := redis.NewCmd("evalsha", script.Hash(), "1", key)
				err := c.ProcessContext(ctx, sha)
				if err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
					sha = redis.NewCmd("eval", "return redis.call('get', KEYS[1])", "1", key)
					err = c.ProcessContext(ctx, sha)
				}
				if err != nil || sha.Val() != key {
					t.Errorf("script for %s: %v, %v", key, sha.Val(), err)
				}
			}

			cc := c.(interface {
				DBSize() *redis.IntCmd
				ForEachMaster(func(*redis.Client) error) error
			})
			if n, err := cc.DBSize().Result(); err != nil || n != 300 {
				t.Errorf("DBSIZE %d, %v", n, err)
			}
			var found atomic.Int64
			if err := cc.ForEachMaster(func(master *redis.Client) error {
				iter := master.Scan(0, "key*", 100).Iterator()
				for iter.Next() {
					found.Add(1)
				}
				return iter.Err()
			}); err != nil || found.Load() != 300 {
				t.Errorf("SCAN found %d, %v", found.Load(), err)
			}
			for _, key := range append([]string{"", "{}x", "a{b", "a}b{c}d", "{x}{y}"}, keys("key", 300)...) {
				if got, want := c.(client.Client).Server(key), fmt.Sprint(":", cluster.MasterOf(cluster.Slot(key)).Port()); !strings.HasSuffix(got, want) {
					t.Errorf("%q is on %s, want port %s", key, got, want)
				}
			}
			for _, node := range cluster.Nodes() {
				if n := node.Calls()["command"]; n > 0 {
					t.Errorf("%s was asked %d times for COMMAND", node.Addr(), n)
				}
			}
			// All of the slots with the keys just written, each sent to the right node at once.
			for _, node := range cluster.Nodes() {
				if info, _ := node.Client().Info("errorstats").Result(); strings.Contains(info, "MOVED") {
					t.Errorf("%s answered with MOVED", node.Addr())
				}
			}
		})
	}
}

func TestMigratingSlotIsFollowed(t *testing.T) {
	t.Parallel()
	for _, endpoints := range []string{"ip", "unknown-endpoint"} {
		t.Run(endpoints, func(t *testing.T) {
			t.Parallel()
			testMigration(t, redistest.StartCluster(t, redistest.ClusterOptions{
				NoReplicas: true,
				Args:       []string{"--cluster-preferred-endpoint-type", endpoints},
			}))
		})
	}
}

func testMigration(t *testing.T, cluster *redistest.Cluster) {
	c := open(t, clusterOptions(cluster.Addrs()...))
	ctx := within(t, 60*time.Second)
	slot := cluster.Slot("{moving}")
	all := keys("{moving}", 100)
	for _, key := range all {
		if err := setAndGet(ctx, c, key); err != nil {
			t.Fatal(err)
		}
	}

	stop := make(chan struct{})
	var load sync.WaitGroup
	for _, call := range []func() error{
		func() error { return setAndGet(ctx, c, "{moving}single") },
		func() error { return pipeline(ctx, c, append(keys("{moving}", 10), keys("other", 10)...)...) },
		func() error {
			cmd := redis.NewCmd("eval", "return redis.call('set', KEYS[1], ARGV[1])", "1", "{moving}script", "v")
			return c.ProcessContext(ctx, cmd)
		},
	} {
		load.Add(1)
		go func() {
			defer load.Done()
			calls, failed, _, longest, last := outage(stop, call)
			t.Logf("%d calls, the longest %v", calls, longest)
			if failed > 0 {
				t.Errorf("%d calls failed, the last: %v", failed, last)
			}
		}()
	}
	for range 3 {
		from := cluster.MasterOf(slot)
		to := cluster.Nodes()[0]
		if to == from {
			to = cluster.Nodes()[1]
		}
		m := cluster.MigrateSlot(slot, from, to)
		for m.MoveKeys(5) > 0 {
			time.Sleep(2 * time.Millisecond)
		}
		if err := pipeline(ctx, c, all...); err != nil {
			t.Error(err)
		}
		m.Finish()
		if err := pipeline(ctx, c, all...); err != nil {
			t.Error(err)
		}
		if err := setAndGet(ctx, c, all[0]); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	load.Wait()
}

// fakeNode is a cluster node on a loopback address other than the usual one. It says that node owner has all slots, whose
// host it does not know, and sends away commands that are for another.
type fakeNode struct {
	listener net.Listener
	shown    [2]*fakeNode // if set: it says that the first has all slots, and the second is its replica, and knows their hosts
	owner    atomic.Pointer[fakeNode]
	moving   atomic.Pointer[fakeNode] // where the keys are already
	cut      atomic.Int32             // how many of the next connections end when they are asked for something
}

func startFakeNode(t *testing.T) *fakeNode { return startFakeNodeOn(t, "127.0.0.2") }

func startFakeNodeOn(t *testing.T, host string) *fakeNode {
	l, err := net.Listen("tcp", host+":0")
	if err != nil {
		t.Skip("skipped: this system has no second loopback address: ", err)
	}
	n := &fakeNode{listener: l}
	n.owner.Store(n)
	accept(t, l, func(c net.Conn) { go n.serve(c) })
	return n
}

func (n *fakeNode) port() int { return n.listener.Addr().(*net.TCPAddr).Port }

func (n *fakeNode) serve(c net.Conn) {
	b := make([]byte, 1024)
	for {
		k, err := c.Read(b)
		if err != nil {
			return
		}
		owner, moving := n.owner.Load(), n.moving.Load()
		switch request := string(b[:k]); {
		case strings.Contains(request, "slots") && n.shown[0] != nil:
			fmt.Fprintf(c, "*1\r\n*4\r\n:0\r\n:16383\r\n*2\r\n+127.0.0.1\r\n:%d\r\n*2\r\n+127.0.0.1\r\n:%d\r\n", n.shown[0].port(), n.shown[1].port())
		case strings.Contains(request, "slots"):
			// Each node: host, port, id, and what a later version may add; the second one is a replica.
			fmt.Fprintf(c, "*1\r\n*4\r\n:0\r\n:16383\r\n*5\r\n$-1\r\n:%d\r\n+id1\r\n*0\r\n+more\r\n*4\r\n$-1\r\n:%d\r\n+id2\r\n*0\r\n", owner.port(), 1)
		case strings.Contains(request, "PING"):
			fmt.Fprint(c, "+PONG\r\n")
		case n.cut.Add(-1) >= 0:
			c.Close()
			return
		case strings.Contains(request, "asking"):
			fmt.Fprintf(c, "+OK\r\n+%d\r\n", n.port())
		case moving != nil:
			fmt.Fprintf(c, "-ASK 0 :%d\r\n", moving.port())
		case owner != n:
			fmt.Fprintf(c, "-MOVED 0 :%d\r\n", owner.port())
		default:
			fmt.Fprintf(c, "+%d\r\n", n.port())
		}
	}
}

func TestAClusterClientTellsOfTheRepliesThatItLost(t *testing.T) {
	t.Parallel()
	node := startFakeNode(t)
	c := open(t, clusterOptions(node.listener.Addr().String()))
	for _, row := range []struct {
		cuts int32
		want bool
	}{{0, false}, {1, true}, {2, true}, {0, false}} {
		for name, get := range map[string]func(context.Context) error{
			"command": func(ctx context.Context) error { return c.ProcessContext(ctx, redis.NewStringCmd("get", "key")) },
			"pipeline": func(ctx context.Context) error {
				p := c.Pipeline()
				_ = p.Process(redis.NewStringCmd("get", "key"))
				_, err := p.ExecContext(ctx)
				return err
			},
		} {
			var lost atomic.Bool
			node.cut.Store(row.cuts)
			err := get(client.WithLosses(within(t, 10*time.Second), &lost))
			if err != nil || lost.Load() != row.want {
				t.Errorf("%s with %d connections cut: %v, lost %v", name, row.cuts, err, lost.Load())
			}
		}
	}
}

func TestUnknownHostIsTheOneThatWasAsked(t *testing.T) {
	t.Parallel()
	first, second := startFakeNode(t), startFakeNode(t)
	c := open(t, clusterOptions(first.listener.Addr().String()))
	get := func() string {
		t.Helper()
		cmd := redis.NewStringCmd("get", "key")
		if err := c.ProcessContext(within(t, 10*time.Second), cmd); err != nil {
			t.Fatal(err)
		}
		return cmd.Val()
	}
	if got, want := get(), fmt.Sprint(first.port()); got != want {
		t.Errorf("answered by %s, want %s", got, want)
	}
	first.moving.Store(second)
	if got, want := get(), fmt.Sprint(second.port()); got != want {
		t.Errorf("after ASK answered by %s, want %s", got, want)
	}
	first.moving.Store(nil)
	first.owner.Store(second)
	if got, want := get(), fmt.Sprint(second.port()); got != want {
		t.Errorf("after MOVED answered by %s, want %s", got, want)
	}
	if err := c.(interface{ ReloadState() error }).ReloadState(); err != nil {
		t.Fatal(err)
	}
	first.listener.Close()
	if err := c.(interface{ ReloadState() error }).ReloadState(); err != nil {
		t.Errorf("the second node was not asked: %v", err)
	}
}

func TestUnknownHostIsThatOfTheNodeWithThePort(t *testing.T) {
	t.Parallel()
	asked, first, second := startFakeNode(t), startFakeNodeOn(t, "127.0.0.1"), startFakeNodeOn(t, "127.0.0.1")
	asked.shown = [2]*fakeNode{first, second}
	first.owner.Store(second)
	c := open(t, clusterOptions(asked.listener.Addr().String()))
	cmd := get("key")
	if err := c.ProcessContext(within(t, 10*time.Second), cmd); err != nil || cmd.Val() != fmt.Sprint(second.port()) {
		t.Errorf("answered by %q, %v, want %d", cmd.Val(), err, second.port())
	}
}

func TestDeadMasterIsReplaced(t *testing.T) {
	t.Parallel()
	redistest.Require(t)
	certs := redistest.NewCerts(t)
	for _, tt := range []struct {
		name   string
		server redistest.ClusterOptions
		opt    client.Options
		hang   bool
	}{
		{"hanging", redistest.ClusterOptions{}, client.Options{}, true},
		{"killed, with TLS and password", redistest.ClusterOptions{Certs: certs, Args: []string{"--requirepass", "secret"}},
			client.Options{TLS: clientTLS(t, certs), Password: func() (string, error) { return "secret", nil }}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			cluster := redistest.StartCluster(t, tt.server)
			o := tt.opt
			o.Mode, o.Addrs, o.PoolSize, o.ReadTimeout = client.Cluster, cluster.Addrs(), 20, time.Second
			c := open(t, o)
			if err := pipeline(within(t, 10*time.Second), c, keys("before", 100)...); err != nil {
				t.Fatal(err)
			}

			stop := make(chan struct{})
			var load sync.WaitGroup
			for name, call := range map[string]func(context.Context) error{
				"commands":  func(ctx context.Context) error { return setAndGet(ctx, c, "key") },
				"pipelines": func(ctx context.Context) error { return pipeline(ctx, c, "key", "another") },
			} {
				load.Add(1)
				go func() {
					defer load.Done()
					calls, failed, lasted, longest, last := outage(stop, func() error { return call(within(t, 5*time.Second)) })
					t.Logf("%s: %d calls, %d failed, for %v, the longest %v; last: %v", name, calls, failed, lasted, longest, last)
				}()
			}
			time.Sleep(100 * time.Millisecond)
			master := cluster.MasterOf(cluster.Slot("key"))
			begin := time.Now()
			if tt.hang {
				master.Pause()
			} else {
				master.Kill()
			}
			cluster.AwaitHealthy()
			t.Logf("failover took %v", time.Since(begin))
			// The only pause that the client may add: until the slots are read again.
			time.Sleep(1200 * time.Millisecond)
			ctx := within(t, 30*time.Second)
			start := time.Now()
			for i := range 100 {
				if err := setAndGet(ctx, c, fmt.Sprint("after", i)); err != nil {
					t.Errorf("command after the failover: %v", err)
				}
				if err := pipeline(ctx, c, fmt.Sprint("after", i), "key"); err != nil {
					t.Errorf("pipeline after the failover: %v", err)
				}
			}
			if d := time.Since(start); d > 10*time.Second { // with the old slots each would take a second
				t.Errorf("200 calls took %v after the failover", d)
			}
			close(stop)
			load.Wait()
		})
	}
}

func TestPipelinesAloneNoticeADeadMaster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{})
	c := open(t, clusterOptions(cluster.Addrs()...))
	if err := pipeline(within(t, 10*time.Second), c, "key"); err != nil {
		t.Fatal(err)
	}
	cluster.MasterOf(cluster.Slot("key")).Kill()
	cluster.AwaitHealthy()
	start := time.Now()
	for pipeline(within(t, 10*time.Second), c, "key") != nil {
		if time.Since(start) > 10*time.Second { // by itself go-redis would do so for up to a minute
			t.Fatal("still looking for the old master after 10 s")
		}
	}
}

func TestSilentNodeDoesNotHoldUpTheSlots(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
	proxy := redistest.Proxy(t, cluster.Addrs()[0])
	proxy.Hold(true)
	c := open(t, patient(clusterOptions(proxy.Addr(), cluster.Addrs()[1])))
	start := time.Now()
	if err := setAndGet(within(t, 20*time.Second), c, "key"); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(start); d > 10*time.Second {
		t.Errorf("took %v", d)
	}
}

func TestIdleClusterConnectionsCostNoCommandAfterARestart(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
	c := open(t, clusterOptions(cluster.Addrs()...))
	ctx := within(t, 20*time.Second)
	var all sync.WaitGroup
	for i := range 60 {
		all.Add(1)
		go func() {
			defer all.Done()
			key := fmt.Sprint("list", i)
			if err := c.ProcessContext(ctx, redis.NewStringCmd("eval", "local t = redis.call('time'); return t[1]", "1", key)); err != nil {
				t.Error(err)
			}
		}()
	}
	all.Wait()
	for _, node := range cluster.Nodes() {
		if err := node.Client().Do("client", "kill", "type", "normal").Err(); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(20 * time.Millisecond)
	if n := failedAttempts(t, 100, func(i int) error { return setAndGet(ctx, c, fmt.Sprint("key", i)) }); n > 0 {
		t.Errorf("%d commands failed", n)
	}
	if n := failedAttempts(t, 10, func(i int) error { return pipeline(ctx, c, keys("key", 20)...) }); n > 0 {
		t.Errorf("%d pipelines failed", n)
	}
}

func TestClusterCommandsKeepToADeadlineWithoutDone(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
	c := open(t, patient(clusterOptions(cluster.Addrs()...)))
	if err := setAndGet(within(t, 10*time.Second), c, "key"); err != nil {
		t.Fatal(err)
	}
	cluster.MasterOf(cluster.Slot("key")).Pause()
	for name, call := range map[string]func(context.Context) error{
		"command":  func(ctx context.Context) error { return c.ProcessContext(ctx, redis.NewStringCmd("get", "key")) },
		"pipeline": func(ctx context.Context) error { return pipeline(ctx, c, "key") },
	} {
		start := time.Now()
		err := call(deadline{context.Background(), start.Add(200 * time.Millisecond)})
		if d := time.Since(start); err == nil || d > 10*time.Second {
			t.Errorf("%s: %v after %v", name, err, d)
		}
		var netErr net.Error
		if !errors.As(err, &netErr) && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
