// Clients that an application brings. adapters/testdata/adapters_test.go adds those of another make to the list.

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
	goredis "github.com/go-redis/redis/v7"
)

// ownClient is a client of an application.
type ownClient struct {
	name string
	kind string // of servers: standalone, sentinel or cluster

	// connect returns what makes providers on one client, of the server, the Sentinels or nodes at some addresses.
	connect func(t testing.TB, addrs []string) (own func() *redis.Provider, closeClient func())
}

var ownClients = []ownClient{
	{"go-redis v7", "standalone", func(t testing.TB, addrs []string) (func() *redis.Provider, func()) {
		c := goredis.NewClient(&goredis.Options{Addr: addrs[0]})
		return func() *redis.Provider { return redis.NewProvider(c) }, func() { _ = c.Close() }
	}},
	{"another make", "standalone", func(t testing.TB, addrs []string) (func() *redis.Provider, func()) {
		c := anotherMake{goredis.NewClient(&goredis.Options{Addr: addrs[0]})}
		return func() *redis.Provider { return redis.NewProviderOn(c) }, func() { _ = c.Close() }
	}},
	{"another make, cluster", "cluster", func(t testing.TB, addrs []string) (func() *redis.Provider, func()) {
		c := client.New(client.Options{Mode: client.Cluster, Addrs: addrs})
		nodes := c.(interface {
			ForEachMaster(func(*goredis.Client) error) error
		})
		own := anotherCluster{anotherMake{c}, nodes.ForEachMaster}
		return func() *redis.Provider { return redis.NewProviderOn(own) }, func() { _ = c.Close() }
	}},
}

// anotherMake is a client of another make, as an application may write it.
type anotherMake struct{ goredis.UniversalClient }

func (c anotherMake) Pipeline(ctx context.Context, commands []redis.Command) []redis.Reply {
	pipe := c.UniversalClient.Pipeline()
	cmds := make([]*goredis.Cmd, len(commands))
	for i, command := range commands {
		var args []any
		for _, arg := range command.Args {
			args = append(args, arg)
		}
		cmds[i] = goredis.NewCmd(args...)
		_ = pipe.Process(cmds[i])
	}
	_, _ = pipe.ExecContext(ctx)
	replies := make([]redis.Reply, len(cmds))
	for i, cmd := range cmds {
		replies[i] = redis.Reply{Value: cmd.Val(), Err: cmd.Err()}
		if errors.Is(cmd.Err(), goredis.ErrClosed) {
			replies[i].Err = redis.ErrClosed
		}
	}
	return replies
}

type anotherCluster struct {
	anotherMake
	forEachMaster func(func(*goredis.Client) error) error
}

func (c anotherCluster) Masters(context.Context) (map[string]redis.Client, error) {
	var mu sync.Mutex
	all := map[string]redis.Client{}
	err := c.forEachMaster(func(node *goredis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		all[node.Options().Addr] = anotherMake{node}
		return nil
	})
	return all, err
}

// forEachOwnClient runs a test for the clients of a kind of servers.
func forEachOwnClient(t *testing.T, kind string, f func(t *testing.T, c ownClient)) {
	for _, c := range ownClients {
		if c.kind == kind {
			t.Run(c.name, func(t *testing.T) { f(t, c) })
		}
	}
}

func (c ownClient) open(t *testing.T, config string, addrs ...string) *redis.Provider {
	t.Helper()
	own, closeClient := c.connect(t, addrs)
	t.Cleanup(closeClient)
	return configure(t, own(), config, life)
}

func TestTheSuiteOnAnApplicationsClient(t *testing.T) {
	for kind, start := range map[string]func(t *testing.T) (addrs []string, raw goredis.UniversalClient){
		"standalone": func(t *testing.T) ([]string, goredis.UniversalClient) {
			s := redistest.Start(t)
			return []string{s.Addr()}, s.Client()
		},
		"sentinel": func(t *testing.T) ([]string, goredis.UniversalClient) {
			s := redistest.StartSentinel(t, redistest.SentinelOptions{})
			return s.Addrs(), s.Master().Client()
		},
		"cluster": func(t *testing.T) ([]string, goredis.UniversalClient) {
			c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
			return c.Addrs(), rawClient(t, client.Options{Mode: client.Cluster, Addrs: c.Addrs()})
		},
	} {
		forEachOwnClient(t, kind, func(t *testing.T, c ownClient) {
			addrs, raw := start(t)
			captureLog(t)
			own, closeClient := c.connect(t, addrs)
			t.Cleanup(closeClient)
			config := `{"key_prefix":""}`
			runSuite(t, &site{T: t, config: config, raw: raw, own: own, Provider: configure(t, own(), config, life)}, ofTheProcess)
		})
	}
}

