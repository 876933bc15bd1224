// Requests that go on while Redis cannot be reached: which errors they pass over, and that no session comes of it.

package redis_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
	goredis "github.com/go-redis/redis/v7"
)

// anonymous opens a provider whose requests go on in an outage, and which waits for none.
func anonymous(t testing.TB, addr, extra string) *redis.Provider {
	t.Helper()
	return open(t, fmt.Sprintf(`{"save_path":%q,"on_outage":"anonymous","outage_time":"0s","max_retries":-1%s}`, addr, extra), life)
}

// goesOn checks that a request with an id goes on with an empty session.
func (s *site) goesOn(id string) {
	s.Helper()
	if ok, err := s.SessionExist(ctx, id); !ok || err != nil {
		s.Errorf("SessionExist = %v, %v", ok, err)
	}
	for range 2 { // after SessionExist, and without it
		store := s.read(s, id)
		if got := store.Get(ctx, "n"); got != nil || store.SessionID(ctx) != id {
			s.Errorf("n = %v, of the session %s", got, store.SessionID(ctx))
		}
		set(s, store, "n", "anonymous")
		if got := store.Get(ctx, "n"); got != "anonymous" {
			s.Errorf("within the request n = %v", got)
		}
		store.SessionRelease(ctx, nil)
	}
}

// doesNot checks that an error is one.
func (s *site) doesNot(ctx context.Context, id string) {
	s.Helper()
	if ok, err := s.SessionExist(ctx, id); ok || err == nil {
		s.Errorf("SessionExist = %v, %v", ok, err)
	}
	if store, err := s.SessionRead(ctx, id); store != nil || err == nil {
		s.Errorf("SessionRead = %v, %v", store, err)
	}
}

func TestWhichErrorsARequestGoesOnWith(t *testing.T) {
	captureLog(t)
	m := miniredis.RunT(t)
	s := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: anonymous(t, m.Addr(), "")}
	id := s.create("n", 1)
	for reply, goesOn := range map[string]bool{
		"LOADING Redis is loading the dataset in memory":                                true,
		"BUSY Redis is busy running a script.":                                          true,
		"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to no": true,
		"CLUSTERDOWN The cluster is down":                                               true,
		"ERR max number of clients reached":                                             true,
		"ERR Connection refused":                                                        true, // a proxy's
		"NOAUTH Authentication required.":                                               false,
		"NOPERM this user has no permissions to run the 'get' command":                  false,
		"WRONGPASS invalid username-password pair or user is disabled.":                 false,
		"ERR unknown command 'get'":                                                     false,
		"OOM command not allowed when used memory > 'maxmemory'.":                       false,
	} {
		m.SetError(reply)
		before := s.Stats()
		if goesOn {
			s.goesOn(id)
			s.goesOn(newID())
		} else {
			s.doesNot(ctx, id)
		}
		if got, want := s.Stats().Absent-before.Absent, map[bool]uint64{true: 2}[goesOn]; got != want {
			t.Errorf("%s: %d sessions were absent, want %d", reply, got, want)
		}
		for _, err := range []error{errorOf(s.SessionRegenerate(ctx, id, newID())), s.SessionDestroy(ctx, id), s.Check()} {
			if err == nil {
				t.Errorf("%s: what changes a session succeeds", reply)
			}
		}
		m.SetError("")
		if strings.HasPrefix(reply, "ERR Connection") {
			continue // the regenerate and the destroy are in doubt
		}
		s.holds(id, "n", 1)
	}
	list := newID()
	s.raw.RPush(list, "a list")
	if ok, err := s.SessionExist(ctx, list); ok || err != nil {
		t.Errorf("SessionExist of a list = %v, %v", ok, err)
	}
	if store, err := s.SessionRead(ctx, list); store != nil || err == nil {
		t.Errorf("SessionRead of a list = %v, %v", store, err)
	}
	s.put(list, "no session")
	if store, err := s.SessionRead(ctx, list); store != nil || err == nil {
		t.Errorf("SessionRead of what does not decode = %v, %v", store, err)
	}
}

