// Servers and proxies that answer in words of their own, that are not the one they were, or that are several.

package redis_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
	goredis "github.com/go-redis/redis/v7"
)

// answering starts a server that answers so many scripts, once it is told to, with an error.
func answering(t *testing.T, reply string, times int64) (m *miniredis.Miniredis, begin func()) {
	m = miniredis.RunT(t)
	var left atomic.Int64
	m.Server().SetPreHook(func(c *server.Peer, cmd string, _ ...string) bool {
		if cmd != "EVAL" && cmd != "EVALSHA" || left.Add(-1) < 0 {
			return false
		}
		c.WriteError(reply)
		return true
	})
	return m, func() { left.Store(times) }
}

// at are the options of a client of one server.
func at(addr string) client.Options { return client.Options{Addrs: []string{addr}} }

const inScript = "ERR Error running script (call to f_3b2ab4): @user_script:34: @user_script: 34: "

func TestScriptsMayBeRefusedInAnyWords(t *testing.T) {
	for _, reply := range []string{
		"ERR unknown command 'evalsha', with args beginning with: '2' 'secret' ",
		"ERR command eval not support for your account",
		"ERR Proxy fail to parse command",
		"ERR Cross-slot queries are disabled",
		"ERR unsupported command 'EVALSHA'",
		"ERR command 'EVALSHA' is not allowed",
		"ERR bad lua script for redis cluster, all the keys that the script uses should be passed using the KEYS array",
		"NOPERM this user has no permissions to run the 'evalsha' command",
		"ERR The user executing the script can't run this command or subcommand script: 3b2ab4, on @user_script:34.",
		"NOPERM User app has no permissions to run the 'evalsha' command",
		inScript + "The user executing the script can't run this command or subcommand",
		inScript + "Unknown Redis command called from Lua script",
		"ERR Unknown Redict command called from script script: 3b2ab4, on @user_script:34.",
		"ERR ACL failure in script: User app has no permissions to run the 'append' command script: 3b2ab4, on @user_script:34.",
	} {
		t.Run(reply, func(t *testing.T) {
			m, begin := answering(t, reply, always)
			log := captureLog(t)
			p := open(t, m.Addr(), life)
			begin()
			site := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: p}
			for range 3 {
				site.holds(site.create("a", 1), "a", 1)
			}
			words, _, _ := strings.Cut(reply, ", with args") // which are keys
			if n := strings.Count(log.String(), "\n"); n != 1 || !strings.Contains(log.String(), "refuses scripts ("+words) || strings.Contains(log.String(), "secret") {
				t.Errorf("%d lines in the log:\n%s", n, log)
			}
		})
	}
}

func TestAnErrorOfAScriptItselfIsNoRefusal(t *testing.T) {
	for _, reply := range []string{
		inScript + "Script attempted to access nonexistent global variable 'x'",
		"ERR user_script:34: Script attempted to access nonexistent global variable 'x' script: 3b2ab4, on @user_script:34.",
		"ERR Error compiling script (new function): user_script:1: '=' expected near 'x'",
		inScript + "-OOM command not allowed when used memory > 'maxmemory'.",
		"OOM command not allowed when used memory > 'maxmemory'. script: 3b2ab4, on @user_script:34.",
		inScript + "-WRONGTYPE Operation against a key holding the wrong kind of value",
		"NOPERM this user has no permissions to access one of the keys used as arguments",
		"ERR The user executing the script can't access at least one of the keys mentioned in the command arguments script: 3b2ab4, on @user_script:34.",
		"ERR ACL failure in script: No permissions to access a key script: 3b2ab4, on @user_script:34.",
	} {
		t.Run(reply, func(t *testing.T) {
			m, begin := answering(t, reply, 1)
			log := captureLog(t)
			p := open(t, m.Addr(), life)
			begin()
			store := (&site{T: t, Provider: p}).read(p, newID())
			set(t, store, "a", 1)
			store.SessionRelease(ctx, nil)
			want := reply
			if inner, ok := strings.CutPrefix(reply, inScript+"-"); ok {
				want = "are lost: " + inner
			}
			if !strings.Contains(log.String(), want) || strings.Contains(log.String(), "refuses") {
				t.Errorf("log: %s", log)
			}
			store.SessionRelease(ctx, nil) // as there is no more of it
			if got := store.SessionID(ctx); !m.Exists(got) {
				t.Error("the session is not saved")
			}
		})
	}
}