// primed has a server know the scripts, so that the next call of each is executed.
func (s *site) primed() {
	s.Helper()
	id := s.create("n", 0)
	s.change(id, "n", 1)
	if _, err := s.SessionRegenerate(ctx, id, newID()); err != nil {
		s.Fatal(err)
	}
}

// Who repeats a command must know whether it may have been executed, so that the client does not.
func TestAnApplicationsClientSendsNothingTwice(t *testing.T) {
	forEachOwnClient(t, "standalone", func(t *testing.T, c ownClient) {
		s := redistest.Start(t)
		network := redistest.Proxy(t, s.Addr())
		p := c.open(t, `{"max_retries":-1,"outage_time":"0s","sharded":false}`, network.Addr())
		told := make(chan redis.Failure, 10)
		p.OnError(func(_ context.Context, f redis.Failure) { told <- f })
		site := &site{T: t, raw: s.Client(), Provider: p}
		site.primed()
		id := site.create("n", 0)
		store := site.read(p, id)
		set(t, store, "n", 1)
		before := s.Calls()["evalsha"]
		network.LoseReply(id, func() {})
		store.SessionRelease(ctx, nil)
		select {
		case f := <-told:
			if f.Kind != redis.KindUnreachable {
				t.Errorf("the loss is told as %s: %v", f.Kind, f.Err)
			}
		default:
			t.Error("nobody is told that the reply was lost")
		}
		if n := s.Calls()["evalsha"] - before; n != 1 {
			t.Errorf("the save was sent %d times", n)
		}
		await(t, "the client to be connected again", func() bool { _, err := p.SessionExist(ctx, id); return err == nil })
		site.holds(id, "n", 1)
	})
}

func TestASaveThroughAnApplicationsClientIsDoneOnce(t *testing.T) {
	forEachOwnClient(t, "standalone", func(t *testing.T, c ownClient) {
		s := redistest.Start(t)
		network := redistest.Proxy(t, s.Addr())
		p, other := c.open(t, "", network.Addr()), open(t, s.Addr(), life)
		for _, provider := range []*redis.Provider{p, other} {
			provider.MergeKey("n", redis.Sum)
		}
		site := &site{T: t, raw: s.Client(), Provider: p}
		site.primed()
		add := func(p *redis.Provider, id string, n int) {
			store := site.read(p, id)
			set(t, store, "n", store.Get(ctx, "n").(int)+n)
			store.SessionRelease(ctx, nil)
		}
		id := site.create("n", 0)
		store := site.read(p, id)
		set(t, store, "n", 1)
		network.LoseReply(id, func() { add(other, id, 10) })
		store.SessionRelease(ctx, nil)
		site.holds(id, "n", 11)

		next := newID()
		network.LoseReply(next, func() { add(other, next, 100) })
		moved, err := p.SessionRegenerate(ctx, id, next)
		if err != nil {
			t.Fatal(err)
		}
		site.gone(id)
		site.holds(next, "n", 111)
		network.LoseReply(next, func() {})
		if err := p.SessionDestroy(ctx, next); err != nil {
			t.Error(err)
		}
		set(t, moved, "n", 5)
		moved.SessionRelease(ctx, nil)
		site.gone(next)
		if p.Stats().Retries == 0 {
			t.Error("nothing was repeated")
		}
	})
}

// Neither a deadline nor the time limit of an operation nor a caller who leaves waits for a server that hangs, whatever the client's
// own time limits.
func TestNobodyWaitsForAnApplicationsClientThatHangs(t *testing.T) {
	forEachOwnClient(t, "standalone", func(t *testing.T, c ownClient) {
		s := redistest.Start(t)
		p := c.open(t, `{"outage_time":"0s","dial_timeout":"1s","read_timeout":"200ms","write_timeout":"200ms"}`, s.Addr())
		id := (&site{T: t, raw: s.Client(), Provider: p}).create("n", 1)
		s.Pause()
		short, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		defer cancel()
		begun := time.Now()
		if _, err := p.SessionRead(short, id); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a deadline passes: %v", err)
		}
		gone, leave := context.WithCancel(ctx)
		time.AfterFunc(100*time.Millisecond, leave)
		if _, err := p.SessionExist(gone, id); !errors.Is(err, context.Canceled) {
			t.Errorf("a caller leaves: %v", err)
		}
		if err := p.SessionDestroy(gone, newID()); !errors.Is(err, redis.ErrUnreachable) {
			t.Errorf("the time limit passes: %v", err)
		}
		if took := time.Since(begun); took > 3500*time.Millisecond { // 0.5 + 0.1 + 1.4 s
			t.Errorf("that took %v", took)
		}
		s.Resume()
		await(t, "the server to serve", func() bool {
			found, err := p.SessionExist(ctx, id)
			return found && err == nil
		})
	})
}