func errorOf(_ any, err error) error { return err }

func TestACallerWhoLeavesOrAClosedProviderIsNoOutage(t *testing.T) {
	captureLog(t)
	server := redistest.Start(t)
	proxy := redistest.Proxy(t, server.Addr())
	s := &site{T: t, raw: server.Client(), Provider: anonymous(t, proxy.Addr(), "")}
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	late, end := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer end()
	s.doesNot(cancelled, newID())
	s.doesNot(late, newID())

	proxy.Hold(true)
	proxy.CutAll()
	leaving, leave := context.WithCancel(ctx)
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		s.doesNot(leaving, newID())
	}()
	await(t, "a request", func() bool { return s.Stats().InFlight > 0 })
	leave()
	<-asked

	cut := make(chan error, 1)
	go func() { cut <- errorOf(s.SessionRead(ctx, newID())) }()
	await(t, "a request", func() bool { return s.Stats().InFlight > 0 })
	ended, endNow := context.WithCancel(ctx)
	endNow()
	_ = s.Close(ended)
	if err := <-cut; err == nil {
		t.Error("a request that was cut off by Close goes on")
	}
	s.doesNot(ctx, newID())
	if _, err := s.SessionExist(ctx, newID()); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("SessionExist after Close = %v", err)
	}
}

// What SessionExist has said of an id in an outage makes it nobody's session after it.
func TestAnIDOfAnOutageBecomesNoSession(t *testing.T) {
	captureLog(t)
	server := redistest.Start(t)
	proxy := redistest.Proxy(t, server.Addr())
	s := &site{T: t, raw: server.Client(), Provider: anonymous(t, proxy.Addr(), "")}
	outage := func(f func()) {
		t.Helper()
		proxy.Refuse(true)
		proxy.CutAll()
		f()
		proxy.Refuse(false)
	}
	exist := func(id string) {
		t.Helper()
		if ok, err := s.SessionExist(ctx, id); !ok || err != nil {
			t.Errorf("SessionExist = %v, %v", ok, err)
		}
	}
	for name, after := range map[string]time.Duration{"at once": 0, "when it looks again": 25 * time.Millisecond} {
		id := newID()
		outage(func() {
			for range 3 { // requests at once
				exist(id)
			}
		})
		time.Sleep(after) // the time itself is what is tested
		for range 3 {
			store := s.read(s, id)
			set(t, store, "user", "a victim's")
			if told := lossOf(store); told != "" {
				t.Errorf("%s: %s", name, told)
			}
			releaseIfPresent(ctx, store)
		}
		if n := server.Client().Exists(id).Val(); n != 0 {
			t.Errorf("%s: an id that nobody knows has become a session", name)
		}
	}

	id := s.create("n", 1)
	outage(func() { exist(id) })
	time.Sleep(25 * time.Millisecond) // longer than what SessionExist has said serves for
	if got := s.read(s, id).Get(ctx, "n"); got != 1 {
		t.Errorf("a session that is there when it is read: n = %v", got)
	}

	// What was found, and then cannot be read.
	exist(id)
	time.Sleep(25 * time.Millisecond) // longer than the look serves
	outage(func() {
		store := s.read(s, id)
		if got := store.Get(ctx, "n"); got != nil {
			t.Errorf("n = %v", got)
		}
		set(t, store, "n", 2)
		store.SessionRelease(ctx, nil)
	})
	s.holds(id, "n", 1)

	// One that beego draws for a visitor without a cookie is no session afterwards, and one that it draws then is.
	drawn := newID()
	outage(func() { s.read(s, drawn).SessionRelease(ctx, nil) })
	s.gone(drawn)
	fresh := s.create("n", 1)
	s.holds(fresh, "n", 1)
}