func TestWhatASeverCannotDoYetIsRepeated(t *testing.T) {
	for _, reply := range []string{
		"READONLY You can't write against a read only replica.",
		"READONLY You can't write against a read only replica. script: 3b2ab4, on @user_script:34.",
		inScript + "-READONLY You can't write against a read only replica.",
		"ERR Error running script (call to f_3b2ab4): @user_script:34: -READONLY You can't write against a read only slave.",
		inScript + "-NOREPLICAS Not enough good replicas to write.",
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
		"NOREPLICAS Not enough good replicas to write.",
		"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
		"LOADING Redis is loading the dataset in memory",
		"CLUSTERDOWN The cluster is down",
		"ERR Connection timed out",
		"ERR Connection refused",
		"upstream failure",
	} {
		t.Run(reply, func(t *testing.T) {
			t.Parallel()
			m, begin := answering(t, reply, 8) // more often than max_retries
			p := open(t, fmt.Sprintf(`{"save_path":%q,"outage_time":"10s"}`, m.Addr()), life)
			begin()
			site := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: p}
			site.holds(site.create("a", 1), "a", 1)
		})
	}
}

// After a failover the address leads to another server, and the connections to the one that is a replica now are still open.
func TestBehindAnAddressThatMovesNothingIsLost(t *testing.T) {
	for name, reply := range map[string]string{
		"plain":         "READONLY You can't write against a read only replica.",
		"from a script": inScript + "-READONLY You can't write against a read only replica.",
	} {
		t.Run(name, func(t *testing.T) {
			replica, begin := answering(t, reply, always)
			master := miniredis.RunT(t)
			proxy := redistest.Proxy(t, replica.Addr())
			log := captureLog(t)
			p := open(t, fmt.Sprintf(`{"save_path":%q,"min_idle_conns":30}`, proxy.Addr()), life)
			await(t, "30 connections", func() bool { return replica.CurrentConnectionCount() >= 30 })
			begin()
			proxy.SetTarget(master.Addr())
			site := &site{T: t, raw: rawClient(t, at(master.Addr())), Provider: p}
			for range 48 {
				site.holds(site.create("a", 1), "a", 1)
			}
			if log.String() != "" {
				t.Errorf("log: %s", log)
			}
		})
	}
}

