// What happens when the server, the connection or the permission to run scripts is lost.

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

func TestARestartedServerCostsNoRequest(t *testing.T) {
	for _, idle := range []time.Duration{0, 1100 * time.Millisecond} {
		t.Run(fmt.Sprint("idle for ", idle), func(t *testing.T) {
			s := redistest.Start(t)
			p := open(t, fmt.Sprintf(`{"save_path":%q,"min_idle_conns":40,"poolsize":40}`, s.Addr()), life)
			await(t, "40 connections", func() bool {
				clients, err := s.Client().ClientList().Result()
				return err == nil && strings.Count(clients, "user=default") == 40
			})
			time.Sleep(idle) // the connections must lie idle for as long as that: nothing can be awaited
			s.Kill()
			s.Restart()
			for i := range 100 {
				if _, err := p.SessionExist(ctx, newID()); err != nil {
					t.Fatalf("call %d: %v", i, err)
				}
			}
		})
	}
}

func TestASecondConfigurationClosesTheFirstClient(t *testing.T) {
	s := redistest.Start(t)
	connections := func() int {
		clients, err := s.Client().ClientList().Result()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(clients, "user=default")
	}
	p := open(t, fmt.Sprintf(`{"save_path":%q,"min_idle_conns":10}`, s.Addr()), life)
	store, err := p.SessionRead(ctx, newID())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SessionInit(ctx, life, s.Addr()); err != nil {
		t.Fatal(err)
	}
	await(t, "the first client to fill its pool", func() bool { runtime.GC(); return connections() > 10 })
	store.SessionRelease(ctx, nil) // on the first client, which stays open for it
	await(t, "the first client to be closed", func() bool { runtime.GC(); return connections() < 10 })
	if _, err := p.SessionExist(ctx, newID()); err != nil {
		t.Error(err)
	}
}

// await polls for what a server does by itself.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func TestAServerThatIsDownIsAnErrorAndNotAMissingSession(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "secret-password")
	p := open(t, fmt.Sprintf(`{"save_path":%q,"password":"secret-password","outage_time":"100ms"}`, s.Addr()), life)
	id := newID()
	store, err := p.SessionRead(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	s.Kill()
	log := captureLog(t)

	ok, existErr := p.SessionExist(ctx, id)
	read, readErr := p.SessionRead(ctx, id)
	regenerated, regenerateErr := p.SessionRegenerate(ctx, id, newID())
	if ok || read != nil || regenerated != nil {
		t.Errorf("SessionExist %v, SessionRead %v, SessionRegenerate %v", ok, read, regenerated)
	}
	initErr := new(redis.Provider).SessionInit(ctx, life, fmt.Sprintf("redis://:secret-password@%s?outage_time=0s", s.Addr()))
	for operation, err := range map[string]error{
		"look up": existErr, "read": readErr, "regenerate": regenerateErr, "destroy": p.SessionDestroy(ctx, newID()), "connect": initErr,
	} {
		if err == nil {
			t.Errorf("%s: no error", operation)
			continue
		}
		var netErr net.Error
		if !errors.As(err, &netErr) {
			t.Errorf("%s: the cause is not wrapped: %v", operation, err)
		}
		for _, want := range []string{"session/redis: " + operation, s.Addr(), "connection refused"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: the error does not say %q: %v", operation, want, err)
			}
		}
		for _, secret := range []string{"secret-password", id} {
			if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: the error holds a secret: %v", operation, err)
			}
		}
	}
	if n := p.SessionAll(ctx); n != 0 || !strings.Contains(log.String(), "session/redis: count") {
		t.Errorf("SessionAll = %d, log %q", n, log)
	}
	set(t, store, "a", 1)
	store.SessionRelease(ctx, nil)
	if !strings.Contains(log.String(), "changes of this request are lost") || strings.Contains(log.String(), id) {
		t.Errorf("log: %s", log)
	}

	// What could not be saved is saved by a later release.
	s.Restart()
	await(t, "the outage to be over", func() bool {
		_, err := p.SessionExist(ctx, id)
		return err == nil
	})
	store.SessionRelease(ctx, nil)
	if read, err := p.SessionRead(ctx, id); err != nil || read.Get(ctx, "a") != 1 {
		t.Errorf("after the restart: %v", err)
	}
}

