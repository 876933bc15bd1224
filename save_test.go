// By which command a session is saved: SET … IFEQ where the server has it, else a script.

package redis_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

// hasIFEQ tells whether a server has SET … IFEQ.
func hasIFEQ(c goredis.UniversalClient) bool {
	return c.Do("set", "nothing", "", "ifeq", "?").Err() == goredis.Nil
}

// counting is a miniredis that counts how sessions are saved.
type counting struct {
	*miniredis.Miniredis
	swaps, scripts, large atomic.Int64 // commands; large are SETEX of the values that wait for a script
}

// answer has a hook answer what comes, after it was counted.
func (m *counting) answer(hook server.Hook) {
	m.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		switch {
		case cmd == "SET" && len(args) > 3 && args[2] == "ifeq":
			m.swaps.Add(1)
		case cmd == "EVALSHA":
			m.scripts.Add(1)
		case cmd == "SETEX" && strings.HasPrefix(args[0], "save:"):
			m.large.Add(1)
		}
		return hook != nil && hook(c, cmd, args...)
	})
}

func older(t *testing.T) *counting {
	m := &counting{Miniredis: miniredis.RunT(t)}
	m.answer(nil)
	return m
}

func newer(t *testing.T) *counting {
	m := older(t)
	m.answer(redistest.IFEQ(m.Miniredis))
	return m
}

// saves changes a session so many times, and tells by how many swaps and scripts.
func (m *counting) saves(s *site, id string, times int) (swaps, scripts int64) {
	s.Helper()
	before, beforeScripts := m.swaps.Load(), m.scripts.Load()
	for range times {
		store := s.read(s, id)
		n, _ := store.Get(ctx, "n").(int)
		set(s, store, "n", n+1)
		store.SessionRelease(ctx, nil)
		if got := s.read(s, id).Get(ctx, "n"); got != n+1 {
			s.Errorf("n = %v, want %d", got, n+1)
		}
	}
	return m.swaps.Load() - before, m.scripts.Load() - beforeScripts
}

// patientlyAsked is for tests in which a server answers whether it has IFEQ: how slow this machine is decides nothing.
func patientlyAsked(t *testing.T) { t.Cleanup(redis.SetAskTime(time.Minute)) }

func TestAServerIsAskedForIFEQOnce(t *testing.T) {
	patientlyAsked(t)
	for _, row := range []struct {
		name           string
		m              *counting
		sharded        bool
		swaps, scripts int64
	}{
		{"it has it", newer(t), false, 5, 0},
		{"it has not", older(t), false, 0, 5},
		{"those behind a proxy have it", newer(t), true, 5, 0},
		{"those behind a proxy have not", older(t), true, 0, 5},
	} {
		t.Run(row.name, func(t *testing.T) {
			config := fmt.Sprintf(`{"save_path":%q,"sharded":%v}`, row.m.Addr(), row.sharded)
			s := &site{T: t, raw: rawClient(t, at(row.m.Addr())), Provider: open(t, config, life)}
			id := s.create("n", 0)
			if asked := row.m.swaps.Load(); asked != 1 {
				t.Errorf("asked %d times", asked)
			}
			if swaps, scripts := row.m.saves(s, id, 5); swaps != row.swaps || scripts != row.scripts {
				t.Errorf("%d swaps and %d scripts, want %d and %d", swaps, scripts, row.swaps, row.scripts)
			}
			if err := s.Provider.SessionInit(ctx, life, config); err != nil { // may be meant to find what is new
				t.Fatal(err)
			}
			if swaps, _ := row.m.saves(s, id, 1); swaps != 1 {
				t.Errorf("after SessionInit %d swaps or questions", swaps)
			}
			for _, key := range row.m.Keys() {
				if strings.Contains(key, "survey") {
					t.Errorf("left %s", key)
				}
			}
		})
	}
}

