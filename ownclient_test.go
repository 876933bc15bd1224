// Clients that an application brings. adapters/testdata/adapters_test.go adds those of another make to the list.

package redis_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
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

	repeats bool // it sends again by itself what may have been executed, which a client must not

	// connect returns what makes providers on one client, of the server, the Sentinels or nodes at some addresses.
	connect func(t testing.TB, addrs []string) (own func() *redis.Provider, closeClient func())
}

var ownClients = []ownClient{
	{"go-redis v7", "standalone", false, func(t testing.TB, addrs []string) (func() *redis.Provider, func()) {
		c := goredis.NewClient(&goredis.Options{Addr: addrs[0]})
		return func() *redis.Provider { return redis.NewProvider(c) }, func() { _ = c.Close() }
	}},
	{"another make", "standalone", false, func(t testing.TB, addrs []string) (func() *redis.Provider, func()) {
		c := anotherMake{goredis.NewClient(&goredis.Options{Addr: addrs[0]})}
		return func() *redis.Provider { return redis.NewProviderOn(c) }, func() { _ = c.Close() }
	}},
	{"another make, cluster", "cluster", true, func(t testing.TB, addrs []string) (func() *redis.Provider, func()) {
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

// starts has servers of each kind.
var starts = map[string]func(t *testing.T) (addrs []string, raw goredis.UniversalClient){
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
}

func TestTheSuiteOnAnApplicationsClient(t *testing.T) {
	for kind, start := range starts {
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

// stretch is the servers of a kind, behind a network that fails as it is told to.
type stretch struct {
	addrs   []string // on this side of the network
	servers []*redistest.Server
	proxies []*redistest.ProxyT
	raw     goredis.UniversalClient
}

// startStretch starts servers that know all scripts, so that the first call of each is executed.
func startStretch(t *testing.T, kind string) *stretch {
	all := new(stretch)
	if kind == "standalone" {
		s := redistest.Start(t)
		all.servers, all.raw = []*redistest.Server{s}, s.Client()
	} else {
		c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
		all.servers, all.raw = c.Nodes(), rawClient(t, client.Options{Mode: client.Cluster, Addrs: c.Addrs()})
	}
	scripts, _ := filepath.Glob("*.lua")
	for _, s := range all.servers {
		network := redistest.Proxy(t, s.Addr())
		all.addrs, all.proxies = append(all.addrs, network.Addr()), append(all.proxies, network)
		for _, script := range scripts {
			source, err := os.ReadFile(script)
			if err := cmp.Or(err, s.Client().ScriptLoad(string(source)).Err()); err != nil {
				t.Fatal(err)
			}
		}
		if kind == "cluster" {
			_, port, _ := net.SplitHostPort(network.Addr())
			if err := s.Client().ConfigSet("cluster-announce-port", port).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if kind != "cluster" {
		return all
	}
	await(t, "the nodes to tell where the network has them", func() bool {
		return !slices.ContainsFunc(all.servers, func(s *redistest.Server) bool {
			nodes, err := s.Client().ClusterNodes().Result()
			return err != nil || slices.ContainsFunc(all.addrs, func(addr string) bool { return !strings.Contains(nodes, addr) })
		})
	})
	return all
}

func (s *stretch) loseReply(text string, meanwhile func()) {
	for _, network := range s.proxies {
		network.LoseReply(text, meanwhile)
	}
}

func (s *stretch) calls(command string) (n int) {
	for _, server := range s.servers {
		n += server.Calls()[command]
	}
	return n
}

// forEachStretch runs a test for the clients of a server and of a cluster, each behind such a network.
func forEachStretch(t *testing.T, f func(t *testing.T, c ownClient, s *stretch)) {
	for _, kind := range []string{"standalone", "cluster"} {
		forEachOwnClient(t, kind, func(t *testing.T, c ownClient) { f(t, c, startStretch(t, kind)) })
	}
}

// Who repeats a command must know whether it may have been executed, so that the client does not.
func TestAnApplicationsClientSendsNothingTwice(t *testing.T) {
	forEachStretch(t, func(t *testing.T, c ownClient, s *stretch) {
		if c.repeats {
			t.Skip("it does")
		}
		p := c.open(t, `{"max_retries":-1,"outage_time":"0s","sharded":false}`, s.addrs...)
		told := make(chan redis.Failure, 10)
		p.OnError(func(_ context.Context, f redis.Failure) { told <- f })
		site := &site{T: t, raw: s.raw, Provider: p}
		id := site.create("n", 0)
		store := site.read(p, id)
		set(t, store, "n", 1)
		before := s.calls("evalsha")
		s.loseReply(id, func() {})
		store.SessionRelease(ctx, nil)
		select {
		case f := <-told:
			if f.Kind != redis.KindUnreachable {
				t.Errorf("the loss is told as %s: %v", f.Kind, f.Err)
			}
		default:
			t.Error("nobody is told that the reply was lost")
		}
		if n := s.calls("evalsha") - before; n != 1 {
			t.Errorf("the save was sent %d times", n)
		}
		await(t, "the client to be connected again", func() bool { _, err := p.SessionExist(ctx, id); return err == nil })
		site.holds(id, "n", 1)
	})
}

func TestASaveThroughAnApplicationsClientIsDoneOnce(t *testing.T) {
	forEachStretch(t, func(t *testing.T, c ownClient, s *stretch) {
		p, other := c.open(t, "", s.addrs...), configure(t, redis.NewProvider(s.raw), "", life)
		for _, provider := range []*redis.Provider{p, other} {
			provider.MergeKey("n", redis.Sum)
		}
		site := &site{T: t, raw: s.raw, Provider: p}
		add := func(p *redis.Provider, id string, n int) {
			store := site.read(p, id)
			set(t, store, "n", store.Get(ctx, "n").(int)+n)
			store.SessionRelease(ctx, nil)
		}
		id := site.create("n", 0)
		store := site.read(p, id)
		set(t, store, "n", 1)
		s.loseReply(id, func() { add(other, id, 10) })
		store.SessionRelease(ctx, nil)
		site.holds(id, "n", 11)

		next := newID()
		want := 11
		s.loseReply(next, func() {
			if there, _ := other.SessionExist(ctx, next); there { // in a cluster what is first sent may be a look
				want = 111
				add(other, next, 100)
			}
		})
		moved, err := p.SessionRegenerate(ctx, id, next)
		if err != nil {
			t.Fatal(err)
		}
		site.gone(id)
		site.holds(next, "n", want)
		s.loseReply(next, func() {})
		if err := p.SessionDestroy(ctx, next); err != nil {
			t.Error(err)
		}
		set(t, moved, "n", 5)
		moved.SessionRelease(ctx, nil)
		site.gone(next)
		if p.Stats().Retries == 0 && !c.repeats {
			t.Error("nothing was repeated")
		}
	})
}

// Neither a deadline nor the time limit of an operation nor a caller who leaves waits for a server that hangs, whatever the client's
// own time limits.
func TestNobodyWaitsForAnApplicationsClientThatHangs(t *testing.T) {
	forEachOwnClient(t, "standalone", func(t *testing.T, c ownClient) {
		s := redistest.Start(t)
		p := c.open(t, `{"outage_time":"0s","dial_timeout":"200ms","read_timeout":"200ms","write_timeout":"200ms"}`, s.Addr())
		id := (&site{T: t, raw: s.Client(), Provider: p}).create("n", 1)
		s.Pause()
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		gone, leave := context.WithCancel(ctx)
		for _, row := range []struct {
			name string
			call func() error
			want error
		}{
			{"a deadline passes", func() error { _, err := p.SessionRead(short, id); return err }, context.DeadlineExceeded},
			{"a caller leaves", func() error {
				time.AfterFunc(200*time.Millisecond, leave)
				_, err := p.SessionExist(gone, id)
				return err
			}, context.Canceled},
			{"the time limit passes", func() error { return p.SessionDestroy(gone, newID()) }, redis.ErrUnreachable}, // 0.6 s
		} {
			begun := time.Now()
			if err := row.call(); !errors.Is(err, row.want) {
				t.Errorf("%s: %v", row.name, err)
			}
			if took := time.Since(begun); took > 2900*time.Millisecond { // the clients' own time limit is 3 s
				t.Errorf("%s: that took %v", row.name, took)
			}
		}
		s.Resume()
		await(t, "the server to serve", func() bool {
			found, err := p.SessionExist(ctx, id)
			return found && err == nil
		})
	})
}

// created stores n sessions, in which "n" is 0.
func (s *site) created(n int) (ids []string) {
	s.Helper()
	for range n {
		ids = append(ids, s.create("n", 0))
	}
	return ids
}

// changedAtOnce sets "n" to 1 in sessions, by requests that are under way when it returns, and returns what waits for their end.
func (s *site) changedAtOnce(ids []string) (ended func()) {
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Add(1)
		go func() {
			defer wg.Done()
			store, err := s.SessionRead(ctx, id)
			if err != nil {
				s.Error(err)
				return
			}
			_ = store.Set(ctx, "n", 1)
			store.SessionRelease(ctx, nil)
		}()
	}
	return wg.Wait
}

func TestAnApplicationsClientGoesOnAfterARestart(t *testing.T) {
	forEachOwnClient(t, "standalone", func(t *testing.T, c ownClient) {
		s := redistest.Start(t, "--save", "", "--appendonly", "yes")
		p := c.open(t, `{"outage_time":"10s"}`, s.Addr())
		captureLog(t)
		site := &site{T: t, raw: s.Client(), Provider: p}
		ids := site.created(20)
		s.Stop()
		changed := site.changedAtOnce(ids)
		s.Restart()
		changed()
		for _, id := range ids {
			site.holds(id, "n", 1)
		}
	})
}

// What waits for a master that hangs goes on at its successor, also where the client cuts it off then.
func TestRequestsToAMasterThatHangsGoOnAtItsSuccessorThroughAnApplicationsClient(t *testing.T) {
	forEachOwnClient(t, "sentinel", func(t *testing.T, c ownClient) {
		s := redistest.StartSentinel(t, redistest.SentinelOptions{})
		captureLog(t)
		p := c.open(t, `{"outage_time":"20s","read_timeout":"10s","write_timeout":"10s"}`, s.Addrs()...)
		site := &site{T: t, raw: s.Master().Client(), Provider: p}
		ids := site.created(20)
		s.Master().AwaitReplica()
		s.Master().Pause()
		site.changedAtOnce(ids)()
		site.raw = s.Replica().Client()
		for _, id := range ids {
			site.holds(id, "n", 1)
		}
	})
}

func TestAClosedClientIsSaidToBeClosed(t *testing.T) {
	for kind, start := range starts {
		forEachOwnClient(t, kind, func(t *testing.T, c ownClient) {
			addrs, _ := start(t)
			own, closeClient := c.connect(t, addrs)
			p := configure(t, own(), "", life)
			closeClient()
			before := p.Stats().Retries
			for name, ask := range map[string]func() error{
				"SessionRead": func() error {
					_, err := p.SessionRead(ctx, newID())
					return err
				},
				"Sessions": func() (err error) {
					for _, err = range p.Sessions(ctx) {
					}
					return err
				},
				"Check": p.Check,
			} {
				isClosed := func() bool { return errors.Is(ask(), redis.ErrClosed) }
				if kind == "cluster" { // where rueidis closes in the background, one connection after the other
					await(t, name+" to be closed", isClosed)
				} else if !isClosed() {
					t.Errorf("%s: %v", name, ask())
				}
			}
			if n := p.Stats().Retries - before; n > 0 && kind != "cluster" {
				t.Errorf("a closed client is tried %d times again", n)
			}
		})
	}
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

// clientFuncs is a client of another make whose methods are functions.
type clientFuncs struct {
	pipeline func(ctx context.Context, commands []redis.Command) []redis.Reply
	masters  func(ctx context.Context) (map[string]redis.Client, error)
}

func (c clientFuncs) Pipeline(ctx context.Context, commands []redis.Command) []redis.Reply {
	return c.pipeline(ctx, commands)
}

func (c clientFuncs) Masters(ctx context.Context) (map[string]redis.Client, error) {
	return c.masters(ctx)
}

// Nobody may be told of no sessions where they are not known, and nobody is kept waiting.
func TestMastersThatAreNotKnownAreNoEmptyCluster(t *testing.T) {
	s := redistest.Start(t)
	own := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	defer own.Close()
	for name, test := range map[string]struct {
		masters func(ctx context.Context) (map[string]redis.Client, error)
		want    error
	}{
		"none": {func(context.Context) (map[string]redis.Client, error) { return nil, nil }, redis.ErrUnreachable},
		"without": {func(context.Context) (map[string]redis.Client, error) {
			return map[string]redis.Client{"one": nil}, nil
		}, nil},
		"too late": {func(context.Context) (map[string]redis.Client, error) { select {} }, redis.ErrUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			p := redis.NewProviderOn(clientFuncs{anotherMake{own}.Pipeline, test.masters})
			config := `{"outage_time":"0s","dial_timeout":"1s","read_timeout":"200ms","write_timeout":"200ms"}`
			if err := p.SessionInit(ctx, life, config); err != nil {
				t.Fatal(err)
			}
			told := make(chan redis.Failure, 10)
			p.OnError(func(_ context.Context, f redis.Failure) { told <- f })
			done := make(chan struct{})
			go func() {
				defer close(done)
				if n := p.SessionAll(ctx); n != 0 {
					t.Errorf("SessionAll = %d", n)
				}
			}()
			select {
			case f := <-told:
				if test.want != nil && !errors.Is(f.Err, test.want) {
					t.Errorf("SessionAll tells of %v", f.Err)
				}
			case <-time.After(5 * time.Second):
				t.Error("SessionAll tells of nothing")
				return
			}
			<-done
			if err := p.Check(); err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

// ending is how f ends its goroutine: "panic", "exit" or "return".
func ending(f func()) string {
	end := make(chan string)
	go func() {
		how := "exit"
		defer func() {
			if recover() != nil {
				how = "panic"
			}
			end <- how
		}()
		f()
		how = "return"
	}()
	select {
	case how := <-end:
		return how
	case <-time.After(10 * time.Second):
		return "never"
	}
}

// A client that panics, or ends its goroutine, does that to the caller: a process must not end by it that would else go on.
func TestAClientThatPanicsDoesSoInItsCaller(t *testing.T) {
	s := redistest.Start(t)
	own := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	defer own.Close()
	for want, end := range map[string]func(){"panic": func() { panic("on purpose") }, "exit": runtime.Goexit} {
		var ends atomic.Bool
		c := clientFuncs{func(ctx context.Context, commands []redis.Command) []redis.Reply {
			if ends.Load() {
				end()
			}
			return anotherMake{own}.Pipeline(ctx, commands)
		}, func(context.Context) (map[string]redis.Client, error) {
			return map[string]redis.Client{"one": anotherMake{own}}, nil
		}}
		p := configure(t, redis.NewProviderOn(c), "", life)
		ends.Store(true)
		for name, f := range map[string]func(){
			"SessionExist": func() { _, _ = p.SessionExist(ctx, newID()) },
			"Check":        func() { _ = p.Check() },
		} {
			if got := ending(f); got != want {
				t.Errorf("%s: %s, want %s", name, got, want)
			}
		}
	}
}

// What ends the look for whether a server is back must not keep it from being found.
func TestAnOutageEndsAlsoWhereAClientPanics(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("on purpose") }, "exit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			network := redistest.Proxy(t, s.Addr())
			own := goredis.NewClient(&goredis.Options{Addr: network.Addr(), MaxRetries: -1})
			defer own.Close()
			var down, ended atomic.Bool
			c := pipeline(func(ctx context.Context, commands []redis.Command) []redis.Reply {
				if down.Load() && strings.EqualFold(commands[0].Args[0], "exists") {
					ended.Store(true)
					end()
				}
				return anotherMake{own}.Pipeline(ctx, commands)
			})
			p := configure(t, redis.NewProviderOn(c), `{"outage_time":"100ms"}`, life)
			down.Store(true)
			network.Refuse(true)
			network.CutAll()
			await(t, "the look for whether the server is back", func() bool {
				_, _ = p.SessionRead(ctx, newID())
				return ended.Load()
			})
			time.Sleep(1500 * time.Millisecond) // longer than such a look may take
			down.Store(false)
			network.Refuse(false)
			await(t, "the server to serve", func() bool {
				_, err := p.SessionExist(ctx, newID())
				return err == nil
			})
		})
	}
}

type pipeline func(ctx context.Context, commands []redis.Command) []redis.Reply

func (p pipeline) Pipeline(ctx context.Context, commands []redis.Command) []redis.Reply {
	return p(ctx, commands)
}

func TestAProviderWithoutAClientSaysSo(t *testing.T) {
	for _, p := range []*redis.Provider{redis.NewProvider(nil), redis.NewProviderOn(nil)} {
		if err := p.SessionInit(ctx, life, ""); err == nil || !strings.Contains(err.Error(), "is nil") {
			t.Errorf("SessionInit: %v", err)
		}
	}
}

// A client of a cluster sends a command to where its first key is, and the others must be there too. The server tells which these are.
func TestACommandNamesItsFirstKey(t *testing.T) {
	s := redistest.Start(t)
	own := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	defer own.Close()
	tag := func(key string) string { // what chooses the slot
		if _, behind, found := strings.Cut(key, "{"); found {
			key, _, _ = strings.Cut(behind, "}")
		}
		return key
	}
	check := func(c redis.Command) {
		ask := []any{"command", "getkeys"}
		for _, arg := range c.Args {
			ask = append(ask, arg)
		}
		reply, err := own.Do(ask...).Result()
		keys, _ := reply.([]any)
		switch {
		case len(keys) == 0 && c.Key != 0:
			t.Errorf("%s has no key (%v), but names %d", c.Args[0], err, c.Key)
		case len(keys) > 0 && (c.Key == 0 || c.Args[c.Key] != keys[0]):
			t.Errorf("%s has the key %v, but names %d", c.Args[0], keys[0], c.Key)
		}
		for _, key := range keys {
			if tag(key.(string)) != tag(keys[0].(string)) {
				t.Errorf("%s has keys of several slots: %v", c.Args[0], keys)
			}
		}
	}
	for _, scripts := range []bool{true, false} {
		one := pipeline(func(ctx context.Context, commands []redis.Command) []redis.Reply {
			for i, c := range commands {
				if check(c); !scripts && strings.HasPrefix(c.Args[0], "eval") {
					commands[i].Args[0] = "unknown"
				}
			}
			return anotherMake{own}.Pipeline(ctx, commands)
		})
		cluster := clientFuncs{one, func(context.Context) (map[string]redis.Client, error) {
			return map[string]redis.Client{s.Addr(): one}, nil
		}}
		captureLog(t)
		site := &site{T: t, raw: own, Provider: configure(t, redis.NewProviderOn(cluster), `{"user_key":"user","regenerate_grace":"5s"}`, life)}
		id, next := site.create("user", "u"), newID()
		site.change(id, "large", strings.Repeat("x", 100<<10))
		moved, err := site.SessionRegenerate(ctx, id, next)
		if err != nil {
			t.Fatal(err)
		}
		moved.SessionRelease(ctx, nil)
		site.holds(next, "user", "u", "large", strings.Repeat("x", 100<<10))
		if err := errors.Join(site.SessionDestroy(ctx, next), site.Check()); err != nil {
			t.Error(err)
		}
		site.change(site.create("user", "u"), "n", 1)
		if n, err := site.DestroyAll(ctx, "u"); n != 1 || err != nil {
			t.Errorf("DestroyAll = %d, %v", n, err)
		}
		if n := site.SessionAll(ctx); n != 0 {
			t.Errorf("SessionAll = %d", n)
		}
	}
}

// serverError is an error of the server, as a client of another make may have it.
type serverError string

func (e serverError) Error() string { return string(e) }
func (serverError) RedisError()     {}

func TestAnErrorOfAnApplicationsClientIsRepeatedUnlessThatIsOfNoUse(t *testing.T) {
	s := redistest.Start(t)
	own := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	defer own.Close()
	refused, cancelled := serverError("ERR no"), fmt.Errorf("given up: %w", context.Canceled)
	for _, test := range []struct{ err, want error }{ // want is nil where it is repeated
		{errors.New("anything"), nil},
		{fmt.Errorf("a time limit of the client: %w", context.DeadlineExceeded), nil},
		{serverError("LOADING its data"), nil},
		{fmt.Errorf("from a replica: %w", serverError("MASTERDOWN no link")), nil},
		{refused, refused},
		{cancelled, context.Canceled},
		{fmt.Errorf("the site ends: %w", redis.ErrClosed), redis.ErrClosed},
	} {
		var fails atomic.Bool
		p := configure(t, redis.NewProviderOn(pipeline(func(ctx context.Context, commands []redis.Command) []redis.Reply {
			replies := anotherMake{own}.Pipeline(ctx, commands)
			if fails.Swap(false) {
				replies[0] = redis.Reply{Err: test.err}
			}
			return replies
		})), "", life)
		fails.Store(true)
		if _, err := p.SessionExist(ctx, newID()); !errors.Is(err, test.want) {
			t.Errorf("after %q SessionExist returns %v, want %v", test.err, err, test.want)
		}
	}
}

func TestNobodyAsksAClosedClientWhetherTheServerIsBack(t *testing.T) {
	s := redistest.Start(t)
	own := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	defer own.Close()
	var down atomic.Pointer[error]
	var asked atomic.Int64
	p := configure(t, redis.NewProviderOn(pipeline(func(ctx context.Context, commands []redis.Command) []redis.Reply {
		replies := anotherMake{own}.Pipeline(ctx, commands)
		for i, c := range commands {
			if err := down.Load(); err != nil {
				replies[i] = redis.Reply{Err: *err}
			}
			if c.Args[0] == "exists" {
				asked.Add(1)
			}
		}
		return replies
	})), `{"outage_time":"100ms"}`, life)
	fail := func(err error) { down.Store(&err) }
	fail(errors.New("no route"))
	await(t, "somebody to ask again and again", func() bool {
		_, _ = p.SessionRead(ctx, newID())
		return asked.Load() > 3
	})
	fail(redis.ErrClosed)
	time.Sleep(100 * time.Millisecond) // one may be under way
	before := asked.Load()
	time.Sleep(500 * time.Millisecond) // as long as ten take
	if n := asked.Load() - before; n > 0 {
		t.Errorf("it is asked %d times", n)
	}
}