func TestAnOutageIsToldOfEachLook(t *testing.T) {
	captureLog(t)
	m := miniredis.RunT(t)
	p := anonymous(t, m.Addr(), "")
	var told []redis.Failure
	p.OnError(func(ctx context.Context, f redis.Failure) {
		told = append(told, f)
		p.OnError(nil) // it may do anything with the provider
		if _, err := p.SessionExist(ctx, newID()); err != nil {
			t.Error(err)
		}
	})
	m.SetError("LOADING Redis is loading the dataset in memory")
	id := newID()
	if ok, err := p.SessionExist(ctx, id); !ok || err != nil {
		t.Errorf("SessionExist = %v, %v", ok, err)
	}
	if len(told) != 1 || told[0].Operation != "look up" || told[0].Kind != redis.KindRefused || strings.Contains(told[0].Err.Error(), id) {
		t.Errorf("told: %+v", told)
	}
	if n := p.Stats().Errors[redis.KindRefused]; n != 2 {
		t.Errorf("%d errors were counted, want 2", n)
	}
	if _, err := p.SessionRead(ctx, id); err != nil || p.Stats().Errors[redis.KindRefused] != 2 {
		t.Errorf("the read of what could not be looked up a moment ago: %v, %d errors", err, p.Stats().Errors[redis.KindRefused])
	}
	if _, err := p.SessionRead(ctx, newID()); err != nil || p.Stats().Errors[redis.KindRefused] != 3 {
		t.Errorf("a read: %v, %d errors", err, p.Stats().Errors[redis.KindRefused])
	}
}

func TestOutagesOfEveryTopology(t *testing.T) {
	captureLog(t)
	for _, topology := range []struct {
		name  string
		start func(t *testing.T) (config string, raw goredis.UniversalClient, servers []*redistest.Server)
	}{
		{"unix socket", func(t *testing.T) (string, goredis.UniversalClient, []*redistest.Server) {
			s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
			return fmt.Sprintf(`{"save_path":"unix://%s"`, s.Socket()), s.Client(), []*redistest.Server{s}
		}},
		{"TLS", func(t *testing.T) (string, goredis.UniversalClient, []*redistest.Server) {
			certs := redistest.NewCerts(t)
			s := redistest.StartTLS(t, certs, "--appendonly", "yes", "--appendfsync", "always")
			return fmt.Sprintf(`{"save_path":"rediss://%s","tls":{"ca_file":%q}`, s.Addr(), certs.CAFile), s.Client(), []*redistest.Server{s}
		}},
		{"sentinel, all of it", func(t *testing.T) (string, goredis.UniversalClient, []*redistest.Server) {
			s := redistest.StartSentinel(t, redistest.SentinelOptions{Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
			return fmt.Sprintf(`{"mode":"sentinel","save_path":%q`, strings.Join(s.Addrs(), ";")), s.Master().Client(), append(s.Sentinels(), s.Master(), s.Replica())
		}},
		{"cluster, all of it", func(t *testing.T) (string, goredis.UniversalClient, []*redistest.Server) {
			c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true, Args: []string{"--appendonly", "yes", "--appendfsync", "always"}})
			return fmt.Sprintf(`{"mode":"cluster","save_path":%q`, strings.Join(c.Addrs(), ";")), rawClient(t, client.Options{Mode: client.Cluster, Addrs: c.Addrs()}), c.Nodes()
		}},
	}[:redistest.Times(1, 4)] {
		t.Run(topology.name, func(t *testing.T) {
			t.Parallel()
			config, raw, servers := topology.start(t)
			for _, hangs := range []bool{false, true} {
				p := open(t, config+`,"on_outage":"anonymous","outage_time":"100ms","read_timeout":"1s","dial_timeout":"1s","write_timeout":"1s"}`, life)
				s := &site{T: t, raw: raw, Provider: p}
				ids := make([]string, 12)
				for i := range ids {
					ids[i] = s.create("n", i)
				}
				all := func(f func(*redistest.Server)) {
					var each sync.WaitGroup
					for _, server := range servers {
						each.Add(1)
						go func() { defer each.Done(); f(server) }()
					}
					each.Wait()
				}
				begin, end := (*redistest.Server).Kill, (*redistest.Server).Restart
				if hangs {
					begin, end = (*redistest.Server).Pause, (*redistest.Server).Resume
				}
				all(begin)
				var each sync.WaitGroup
				for _, id := range ids {
					each.Add(1)
					go func() { defer each.Done(); s.goesOn(id) }()
				}
				each.Wait()
				all(end)
				for i, id := range ids {
					await(t, "the session", func() bool {
						store, err := p.SessionRead(ctx, id)
						return err == nil && store.Get(ctx, "n") == i
					})
				}
				t.Logf("hangs: %v, errors %v", hangs, p.Stats().Errors)
				_ = p.Close(ctx)
			}
		})
	}
}