// The address of a master may become that of a server of another version.
func TestAFailoverBetweenServersWithAndWithoutIFEQ(t *testing.T) {
	patientlyAsked(t)
	log := captureLog(t)
	newer, older := newer(t), older(t)
	proxy := redistest.Proxy(t, newer.Addr())
	s := &site{T: t, raw: rawClient(t, at(proxy.Addr())), Provider: open(t, proxy.Addr(), life)}
	failover := func(from, to *counting) {
		for _, key := range from.Keys() {
			value, err := from.Get(key)
			if err != nil {
				t.Fatal(err)
			}
			_ = to.Set(key, value)
			to.SetTTL(key, from.TTL(key))
		}
		proxy.SetTarget(to.Addr())
		proxy.CutAll()
	}
	id := s.create("n", 0)
	if swaps, scripts := newer.saves(s, id, 3); swaps != 3 || scripts != 0 {
		t.Errorf("on the newer server %d swaps and %d scripts", swaps, scripts)
	}
	failover(newer, older)
	if swaps, scripts := older.saves(s, id, 3); swaps != 1 || scripts != 3 {
		t.Errorf("on the older server %d swaps and %d scripts", swaps, scripts)
	}
	failover(older, newer)
	if swaps, scripts := newer.saves(s, id, 3); swaps != 0 || scripts != 3 {
		t.Errorf("on the newer server, which was not asked again, %d swaps and %d scripts", swaps, scripts)
	}
	defer redis.SetAskInterval(0)()
	if swaps, scripts := newer.saves(s, id, 3); swaps != 3 || scripts != 1 { // one asks
		t.Errorf("on the newer server %d swaps and %d scripts", swaps, scripts)
	}
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

func TestWhatAnswersStrangelyToIFEQLosesNothing(t *testing.T) {
	replies := func(reply string) func(*counting) server.Hook {
		return func(*counting) server.Hook {
			return func(c *server.Peer, cmd string, args ...string) bool {
				if cmd != "SET" || args[2] != "ifeq" {
					return false
				}
				c.WriteError(reply)
				return true
			}
		}
	}
	for name, hook := range map[string]func(m *counting) server.Hook{
		"passes it over, and sets": func(m *counting) server.Hook {
			return func(c *server.Peer, cmd string, args ...string) bool {
				if cmd != "SET" || args[2] != "ifeq" {
					return false
				}
				m.Server().Dispatch(c, append([]string{"SET", args[0], args[1]}, args[4:]...))
				return true
			}
		},
		"never finds the values equal": func(*counting) server.Hook {
			return func(c *server.Peer, cmd string, args ...string) bool {
				if cmd != "SET" || args[2] != "ifeq" {
					return false
				}
				c.WriteNull()
				return true
			}
		},
		"knows it for one session and not for the other": func(m *counting) server.Hook {
			ifeq, asked := redistest.IFEQ(m.Miniredis), false
			return func(c *server.Peer, cmd string, args ...string) bool {
				if cmd == "SET" && args[2] == "ifeq" && asked {
					c.WriteError("ERR syntax error")
					return true
				}
				asked = asked || cmd == "SET"
				return ifeq(c, cmd, args...)
			}
		},
		"ERR syntax error":   replies("ERR syntax error"),
		"another word of it": replies("ERR Proxy fail to parse command"),
		"no right to SET":    replies("NOPERM this user has no permissions to run the 'set' command"),
		"out of memory":      replies("OOM command not allowed when used memory > 'maxmemory'."),
	} {
		t.Run(name, func(t *testing.T) {
			m := older(t)
			m.answer(hook(m))
			log := captureLog(t)
			s := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: open(t, m.Addr(), life)}
			other := open(t, m.Addr(), life)
			id := s.create("a", 0)
			for n := range 3 {
				mine, theirs := s.read(s, id), s.read(other, id)
				set(t, mine, "a", n)
				set(t, theirs, "b", n)
				theirs.SessionRelease(ctx, nil)
				mine.SessionRelease(ctx, nil)
				s.holds(id, "a", n, "b", n)
			}
			if log.String() != "" {
				t.Errorf("log: %s", log)
			}
		})
	}
}