func TestWhatCannotBeConnectedToSaysWhy(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--requirepass", "right-pw")
	certs := redistest.NewCerts(t)
	secure := redistest.StartTLS(t, certs)
	mutual := redistest.StartTLS(t, certs, "--tls-auth-clients", "yes")
	for _, row := range []struct{ name, config, want string }{
		{"wrong password", s.Addr() + ",10,wrong-pw", "WRONGPASS"},
		{"no password", s.Addr(), "NOAUTH"},
		{"wrong user", fmt.Sprintf("redis://ann:wrong-pw@%s", s.Addr()), "WRONGPASS"},
		{"user without a password", fmt.Sprintf(`{"save_path":%q,"username":"ann"}`, s.Addr()), "WRONGPASS"},
		{"wrong database", fmt.Sprintf("redis://:right-pw@%s/99", s.Addr()), "DB index is out of range"},
		{"wrong CA", fmt.Sprintf(`{"save_path":%q,"tls":{"ca_file":%q}}`, secure.Addr(), certs.OtherCAFile), "unknown authority"},
		{"the system's CAs", "rediss://" + secure.Addr(), "unknown authority"},
		{"wrong server name", fmt.Sprintf(`{"save_path":%q,"tls":{"ca_file":%q,"server_name":"elsewhere"}}`, secure.Addr(), certs.CAFile), "not elsewhere"},
		{"no client certificate", fmt.Sprintf(`{"save_path":%q,"tls":{"ca_file":%q}}`, mutual.Addr(), certs.CAFile), "certificate"},
		{"plain text to a TLS server", "redis://" + secure.Addr() + "?outage_time=0s", "configure tls"},
		{"TLS to a plain text server", fmt.Sprintf(`{"save_path":%q,"tls":true,"dial_timeout":"2s","max_retries":-1}`, s.Addr()), "does the server speak TLS"},
		{"no such CA file", `{"tls":{"ca_file":"/does/not/exist.pem"}}`, "/does/not/exist.pem"},
		{"unreachable Sentinels", `{"mode":"sentinel","save_path":"127.0.0.1:1;127.0.0.1:2","outage_time":"0s"}`, "127.0.0.1:2: connect: connection refused"},
		{"no Sentinel", fmt.Sprintf(`{"mode":"sentinel","save_path":%q,"sentinel_password":"right-pw"}`, s.Addr()), "not a Sentinel"},
		{"no cluster", fmt.Sprintf(`{"mode":"cluster","save_path":%q,"password":"right-pw"}`, s.Addr()), "cluster support disabled"},
		{"unreachable cluster", `{"mode":"cluster","save_path":"127.0.0.1:1","outage_time":"0s"}`, "connection refused"},
	} {
		err := new(redis.Provider).SessionInit(ctx, life, row.config)
		if err == nil || !strings.HasPrefix(err.Error(), "session/redis: ") || !strings.Contains(err.Error(), row.want) || strings.Contains(err.Error(), "-pw") {
			t.Errorf("%s: %v\nwant: %s", row.name, err, row.want)
		} else {
			t.Logf("%s: %v", row.name, err)
		}
	}
}