func TestBehindHAProxyAFailoverLosesNothing(t *testing.T) {
	master, replica := redistest.Start(t), redistest.Start(t)
	for _, s := range []*redistest.Server{master, replica} {
		for _, setting := range []string{"masteruser", "masterauth"} {
			if err := s.Client().ConfigSet(setting, "redistest").Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := replica.Client().SlaveOf("127.0.0.1", fmt.Sprint(master.Port())).Err(); err != nil {
		t.Fatal(err)
	}
	role := func(s *redistest.Server, want string) func() bool {
		return func() bool { return strings.Contains(s.Client().Info("replication").Val(), want) }
	}
	await(t, "a replica in sync", role(replica, "master_link_status:up"))
	addr := redistest.HAProxy(t, master, replica)
	log := captureLog(t)
	// HAProxy may take over 2 s to notice on a machine that is busy.
	p := open(t, fmt.Sprintf(`{"save_path":%q,"min_idle_conns":20,"outage_time":"10s"}`, addr), life)
	site := &site{T: t, raw: replica.Client(), Provider: p}
	id := site.create("n", 0)
	await(t, "the session at the replica", func() bool { return replica.Client().Exists(id).Val() == 1 })
	if err := replica.Client().SlaveOf("no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	if err := master.Client().SlaveOf("127.0.0.1", fmt.Sprint(replica.Port())).Err(); err != nil {
		t.Fatal(err)
	}
	await(t, "the former master as a replica", role(master, "role:slave"))
	for n := range 48 {
		store := site.read(p, id)
		set(t, store, "n", n+1)
		store.SessionRelease(ctx, nil)
		site.holds(id, "n", n+1)
		site.holds(site.create("n", n), "n", n)
	}
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

func TestBehindTwemproxyNoLogInLosesItsData(t *testing.T) {
	for name, row := range map[string]struct{ hashTag, config string }{
		"keys with a tag together":                  {"{}", `{"save_path":%q}`},
		"keys with a tag apart":                     {"", `{"save_path":%q}`},
		"configured":                                {"{}", `{"save_path":%q,"sharded":true}`},
		"configured wrongly":                        {"{}", `{"save_path":%q,"sharded":false}`},
		"configured wrongly, keys with a tag apart": {"", `{"save_path":%q,"sharded":false}`},
	} {
		t.Run(name, func(t *testing.T) {
			servers := []*redistest.Server{redistest.Start(t), redistest.Start(t)}
			addr := redistest.Twemproxy(t, row.hashTag, servers...)
			log := captureLog(t)
			p := open(t, fmt.Sprintf(row.config, addr), life)
			site := &site{T: t, raw: rawClient(t, at(addr)), Provider: p}
			for n := range 50 {
				id, next := site.create("n", n), newID()
				if n%10 == 0 {
					store := site.read(p, id)
					set(t, store, "large", strings.Repeat("x", 20_000))
					store.SessionRelease(ctx, nil)
				}
				if _, err := p.SessionRegenerate(ctx, id, next); err != nil {
					t.Fatal(err)
				}
				site.gone(id)
				if got := site.read(p, next); got.Get(ctx, "n") != n || (got.Get(ctx, "large") != nil) != (n%10 == 0) {
					t.Fatalf("log-in %d: n is %v", n, got.Get(ctx, "n"))
				}
				if n%2 == 0 {
					if err := p.SessionDestroy(ctx, next); err != nil {
						t.Fatal(err)
					}
					site.gone(next)
				}
			}
			if apart := row.hashTag == "" && !strings.Contains(row.config, "false"); strings.Contains(log.String(), "hash_tag") != apart || !apart && log.String() != "" {
				t.Errorf("log: %s", log)
			}
			for _, s := range servers {
				if n := s.Client().DBSize().Val(); n == 0 {
					t.Errorf("no keys on %s", s.Addr())
				}
			}
		})
	}
}

func TestAClusterOfOneNodeIsNoClusterToConfigure(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--cluster-enabled", "yes")
	if err := s.Client().Do("cluster", "addslotsrange", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	await(t, "the cluster", func() bool { return strings.Contains(s.Client().ClusterInfo().Val(), "cluster_state:ok") })
	for _, config := range []string{`{"save_path":%q}`, `{"save_path":%q,"sharded":false}`} {
		p := open(t, fmt.Sprintf(config, s.Addr()), life)
		site := &site{T: t, raw: s.Client(), Provider: p}
		for n := range 3 {
			id, next := site.create("n", n), newID()
			if _, err := p.SessionRegenerate(ctx, id, next); err != nil {
				t.Fatal(err)
			}
			site.gone(id)
			site.holds(next, "n", n)
		}
	}
}

func TestANodeOfAClusterIsNoServer(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
	err := new(redis.Provider).SessionInit(ctx, life, c.Addrs()[0])
	if err == nil || !strings.Contains(err.Error(), "use the provider redis_cluster") {
		t.Error(err)
	}
}

// A short outage costs no request, and in a long one nobody waits.
func TestAServerThatRestarts(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	proxy := redistest.Proxy(t, s.Addr())
	p := open(t, proxy.Addr(), life)
	patient := open(t, fmt.Sprintf(`{"save_path":%q,"outage_time":"10s"}`, proxy.Addr()), life) // as a start may take longer than a second
	site := &site{T: t, raw: s.Client(), Provider: patient}

	s.Kill()
	back := make(chan struct{})
	time.AfterFunc(time.Second, func() { // what a restart takes
		s.Restart()
		close(back)
	})
	outcomes := make(chan string)
	for range 20 {
		go func() { outcomes <- site.create("n", 1) }()
	}
	for range 20 {
		site.holds(<-outcomes, "n", 1)
	}
	<-back

	s.Kill()
	if _, err := p.SessionExist(ctx, newID()); err == nil {
		t.Fatal("no error")
	}
	await(t, "the outage to be known", func() bool {
		_, err := p.SessionExist(ctx, newID())
		return strings.Contains(err.Error(), "does not serve since")
	})
	before := proxy.Connections()
	for range 5000 {
		if _, err := p.SessionExist(ctx, newID()); err == nil {
			t.Fatal("no error")
		}
	}
	if n := proxy.Connections() - before; n > 500 {
		t.Errorf("5000 requests have tried %d times", n)
	}
	s.Restart()
	await(t, "the outage to be over", func() bool {
		_, err := p.SessionExist(ctx, newID())
		return err == nil
	})
}

func TestSessionInitWaitsForAServerThatLoads(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024") // 1 ms a key
	pipe := s.Client().Pipeline()
	for i := range 3000 { // longer than an outage
		pipe.Set(fmt.Sprint("filler", i), strings.Repeat("x", 100), 0)
	}
	if _, err := pipe.Exec(); err != nil {
		t.Fatal(err)
	}
	if err := s.Client().Save().Err(); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.Restart()
	}()
	raw := rawClient(t, at(s.Addr()))
	await(t, "a server that loads", func() bool {
		err := raw.ProcessContext(ctx, goredis.NewStatusCmd("ping"))
		return err != nil && strings.HasPrefix(err.Error(), "LOADING")
	})
	p := open(t, s.Addr(), life)
	<-served
	if _, err := p.SessionExist(ctx, newID()); err != nil {
		t.Error(err)
	}
}

// afterwards answers the first script of a name with an error, after it was executed.
type afterwards struct {
	hook
	name, reply string
	times       atomic.Int64
}

func (h *afterwards) AfterProcess(_ context.Context, cmd goredis.Cmder) error {
	if nameOf(cmd) == h.name && cmd.Err() == nil && h.times.Add(-1) >= 0 {
		return client.ReplyError(h.reply)
	}
	return nil
}

func (h *afterwards) AfterProcessPipeline(ctx context.Context, cmds []goredis.Cmder) error {
	for _, cmd := range cmds {
		if err := h.AfterProcess(ctx, cmd); err != nil {
			cmd.SetErr(err)
		}
	}
	return nil
}

// Proxies say in words of their own that their connection to the server failed, after it has executed a command.
func TestARegenerateThatWasDoneThoughAProxySaysOtherwiseIsFoundOut(t *testing.T) {
	for _, reply := range []string{
		"ERR handle response, backend conn reset",
		"ERR something that nobody has ever said",
		"ERR Connection timed out",
		"upstream failure",
		"ERR upstream failure",
	} {
		for script, config := range map[string]string{"regenerate.lua": `{"sharded":false}`, "remove.lua": `{"sharded":true}`} {
			t.Run(script+": "+reply, func(t *testing.T) {
				s := redistest.Start(t)
				own := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
				t.Cleanup(func() { _ = own.Close() })
				h := &afterwards{name: script, reply: reply}
				p := redis.NewProvider(own)
				if err := p.SessionInit(ctx, life, config); err != nil {
					t.Fatal(err)
				}
				own.AddHook(h)
				site := &site{T: t, raw: s.Client(), Provider: p}
				id, next := site.create("n", 1), newID()
				h.times.Store(1)
				store, err := p.SessionRegenerate(ctx, id, next)
				if err != nil || store.Get(ctx, "n") != 1 {
					t.Fatalf("SessionRegenerate = %v, %v", store, err)
				}
				site.gone(id)
				site.holds(next, "n", 1)
			})
		}
	}
}

// A user who may not run one of the commands of a script has it refused in the middle of it.
func TestAUserWithoutOneOfTheRightsLosesNothing(t *testing.T) {
	rights := rightsFor(t, everySite)
	for _, right := range rights {
		if slices.Contains([]string{"+get", "+set", "+setex", "+pttl", "+del", "+ping", "+exists"}, right) {
			continue // nothing works without these
		}
		for name, filler := range map[string]string{"": "", " a large session": strings.Repeat("x", 6000)} {
			t.Run("without "+right+name, func(t *testing.T) {
				t.Parallel()
				s := redistest.Start(t, "--user", "app on >secret ~* -@all +renamenx "+strings.Join(rights, " ")+" -"+right[1:])
				config := fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret"}`, s.Addr())
				site := &site{T: t, raw: s.Client(), Provider: open(t, config, life)}
				id, next := site.create("n", 1, "filler", filler), newID()
				p := open(t, config, life) // of which nothing has been refused yet
				for n := range 3 {
					store := site.read(p, id)
					set(t, store, "n", n)
					store.SessionRelease(ctx, nil)
					site.holds(id, "n", n, "filler", filler)
					if left := site.ttl(id); !near(left) {
						t.Errorf("it lives for %v", left)
					}
				}
				for _, key := range s.Client().Keys("save:*").Val() {
					if left := s.Client().TTL(key).Val(); left > 5*time.Second || left == -1 {
						t.Errorf("left a value that waits for %v", left)
					}
				}
				if _, err := p.SessionRegenerate(ctx, id, next); err != nil {
					site.holds(id, "n", 2, "filler", filler)
					return
				}
				site.gone(id)
				site.holds(next, "n", 2, "filler", filler)
			})
		}
	}
}

// A proxy answers for a server of its that is down. Those of the other servers go on.
func TestOneServerBehindAProxyIsNotAllOfThem(t *testing.T) {
	m := miniredis.RunT(t)
	var down atomic.Bool
	m.Server().SetPreHook(func(c *server.Peer, _ string, args ...string) bool {
		lost := down.Load() && strings.Contains(strings.Join(args, " "), "down")
		if lost {
			c.WriteError("ERR Connection refused")
		}
		return lost
	})
	p := open(t, fmt.Sprintf(`{"save_path":%q,"outage_time":"20ms"}`, m.Addr()), life)
	down.Store(true)
	for range 20 {
		if _, err := p.SessionExist(ctx, "down"+newID()); err == nil {
			t.Fatal("no error")
		}
		if _, err := p.SessionExist(ctx, newID()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAServerThatHasBecomeSlowIsUsed(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var slow atomic.Int64
	m.Server().SetPreHook(func(*server.Peer, string, ...string) bool {
		time.Sleep(time.Duration(slow.Load()))
		return false
	})
	p := open(t, fmt.Sprintf(`{"save_path":%q,"outage_time":"20ms","read_timeout":"1s","max_retries":1}`, m.Addr()), life)
	slow.Store(int64(3 * time.Second)) // also for who begins to wait a second late
	if _, err := p.SessionExist(ctx, newID()); err == nil {
		t.Fatal("no error")
	}
	slow.Store(int64(600 * time.Millisecond)) // opening a connection, and asking, takes longer than a probe may
	await(t, "a request that is served", func() bool {
		_, err := p.SessionExist(ctx, newID())
		return err == nil
	})
}

// lateProbe is a hook by which nothing works while it is broken. The first probe fails, but only when it is released.
type lateProbe struct {
	hook
	broken         atomic.Bool
	probes         atomic.Int64
	asked, release chan struct{}
}

func (h *lateProbe) BeforeProcess(ctx context.Context, cmd goredis.Cmder) (context.Context, error) {
	if cmd.Name() == "exists" && h.probes.Add(1) == 1 {
		close(h.asked)
		<-h.release
		return ctx, io.EOF
	}
	return h.BeforeProcessPipeline(ctx, nil)
}

func (h *lateProbe) BeforeProcessPipeline(ctx context.Context, _ []goredis.Cmder) (context.Context, error) {
	if h.broken.Load() {
		return ctx, io.EOF
	}
	return ctx, nil
}

func TestWhatAProbeFindsIsNoOutageOnceTheServerHasServed(t *testing.T) {
	m := miniredis.RunT(t)
	await(t, "a try without a stall", func() bool {
		own := goredis.NewClient(&goredis.Options{Addr: m.Addr()})
		t.Cleanup(func() { _ = own.Close() })
		h := &lateProbe{asked: make(chan struct{}), release: make(chan struct{})}
		own.AddHook(h)
		p := redis.NewProvider(own)
		if err := p.SessionInit(ctx, life, `{"outage_time":"20ms"}`); err != nil {
			t.Fatal(err)
		}
		exist := func() error { _, err := p.SessionExist(ctx, newID()); return err }
		h.broken.Store(true)
		await(t, "the probe", func() bool {
			_ = exist()
			select {
			case <-h.asked:
				return true
			default:
				return false
			}
		})
		h.broken.Store(false)
		if exist() != nil { // the probe has had no answer for so long that it is an outage
			close(h.release)
			return false
		}
		close(h.release)
		time.Sleep(10 * time.Millisecond) // until it has told what it found: nothing can be awaited
		await(t, "the probe to ask again", func() bool {
			if err := exist(); err != nil {
				t.Error(err)
			}
			return h.probes.Load() > 1
		})
		return true
	})
}

// Where keys with the shortest life are evicted first, those of the survey are.
func TestAServerThatEvictsIsNoProxy(t *testing.T) {
	s := redistest.Start(t, "--maxmemory", "3mb", "--maxmemory-policy", "volatile-ttl")
	pipe := s.Client().Pipeline()
	for i := range 4000 {
		pipe.Set(fmt.Sprint("filler", i), strings.Repeat("x", 1000), time.Minute)
	}
	if _, err := pipe.Exec(); err != nil {
		t.Fatal(err)
	}
	log := captureLog(t)
	for range 3 {
		open(t, s.Addr(), life)
	}
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}