// Of the faults in the table, a look at a session passes those over in which there is no server that serves it.
func TestFaultsThatRequestsGoOnWith(t *testing.T) {
	log := captureLog(t)
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			fault.timeouts = cmp.Or(fault.timeouts, long)
			fault.config += `,"on_outage":"anonymous"`
			f := newFaulty(t, fault, log)
			var v *visits
			await(t, "sessions", func() bool { v = f.visits(); return v != nil })
			fault.begin(f)
			_, exist := f.SessionExist(ctx, v.ids.exist)
			store, read := f.SessionRead(ctx, v.ids.read)
			got := "an error"
			switch {
			case read != nil:
			case store.Get(ctx, "owner") == owner(v.ids.read):
				got = "served"
			default:
				got = "passed over"
				set(t, store, "n", 7)
				store.SessionRelease(ctx, nil)
			}
			fault.end(f)
			await(t, "the end of the fault", func() bool {
				found, err := f.SessionExist(ctx, newID())
				return !found && err == nil
			})
			f.is(v.ids.exist, v.ids.exist, 0)
			f.is(v.ids.read, v.ids.read, 0)

			want := "passed over"
			switch {
			case ends("", fault.want.read):
				want = "served"
			case slices.Contains([]string{"NOPERM", "WRONGPASS", "WRONGTYPE"}, fault.want.read):
				want = "an error"
			}
			if got != want || want != "an error" && exist != nil {
				t.Errorf("%s, want %s: %v, %v", got, want, exist, read)
			}
		})
	}
}

// What is told may close the provider: whoever tells it is no longer under way.
func TestWhoIsToldMayCloseTheProvider(t *testing.T) {
	captureLog(t)
	const loading = "LOADING Redis is loading the dataset in memory"
	for name, row := range map[string]struct {
		stored, fails string
		does          func(p *redis.Provider, id string) error
	}{
		"SessionExist": {fails: loading, does: func(p *redis.Provider, id string) error { return second(p.SessionExist(ctx, id)) }},
		"SessionRead":  {fails: loading, does: func(p *redis.Provider, id string) error { return second(p.SessionRead(ctx, id)) }},
		"SessionRead of what it cannot decode": {stored: strangers(t), does: func(p *redis.Provider, id string) error {
			return second(p.SessionRead(ctx, id))
		}},
		"SessionRegenerate of it": {stored: strangers(t), does: func(p *redis.Provider, id string) error {
			return second(p.SessionRegenerate(ctx, id, newID()))
		}},
		"SessionsOf": {does: func(p *redis.Provider, _ string) error {
			p.LifeTime(func(context.Context) time.Duration { return -1 })
			return second(p.SessionsOf(ctx, "ann"))
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := miniredis.RunT(t)
			p := anonymous(t, m.Addr(), `,"user_key":"uid","dial_timeout":"1s","read_timeout":"1s","write_timeout":"1s"`)
			closed := 0
			p.OnError(func(context.Context, redis.Failure) {
				closed++
				if err := p.Close(ctx); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			id := newID()
			if row.stored != "" {
				if err := m.Set(id, row.stored); err != nil {
					t.Fatal(err)
				}
			}
			m.SetError(row.fails)
			if err := row.does(p, id); err != nil || closed != 1 {
				t.Errorf("closed %d times, %v", closed, err)
			}
		})
	}
}