// Where neither scripts nor IFEQ may be used, a write between a look and the SET is lost. IFEQ alone is enough, also for the
// first save of a process.
func TestIFEQWithoutScriptsLosesNothing(t *testing.T) {
	patientlyAsked(t)
	m := miniredis.RunT(t)
	ifeq := redistest.IFEQ(m)
	var meanwhile atomic.Pointer[func()]
	var id atomic.Value
	m.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		if cmd == "EVALSHA" {
			c.WriteError("ERR unknown command 'evalsha'")
			return true
		}
		if cmd == "SET" && args[0] == id.Load() {
			if do := meanwhile.Swap(nil); do != nil {
				(*do)()
			}
		}
		return ifeq(c, cmd, args...)
	})
	captureLog(t)
	s := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: open(t, m.Addr(), life)}
	id.Store(s.create("a", 0))
	other := open(t, m.Addr(), life)
	for n := range 2 {
		first, second := s.read(other, id.Load().(string)), s.read(s, id.Load().(string))
		set(t, first, "a", n)
		set(t, second, "b", n)
		release := func() { second.SessionRelease(ctx, nil) }
		meanwhile.Store(&release)
		first.SessionRelease(ctx, nil)
		s.holds(id.Load().(string), "a", n, "b", n)
	}
}

// What asks is one request in ten minutes, and it may be that nothing answers.
func TestWhetherThereIsIFEQIsNoMatterToARequest(t *testing.T) {
	for name, answer := range map[string]func(*server.Peer, chan struct{}){
		"it never answers":         func(_ *server.Peer, ended chan struct{}) { <-ended },
		"it closes the connection": func(c *server.Peer, _ chan struct{}) { c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			defer redis.SetAskInterval(0)()
			m, ended := miniredis.RunT(t), make(chan struct{})
			defer close(ended)
			var asked atomic.Int64
			m.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
				if cmd != "SET" || len(args) < 4 || args[2] != "ifeq" {
					return false
				}
				asked.Add(1)
				answer(c, ended)
				return true
			})
			log := captureLog(t)
			p := open(t, fmt.Sprintf(`{"save_path":%q,"max_retries":-1,"outage_time":"0s"}`, m.Addr()), life)
			s := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: p}
			var all sync.WaitGroup
			for range 30 {
				all.Add(1)
				go func() {
					defer all.Done()
					id := newID()
					for n := range 3 {
						store := s.read(p, id)
						set(t, store, "n", n)
						store.SessionRelease(ctx, nil)
					}
					s.holds(id, "n", 2)
				}()
			}
			all.Wait()
			if asked.Load() == 0 || log.String() != "" {
				t.Errorf("asked %d times, log: %s", asked.Load(), log)
			}
		})
	}
}

// questions is a hook that takes the time by which one is to be answered.
type questions struct {
	hook
	until atomic.Pointer[time.Time]
}

func (d *questions) BeforeProcess(ctx context.Context, cmd goredis.Cmder) (context.Context, error) {
	if deadline, ok := ctx.Deadline(); ok && nameOf(cmd) == "ask" {
		d.until.Store(&deadline)
	}
	return ctx, nil
}

func TestTheQuestionIsShort(t *testing.T) {
	m := newer(t)
	own := goredis.NewClient(&goredis.Options{Addr: m.Addr()})
	defer own.Close()
	asked := new(questions)
	own.AddHook(asked)
	p := redis.NewProvider(own)
	if err := p.SessionInit(ctx, life, ""); err != nil {
		t.Fatal(err)
	}
	(&site{T: t, Provider: p}).create("n", 0)
	// What is left of its time by now is not more than what it had.
	if until := asked.until.Load(); until == nil || time.Until(*until) > 300*time.Millisecond {
		t.Errorf("it is to be answered by %v", until)
	}
}

// A replica that is older than its master does not know IFEQ, which it is handed on only without a life time.
func TestWithoutALifeTimeThereIsNoIFEQ(t *testing.T) {
	m := newer(t)
	s := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: open(t, m.Addr(), 0)}
	if swaps, scripts := m.saves(s, s.create("n", 0), 3); swaps != 0 || scripts != 3 {
		t.Errorf("%d swaps and %d scripts", swaps, scripts)
	}
}