func TestACallIsBoundedInTime(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	// Without an outage to remember: that would answer the second call, in no time and with the first one's error.
	p := open(t, fmt.Sprintf(`{"save_path":%q,"dial_timeout":"1s","read_timeout":"1s","max_retries":100,"outage_time":"0s"}`, s.Addr()), life)
	s.Pause()
	t.Cleanup(s.Resume)
	start := time.Now()
	_, err := p.SessionExist(ctx, newID())
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("SessionExist = %v", err)
	}
	deadline, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if _, err := p.SessionExist(deadline, newID()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("SessionExist with a deadline = %v", err)
	}
	// A hundred retries alone would take half a minute.
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestACancelledReadDoesNotWaitForTheServer(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.Proxy(t, s.Addr())
	p := open(t, fmt.Sprintf(`{"save_path":%q,"read_timeout":"1m"}`, proxy.Addr()), life)
	s.Pause()
	t.Cleanup(s.Resume)
	before := proxy.RoundTrips()
	cancellable, cancel := context.WithCancel(ctx)
	result := make(chan error)
	go func() {
		_, err := p.SessionExist(cancellable, newID())
		result <- err
	}()
	await(t, "the command to be sent", func() bool { return proxy.RoundTrips() > before })
	cancel()
	select {
	case err := <-result:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("SessionExist = %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Error("SessionExist still waits for the server")
	}
}

// manySlots makes a provider treat a server as a cluster, which it recognises by this method.
type manySlots struct{ *goredis.Client }

func (c manySlots) ForEachMaster(f func(*goredis.Client) error) error { return f(c.Client) }

// meanwhile is a hook that lets something happen right before the first removal by script, whose error keeps it from
// being sent.
type meanwhile struct {
	hook
	once    sync.Once
	happens func() error
}

func (h *meanwhile) BeforeProcess(ctx context.Context, cmd goredis.Cmder) (_ context.Context, err error) {
	if nameOf(cmd) == "remove.lua" {
		h.once.Do(func() { err = h.happens() })
	}
	return ctx, err
}

func TestWhileASessionIsCopiedToAnotherServer(t *testing.T) {
	s := redistest.Start(t)
	raw := s.Client()
	later, err := session.EncodeGob(map[any]any{"n": 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name    string
		happens func(id string) error
		want    map[any]any // nil: an error, and the old session stays
	}{
		{"it is changed: the change goes along", func(id string) error { return raw.Set(id, later, 0).Err() }, map[any]any{"n": 2}},
		{"it is destroyed: there is nothing to carry on", func(id string) error { return raw.Del(id).Err() }, map[any]any{}},
		{"it cannot be removed: it stays", func(string) error { return errors.New("no more") }, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			client := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
			defer func() { _ = client.Close() }()
			p := redis.NewProvider(manySlots{client})
			if err := p.SessionInit(ctx, life, ""); err != nil {
				t.Fatal(err)
			}
			site := &site{T: t, raw: raw, Provider: p}
			id, next := site.create("n", 1), newID()
			client.AddHook(&meanwhile{happens: func() error { return row.happens(id) }})
			store, err := p.SessionRegenerate(ctx, id, next)
			if row.want == nil {
				if store != nil || err == nil {
					t.Errorf("SessionRegenerate = %v, %v", store, err)
				}
				site.gone(next)
				site.holds(id, "n", 1)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			site.gone(id)
			if got := site.stored(next); !reflect.DeepEqual(got, row.want) {
				t.Errorf("the session is %v, want %v", got, row.want)
			}
		})
	}
}

func TestAnApplicationBringsItsOwnClient(t *testing.T) {
	s := redistest.Start(t)
	own := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	defer func() { _ = own.Close() }()
	p := redis.NewProvider(own)
	if err := p.SessionInit(ctx, life, `{"save_path":"localhost:1"}`); err == nil || !strings.Contains(err.Error(), "its own client") {
		t.Errorf("a configuration that connects is accepted: %v", err)
	}
	if err := p.SessionInit(ctx, life, `{"key_prefix":"own:"}`); err != nil {
		t.Fatal(err)
	}
	site := &site{T: t, raw: s.Client(), Provider: p}
	id := newID()
	store := site.read(p, id)
	set(t, store, "a", 1)
	store.SessionRelease(ctx, nil)
	if n := own.Exists("own:" + id).Val(); n != 1 {
		t.Error("the session is not there")
	}
	if err := own.Ping().Err(); err != nil {
		t.Errorf("the client was closed: %v", err)
	}
}

func TestRefusedScriptsAreLoggedOnce(t *testing.T) {
	s := redistest.Start(t, "--user", "app on >secret ~* +@all -@scripting")
	log := captureLog(t)
	p := open(t, fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret"}`, s.Addr()), life)
	site := &site{T: t, raw: s.Client(), Provider: p}
	for range 5 {
		site.holds(site.create("a", 1), "a", 1)
	}
	if n := strings.Count(log.String(), "refuses scripts"); n != 1 {
		t.Errorf("logged %d times:\n%s", n, log)
	}
}

func TestScriptsAreTriedAgainOnceTheyAreAllowed(t *testing.T) {
	s := redistest.Start(t)
	user := func(rights string) {
		if err := s.Client().Do("acl", "setuser", "app", "reset", "on", ">secret", "~*", "+@all", rights).Err(); err != nil {
			t.Fatal(err)
		}
	}
	config := fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret"}`, s.Addr())
	user("-@scripting")
	restore := redis.SetRefusalTime(time.Minute)
	log := captureLog(t)
	p := open(t, config, life)
	site := &site{T: t, raw: s.Client(), Provider: p}
	byScript := func() bool {
		before := s.Calls()["eval"] + s.Calls()["evalsha"]
		site.holds(site.create("a", 1), "a", 1)
		return s.Calls()["eval"]+s.Calls()["evalsha"] > before
	}
	byScript()
	user("+@scripting")
	if byScript() {
		t.Error("they are tried at once")
	}
	if err := p.SessionInit(ctx, life, config); err != nil {
		t.Fatal(err)
	}
	if !byScript() {
		t.Error("they are not tried after SessionInit")
	}

	user("-@scripting")
	byScript()
	user("+@scripting")
	redis.SetRefusalTime(0)
	if !byScript() {
		t.Error("they are not tried after a while")
	}

	restore()
	user("-@scripting")
	byScript()
	user("+@scripting")
	refused := time.Now()
	await(t, "scripts to be tried again", byScript)
	if took := time.Since(refused); took > 20*time.Second {
		t.Errorf("after a moment's refusal there were no scripts for %v", took)
	}
	if n := strings.Count(log.String(), "refuses scripts"); n != 3 {
		t.Errorf("logged %d times:\n%s", n, log)
	}
}

func TestAFailedSessionInitChangesNothing(t *testing.T) {
	s := redistest.Start(t)
	p := open(t, s.Addr()+",7", life)
	if err := p.SessionInit(ctx, life, `{"save_path":"127.0.0.1:1","poolsize":9,"password":"pw","max_retries":-1}`); err == nil {
		t.Fatal("no error")
	}
	if p.SavePath != s.Addr() || p.Poolsize != 7 || p.Password != "" || p.MaxRetries != 3 {
		t.Errorf("the fields are %q %d %q %d", p.SavePath, p.Poolsize, p.Password, p.MaxRetries)
	}
	if _, err := p.SessionExist(ctx, newID()); err != nil {
		t.Error(err)
	}
}

func TestCountingTakesAsLongAsItTakes(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	const n = 6000
	pipe := s.Client().Pipeline()
	for i := range n {
		pipe.Set(fmt.Sprint("far:", i), "", 0)
	}
	if _, err := pipe.Exec(); err != nil {
		t.Fatal(err)
	}
	proxy := redistest.Proxy(t, s.Addr())
	p := open(t, fmt.Sprintf(`{"save_path":%q,"key_prefix":"far:","dial_timeout":"1s","read_timeout":"2s"}`, proxy.Addr()), life)
	proxy.SetDelay(120 * time.Millisecond) // each way: 24 steps take longer than the time limit of 5 s
	if got := p.SessionAll(ctx); got != n {
		t.Errorf("SessionAll = %d, want %d", got, n)
	}
}

// troubled is a hook that does not return.
type troubled struct {
	hook
	do func()
}

func (h troubled) BeforeProcess(ctx context.Context, _ goredis.Cmder) (context.Context, error) {
	h.do()
	return ctx, nil
}

func (h troubled) BeforeProcessPipeline(ctx context.Context, _ []goredis.Cmder) (context.Context, error) {
	h.do()
	return ctx, nil
}

func TestAHookThatPanicsDoesSoInItsCaller(t *testing.T) {
	s := redistest.Start(t)
	cancellable, cancel := context.WithCancel(ctx)
	defer cancel()
	exist := func(do func()) (recovered any, returned bool) {
		own := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
		defer func() { _ = own.Close() }()
		p := redis.NewProvider(own)
		if err := p.SessionInit(ctx, life, ""); err != nil {
			t.Fatal(err)
		}
		own.AddHook(troubled{do: do})
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer func() { recovered = recover() }()
			_, _ = p.SessionExist(cancellable, newID())
			returned = true
		}()
		<-ended
		return recovered, returned
	}
	if recovered, _ := exist(func() { panic("in a hook") }); recovered != "in a hook" {
		t.Errorf("recovered %v", recovered)
	}
	if recovered, returned := exist(runtime.Goexit); recovered != nil || returned {
		t.Errorf("recovered %v, returned %v", recovered, returned)
	}
}

// deadlines is a hook that notes until when each command may take, and can hold commands up.
type deadlines struct {
	hook
	mu   sync.Mutex
	all  []time.Time
	hold func()
}

func (h *deadlines) note(ctx context.Context) {
	deadline, _ := ctx.Deadline()
	h.mu.Lock()
	h.all = append(h.all, deadline)
	hold := h.hold
	h.mu.Unlock()
	if hold != nil {
		hold()
	}
}

func (h *deadlines) BeforeProcess(ctx context.Context, _ goredis.Cmder) (context.Context, error) {
	h.note(ctx)
	return ctx, nil
}

func (h *deadlines) BeforeProcessPipeline(ctx context.Context, _ []goredis.Cmder) (context.Context, error) {
	h.note(ctx)
	return ctx, nil
}

func TestAnOperationHasOneTimeLimit(t *testing.T) {
	const limit = 11 * time.Second // with the default timeouts
	s := redistest.Start(t)
	open := func(t *testing.T, wrap func(*goredis.Client) goredis.UniversalClient) (*redis.Provider, *deadlines) {
		own := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
		t.Cleanup(func() { _ = own.Close() })
		p := redis.NewProvider(wrap(own))
		if err := p.SessionInit(ctx, life, ""); err != nil {
			t.Fatal(err)
		}
		h := new(deadlines)
		own.AddHook(h)
		return p, h
	}
	t.Run("a destroy that waits for another", func(t *testing.T) {
		p, h := open(t, func(c *goredis.Client) goredis.UniversalClient { return c })
		held, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		h.hold = func() {
			once.Do(func() {
				close(held)
				<-release
			})
		}
		id := newID()
		var wg sync.WaitGroup
		destroy := func() {
			defer wg.Done()
			if err := p.SessionDestroy(ctx, id); err != nil {
				t.Error(err)
			}
		}
		wg.Add(2)
		go destroy()
		<-held
		go destroy()
		await(t, "the second to wait", func() bool {
			stacks := make([]byte, 1<<20)
			return strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "underway.(*Locks).Lock")
		})
		waiting := time.Now()
		time.Sleep(10 * time.Millisecond) // that much of its time is over
		close(release)
		wg.Wait()
		if late := h.all[len(h.all)-1].Sub(waiting.Add(limit)); late > 0 {
			t.Errorf("the second has %v more than its limit", late)
		}
	})
	t.Run("a regenerate across servers", func(t *testing.T) {
		p, h := open(t, func(c *goredis.Client) goredis.UniversalClient { return manySlots{c} })
		site := &site{T: t, raw: s.Client(), Provider: p}
		id := site.create("n", 1)
		var first time.Time
		h.all, h.hold = nil, func() {
			if first.IsZero() {
				first = time.Now()
			}
			time.Sleep(5 * time.Millisecond)
		}
		if _, err := p.SessionRegenerate(ctx, id, newID()); err != nil {
			t.Fatal(err)
		}
		for i, deadline := range h.all {
			if late := deadline.Sub(first.Add(limit)); late > 0 {
				t.Errorf("command %d has %v more than the limit", i, late)
			}
		}
		if len(h.all) < 3 {
			t.Errorf("%d commands", len(h.all))
		}
	})
}

func TestAProviderThatWasNotInitialisedSaysSo(t *testing.T) {
	p := new(redis.Provider)
	if _, err := p.SessionExist(ctx, newID()); err == nil || !strings.Contains(err.Error(), "SessionInit") {
		t.Errorf("SessionExist: %v", err)
	}
	if store, err := p.SessionRead(ctx, newID()); store != nil || err == nil {
		t.Errorf("SessionRead: %v, %v", store, err)
	}
	if store, err := p.SessionRegenerate(ctx, newID(), newID()); store != nil || err == nil {
		t.Errorf("SessionRegenerate: %v, %v", store, err)
	}
	if err := p.SessionDestroy(ctx, newID()); err == nil {
		t.Error("SessionDestroy: no error")
	}
}

func TestTheFieldsHoldTheConfiguration(t *testing.T) {
	s := redistest.Start(t, "--requirepass", "pw")
	p := open(t, s.Addr()+",7,pw,2,30,60,5", life)
	want := redis.Provider{SavePath: s.Addr(), Poolsize: 7, Password: "pw", DbNum: 2, IdleTimeoutStr: "30s", IdleCheckFrequencyStr: "1m0s", MaxRetries: 5}
	if p.SavePath != want.SavePath || p.Poolsize != want.Poolsize || p.Password != want.Password || p.DbNum != want.DbNum ||
		p.IdleTimeoutStr != want.IdleTimeoutStr || p.IdleCheckFrequencyStr != want.IdleCheckFrequencyStr || p.MaxRetries != want.MaxRetries {
		t.Errorf("the fields are %q %d %q %d %q %q %d", p.SavePath, p.Poolsize, p.Password, p.DbNum, p.IdleTimeoutStr, p.IdleCheckFrequencyStr, p.MaxRetries)
	}
}

func TestAPasswordThatTheServerDoesNotHaveIsLoggedOnce(t *testing.T) {
	s := redistest.Start(t)
	log := captureLog(t)
	p := open(t, s.Addr()+",100,astaxie", life)
	results := make(chan error)
	const requests = 8
	for range requests { // more than one connection
		go func() {
			_, err := p.SessionRead(ctx, newID())
			results <- err
		}()
	}
	for range requests {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if said := log.String(); strings.Count(said, "\n") != 1 || !strings.Contains(said, s.Addr()+" has no password") || strings.Contains(said, "astaxie") {
		t.Errorf("the log says: %s", said)
	}
	config := fmt.Sprintf(`{"save_path":%q,"username":"app","password":"astaxie"}`, s.Addr())
	if err := new(redis.Provider).SessionInit(ctx, life, config); err == nil || !strings.Contains(err.Error(), "WRONGPASS") {
		t.Errorf("with a user: %v", err)
	}
}