func TestAnApplicationsClientGoesOnAfterARestart(t *testing.T) {
	forEachOwnClient(t, "standalone", func(t *testing.T, c ownClient) {
		s := redistest.Start(t, "--save", "", "--appendonly", "yes")
		p := c.open(t, `{"outage_time":"10s"}`, s.Addr())
		captureLog(t)
		site := &site{T: t, raw: s.Client(), Provider: p}
		var ids []string
		for range 20 {
			ids = append(ids, site.create("n", 0))
		}
		s.Stop()
		var wg sync.WaitGroup
		for _, id := range ids {
			wg.Add(1)
			go func() {
				defer wg.Done()
				store, err := p.SessionRead(ctx, id)
				if err != nil {
					t.Error(err)
					return
				}
				_ = store.Set(ctx, "n", 1)
				store.SessionRelease(ctx, nil)
			}()
		}
		s.Restart()
		wg.Wait()
		for _, id := range ids {
			site.holds(id, "n", 1)
		}
	})
}

func TestAClosedClientIsSaidToBeClosed(t *testing.T) {
	forEachOwnClient(t, "standalone", func(t *testing.T, c ownClient) {
		s := redistest.Start(t)
		own, closeClient := c.connect(t, []string{s.Addr()})
		p := configure(t, own(), "", life)
		closeClient()
		begun := time.Now()
		if _, err := p.SessionRead(ctx, newID()); !errors.Is(err, redis.ErrClosed) {
			t.Errorf("SessionRead: %v", err)
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("that took %v", took)
		}
	})
}

func TestRequestsGoOnThroughAnApplicationsClientWhile(t *testing.T) {
	for _, event := range failovers {
		t.Run(event.name, func(t *testing.T) {
			forEachOwnClient(t, event.kind, func(t *testing.T, c ownClient) {
				addrs, happens := event.start(t)
				l := &load{T: t, p: c.open(t, `{"key_prefix":"{shop}:"}`, addrs...), regenerates: strings.Contains(event.name, "migrates")}
				l.run(happens)
			})
		})
	}
}

func TestAClientThatCannotKeepSessionsIsRefused(t *testing.T) {
	c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
	for want, own := range map[string]goredis.UniversalClient{
		"use the provider redis_cluster": goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: c.Addrs()}),
		"reads from replicas":            goredis.NewClusterClient(&goredis.ClusterOptions{Addrs: c.Addrs(), ReadOnly: true}),
		"spreads keys by itself":         goredis.NewRing(&goredis.RingOptions{Addrs: map[string]string{"one": c.Addrs()[0]}}),
	} {
		err := redis.NewProvider(own).SessionInit(ctx, life, "")
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("SessionInit: %v, want %q", err, want)
		}
		_ = own.Close()
	}
}

// A client that has fewer replies than commands hands out none of them, and what comes late touches nothing.
type miscounting struct {
	anotherMake
	by int
}

func (c miscounting) Pipeline(ctx context.Context, commands []redis.Command) []redis.Reply {
	replies := c.anotherMake.Pipeline(ctx, commands)
	if len(commands) > 1 {
		replies = append(replies, replies[0])[:len(replies)+c.by]
	}
	return replies
}

func TestRepliesThatAreNotCountedRightAreNobodys(t *testing.T) {
	s := redistest.Start(t)
	c := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	defer c.Close()
	for _, by := range []int{-1, 1} {
		p := redis.NewProviderOn(miscounting{anotherMake{c}, by})
		if err := p.SessionInit(ctx, life, `{"outage_time":"0s","max_retries":-1,"sharded":false}`); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("has %d replies to %d commands", 3+by, 3)
		if _, err := p.SessionRead(ctx, newID()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("SessionRead: %v, want %q", err, want)
		}
	}
}