// After a fail-over to an older server nothing is in doubt: the save was not done.
func TestARefusedIFEQIsNoDoubt(t *testing.T) {
	patientlyAsked(t)
	m := newer(t)
	log := captureLog(t)
	s := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: open(t, m.Addr(), life)}
	id := s.create("n", 0)
	store := s.read(s, id)
	set(t, store, "mine", 1)
	m.answer(nil)
	data, err := session.EncodeGob(map[any]any{"n": 1}) // as beego's provider writes it, without versions
	if err != nil {
		t.Fatal(err)
	}
	s.put(id, string(data))
	store.SessionRelease(ctx, nil)
	s.holds(id, "n", 1, "mine", 1)
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

// Some proxies read scripts, and run none in which a key is named otherwise than as an element of KEYS.
func TestScriptsNameTheirKeys(t *testing.T) {
	files, _ := filepath.Glob("*.lua")
	calls := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, call := range regexp.MustCompile(`(?m)call\b.*$`).FindAllString(string(source), -1) {
			calls++
			if !regexp.MustCompile(`^call\('(TIME'\)|[A-Z]+', KEYS\[\d\])`).MatchString(call) ||
				strings.Contains(call, "'RENAME'") && !regexp.MustCompile(`KEYS\[\d\], KEYS\[\d\]`).MatchString(call) {
				t.Errorf("%s: %s", file, call)
			}
		}
	}
	if calls < 20 {
		t.Errorf("found %d calls", calls)
	}
}

func TestLargeValuesAreNotSentTwice(t *testing.T) {
	m := newer(t)
	s := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: open(t, m.Addr(), life)}
	id := s.create("blob", strings.Repeat("x", 100_000))
	before := m.large.Load()
	if swaps, scripts := m.saves(s, id, 3); swaps != 0 || scripts != 3 || m.large.Load()-before < 3 {
		t.Errorf("%d swaps, %d scripts, %d values waited for theirs", swaps, scripts, m.large.Load()-before)
	}
}

// calls is how often a server was asked for a command, and how often that failed.
func calls(t *testing.T, s *redistest.Server, command string) (calls, failed int) {
	t.Helper()
	info, err := s.Client().Info("commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	if found := regexp.MustCompile(`cmdstat_` + command + `:calls=(\d+),.*failed_calls=(\d+)`).FindStringSubmatch(info); found != nil {
		calls, _ = strconv.Atoi(found[1])
		failed, _ = strconv.Atoi(found[2])
	}
	return calls, failed
}

// A cluster is upgraded node by node. Where REDIS_SERVER has IFEQ, the one in PATH stands for what it was before.
func TestAClusterOfServersWithAndWithoutIFEQ(t *testing.T) {
	patientlyAsked(t)
	redistest.Require(t)
	if !hasIFEQ(redistest.Start(t).Client()) {
		t.Skip("needs a server with IFEQ in REDIS_SERVER")
	}
	program, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("needs a redis-server in PATH")
	}
	cluster := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true, First: []string{program}})
	raw := rawClient(t, client.Options{Mode: client.Cluster, Addrs: cluster.Addrs()})
	s := &site{T: t, raw: raw, Provider: open(t, `{"mode":"cluster","save_path":"`+strings.Join(cluster.Addrs(), ";")+`"}`, life)}
	const sessions, times = 60, 3
	for range sessions {
		id := s.create("n", 0)
		for n := range times {
			store := s.read(s, id)
			set(t, store, "n", n)
			store.SessionRelease(context.Background(), nil)
		}
		s.holds(id, "n", times-1)
	}
	for i, node := range cluster.Nodes() {
		swaps, failed := calls(t, node, "set")
		scripts, _ := calls(t, node, "evalsha")
		scriptSets, _ := calls(t, node, "eval")
		t.Logf("node %d: %d SET, %d of them refused, %d and %d scripts", i, swaps, failed, scripts, scriptSets)
		if old := i == 0; old && failed != 1 || !old && (failed != 0 || swaps <= scripts) {
			t.Errorf("node %d: %d SET, of which %d were refused, and %d scripts", i, swaps, failed, scripts)
		}
	}
}
