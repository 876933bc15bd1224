// What whoever runs a site sees of it, is told by it, and does to it.

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/core/admin"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

var _ admin.HealthChecker = (*redis.Provider)(nil)

// onMiniredis is a site on a miniredis.
func onMiniredis(t *testing.T, extra string) (*site, *miniredis.Miniredis) {
	m := miniredis.RunT(t)
	s := &site{T: t, config: fmt.Sprintf(`{"save_path":%q,"outage_time":"0s","max_retries":-1}`, m.Addr())}
	s.raw = goredis.NewClient(&goredis.Options{Addr: m.Addr()})
	t.Cleanup(func() { _ = s.raw.Close() })
	s.Provider = open(t, s.config, life)
	if extra != "" {
		s.Provider = s.with(extra, life)
	}
	return s, m
}

func TestStatsCountWhatIsDone(t *testing.T) {
	type unregistered struct{ A int }
	s, m := onMiniredis(t, "")
	captureLog(t)
	var last redis.Stats
	// counted checks what has been counted since it was called last.
	counted := func(what string, want redis.Stats) {
		t.Helper()
		now := s.Stats()
		got := redis.Stats{Errors: map[redis.Kind]uint64{}}
		value, was, diff := reflect.ValueOf(now), reflect.ValueOf(last), reflect.ValueOf(&got).Elem()
		for i := range value.NumField() {
			if value.Field(i).Kind() == reflect.Uint64 && !strings.HasPrefix(value.Type().Field(i).Name, "Bytes") {
				diff.Field(i).SetUint(value.Field(i).Uint() - was.Field(i).Uint())
			}
		}
		for kind, n := range now.Errors {
			if n -= last.Errors[kind]; n > 0 {
				got.Errors[kind] = n
			}
		}
		if want.Errors == nil {
			want.Errors = map[redis.Kind]uint64{}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s: counted\n%+v, want\n%+v", what, got, want)
		}
		last = now
	}
	counted("at first", redis.Stats{})
	id := s.create("n", 1)
	counted("a new session", redis.Stats{Absent: 1, Saved: 1, Created: 1})
	s.read(s, id).SessionRelease(ctx, nil)
	counted("a reading request", redis.Stats{Found: 1, Unchanged: 1})
	s.raw.Expire(id, (life-100)*time.Second)
	s.read(s, id).SessionRelease(ctx, nil)
	counted("one that renews", redis.Stats{Found: 1, Touched: 1})
	mine, theirs := s.read(s, id), s.read(s, id)
	set(t, mine, "a", 1)
	set(t, theirs, "b", 1)
	mine.SessionRelease(ctx, nil)
	theirs.SessionRelease(ctx, nil)
	counted("two at once", redis.Stats{Found: 2, Saved: 2, Merged: 1})
	set(t, mine, "bad", []any{unregistered{1}})
	mine.SessionRelease(ctx, nil)
	counted("an entry that cannot be encoded", redis.Stats{Saved: 1, Merged: 1, Dropped: 1, Errors: map[redis.Kind]uint64{redis.KindUnencodable: 1}})
	next := newID()
	if _, err := s.SessionRegenerate(ctx, id, next); err != nil {
		t.Fatal(err)
	}
	counted("a regenerate", redis.Stats{Regenerated: 1})
	set(t, mine, "a", 2)
	mine.SessionRelease(ctx, nil)
	counted("a late release", redis.Stats{Gone: 1})
	set(t, mine, "a", 3)
	mine.SessionRelease(ctx, nil)
	counted("a later one", redis.Stats{Gone: 1})
	if _, err := s.SessionExist(ctx, next); err != nil {
		t.Fatal(err)
	}
	if err := s.SessionDestroy(ctx, next); err != nil {
		t.Fatal(err)
	}
	store := s.read(s, next)
	set(t, store, "a", 2)
	store.SessionRelease(ctx, nil)
	counted("a session that is destroyed between SessionExist and SessionRead", redis.Stats{Absent: 1, Destroyed: 1, Gone: 1})
	next = s.create("a", 1)
	store = s.read(s, next)
	s.raw.Del(next)
	set(t, store, "a", 2)
	store.SessionRelease(ctx, nil)
	counted("a session that vanished", redis.Stats{Found: 1, Absent: 1, Saved: 1, Created: 1, Gone: 1, Errors: map[redis.Kind]uint64{redis.KindVanished: 1}})
	if err := s.SessionDestroy(ctx, next); err != nil {
		t.Fatal(err)
	}
	counted("a log-out", redis.Stats{Destroyed: 1})
	s.put("damaged", "damaged")
	if _, err := s.SessionRead(ctx, "damaged"); err == nil {
		t.Error("no error")
	}
	counted("a damaged session", redis.Stats{Errors: map[redis.Kind]uint64{redis.KindUndecodable: 1}})
	m.SetError("OOM out of order")
	_, _ = s.SessionRead(ctx, next)
	m.SetError("")
	counted("an error of the server", redis.Stats{Errors: map[redis.Kind]uint64{redis.KindRefused: 1}})
	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	_, _ = s.SessionRead(cancelled, next)
	counted("a cancelled request", redis.Stats{Errors: map[redis.Kind]uint64{redis.KindCanceled: 1}})
	m.Close()
	_, _ = s.SessionRead(ctx, next)
	counted("an outage", redis.Stats{Errors: map[redis.Kind]uint64{redis.KindUnreachable: 1}})

	if last.BytesWritten == 0 || last.BytesRead == 0 || last.Size.Count() != last.Saved || last.Size.Sum != float64(last.BytesWritten) {
		t.Errorf("%d bytes written, %d read, sizes %+v", last.BytesWritten, last.BytesRead, last.Size)
	}
	if last.Save.Count() != 7 || last.Load.Count() < last.Found+last.Absent || last.Save.Sum <= 0 || last.Save.Sum > 60 {
		t.Errorf("durations: load %+v, save %+v", last.Load, last.Save)
	}
	if last.InFlight != 0 || last.Queued != 0 || last.Pool.Misses == 0 {
		t.Errorf("%+v", last)
	}
	if (*new(redis.Provider)).Stats().Found != 0 {
		t.Error("a provider that has not begun has counted")
	}
}

func TestStatsOutliveAConfiguration(t *testing.T) {
	s, _ := onMiniredis(t, "")
	s.create("n", 1)
	if err := s.SessionInit(ctx, life, strings.Replace(s.config, "{", `{"poolsize":3,`, 1)); err != nil {
		t.Fatal(err)
	}
	s.create("n", 1)
	if got := s.Stats().Created; got != 2 {
		t.Errorf("%d sessions created, want 2", got)
	}
}

func TestOnErrorIsToldWhatNoCallerCanBe(t *testing.T) {
	s, m := onMiniredis(t, "")
	log := captureLog(t)
	type key struct{}
	var told []redis.Failure
	s.OnError(func(ctx context.Context, f redis.Failure) {
		if ctx.Value(key{}) != "of the request" || ctx.Err() != nil {
			t.Errorf("the context is not the request's: %v", ctx.Err())
		}
		told = append(told, f)
	})
	request, hangUp := context.WithCancel(context.WithValue(ctx, key{}, "of the request"))
	hangUp()
	id := s.create("n", 1)
	store := s.read(s, id)
	set(t, store, "n", 2)
	m.SetError("OOM out of order")
	store.SessionRelease(request, nil)
	if s.SessionAll(context.WithValue(ctx, key{}, "of the request")) != 0 {
		t.Error("counted")
	}
	m.SetError("")
	if len(told) != 2 || log.String() != "" {
		t.Fatalf("told %v, log %q", told, log)
	}
	f := told[0]
	if f.Operation != "save" || f.Kind != redis.KindRefused || f.Session != fmt.Sprintf("%q…", id[:6]) || !strings.Contains(f.Err.Error(), "out of order") ||
		strings.Contains(f.Err.Error(), id) {
		t.Errorf("told %+v", f)
	}
	if told[1].Session != "" || told[1].Kind != redis.KindRefused {
		t.Errorf("of no session: %+v", told[1])
	}
	var out strings.Builder
	slog.New(slog.NewTextHandler(&out, nil)).Error("session", "failure", f)
	for _, want := range []string{"failure.operation=save", "failure.kind=refused", "failure.error="} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("slog writes no %s: %s", want, out.String())
		}
	}

	// The hook may use the session that it is told of.
	s.OnError(func(ctx context.Context, f redis.Failure) { told = append(told, redis.Failure{}); store.Get(ctx, "n") })
	type unregistered struct{ A int }
	set(t, store, "bad", []any{unregistered{1}})
	store.SessionRelease(ctx, nil)
	if len(told) != 3 {
		t.Errorf("told %v", told)
	}
	s.OnError(nil)
	set(t, store, "worse", []any{unregistered{1}})
	store.SessionRelease(ctx, nil)
	if !strings.Contains(log.take(), `"worse"`) {
		t.Error("without a hook nothing is logged")
	}
	m.Close() // what was never sent is lost for certain
	store.SessionRelease(ctx, nil)
	if got := log.take(); !strings.Contains(got, "the changes of this request are lost: dial") {
		t.Errorf("log: %s", got)
	}
}

func TestWhoIsToldMayDoAnythingWithTheProvider(t *testing.T) {
	s, _ := onMiniredis(t, `"read_timeout":"2s","write_timeout":"2s","dial_timeout":"2s"`)
	type unregistered struct{ A int }
	id := s.create("n", 1)
	store := s.read(s, id)
	set(t, store, "bad", []any{unregistered{1}})
	told := 0
	s.OnError(func(ctx context.Context, f redis.Failure) {
		told++
		if err := s.SessionDestroy(ctx, id); err != nil {
			t.Error(err)
		}
		store.SessionRelease(ctx, nil)
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if err := s.SessionInit(ctx, life, s.config); err != nil {
			t.Error(err)
		}
	})
	store.SessionRelease(ctx, nil)
	if told != 1 {
		t.Errorf("told %d times", told)
	}
	s.gone(id)
}

func TestAnOutageLogsAFewLines(t *testing.T) {
	t.Cleanup(redis.SetLinesPerSecond(5))
	s, m := onMiniredis(t, "")
	log := captureLog(t)
	id := s.create("n", 1)
	vanishing := s.read(s, id)
	set(t, vanishing, "n", 2)
	m.SetError("OOM out of order")
	begun := time.Now()
	var wg sync.WaitGroup
	for range 4 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 25 {
				s.SessionAll(ctx)
			}
		}()
	}
	wg.Wait()
	if took := time.Since(begun); took > time.Second/2 {
		t.Skipf("this machine takes %v for what should take no second", took)
	}
	m.SetError("")
	s.raw.Del(id)
	vanishing.SessionRelease(ctx, nil) // of another kind
	lines := func(with string) int { return strings.Count(log.String(), with) }
	if lines("out of order") != 5 || lines("no longer exists") != 1 {
		t.Errorf("log:\n%s", log)
	}
	await(t, "the number of those that were left out", func() bool { return lines("and 95 more of the kind refused") == 1 })
	m.SetError("OOM out of order")
	begun = time.Now()
	if s.SessionAll(ctx); lines("out of order") != 6 {
		t.Errorf("a second later nothing is logged:\n%s", log)
	}
	for range 7 {
		s.SessionAll(ctx)
	}
	if took := time.Since(begun); took > time.Second/2 {
		t.Skipf("this machine takes %v for what should take no second", took)
	}
	later := captureLog(t)
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
	if lines("and 3 more of the kind refused") != 1 || later.String() != "" {
		t.Errorf("Close does not say how many were left out, or not where: %s%s", log, later)
	}
}

func TestCloseWaitsForWhatIsUnderWay(t *testing.T) {
	s := redistest.Start(t)
	p := open(t, fmt.Sprintf(`{"save_path":%q,"read_timeout":"1m"}`, s.Addr()), life)
	log := captureLog(t)
	site := &site{T: t, raw: s.Client(), Provider: p}
	ids := []string{site.create("n", 1), site.create("n", 1), site.create("n", 1)}
	late := site.read(p, ids[0])
	set(t, late, "n", 3)
	unchanged := site.read(p, ids[0])
	stores := []session.Store{site.read(p, ids[1]), site.read(p, ids[2])}
	released := make(chan struct{})
	s.Pause()
	for _, store := range stores {
		set(t, store, "n", 2)
		go func() {
			store.SessionRelease(ctx, nil)
			released <- struct{}{}
		}()
	}
	await(t, "the releases", func() bool { return p.Stats().InFlight == 2 })
	closed := make(chan error)
	go func() { closed <- p.Close(ctx) }()
	await(t, "Close", func() bool { return isClosed(p) })
	select {
	case err := <-closed:
		t.Errorf("Close returned before the releases: %v", err)
	default:
	}
	s.Resume()
	for range stores {
		<-released
	}
	if err := <-closed; err != nil {
		t.Error(err)
	}
	for _, id := range ids[1:] {
		if got := site.stored(id); got["n"] != 2 {
			t.Errorf("stored is %v", got)
		}
	}
	if err := p.Close(ctx); err != nil {
		t.Errorf("once more: %v", err)
	}
	if got := log.take(); got != "" {
		t.Errorf("log: %s", got)
	}

	// What comes later.
	_, existErr := p.SessionExist(ctx, ids[0])
	_, readErr := p.SessionRead(ctx, ids[0])
	_, regenerateErr := p.SessionRegenerate(ctx, ids[0], newID())
	_, usersErr := p.SessionsOf(ctx, "ann")
	_, usersEnd := p.DestroyAll(ctx, "ann")
	for what, err := range map[string]error{
		"exist": existErr, "read": readErr, "regenerate": regenerateErr, "destroy": p.SessionDestroy(ctx, ids[0]), "check": p.Check(),
		"users": usersErr, "end": usersEnd,
	} {
		if !errors.Is(err, redis.ErrClosed) || !strings.HasPrefix(err.Error(), "session/redis: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	unchanged.SessionRelease(ctx, nil)
	if got := log.take(); got != "" {
		t.Errorf("nothing was lost, and it says %s", got)
	}
	late.SessionRelease(ctx, nil)
	if got := log.take(); !strings.Contains(got, "closed") || !strings.Contains(got, "are lost") {
		t.Errorf("log: %s", got)
	}
	if n := p.SessionAll(ctx); n != 0 {
		t.Errorf("SessionAll = %d", n)
	}
	await(t, "the connections to be closed", func() bool {
		clients, err := s.Client().ClientList().Result()
		return err == nil && strings.Count(clients, "user=default") == 0 || strings.Count(clients, "addr=127.0.0.1") == 0
	})
	if err := p.SessionInit(ctx, life, fmt.Sprintf(`{"save_path":%q,"read_timeout":"1m"}`, s.Addr())); err != nil {
		t.Fatal(err)
	}
	late.SessionRelease(ctx, nil) // on what was closed
	site.holds(ids[0], "n", 1)
}

func TestCloseDoesNotWaitForEver(t *testing.T) {
	s := redistest.Start(t)
	p := open(t, fmt.Sprintf(`{"save_path":%q,"read_timeout":"10s"}`, s.Addr()), life)
	told := make(chan redis.Failure, 1)
	p.OnError(func(_ context.Context, f redis.Failure) { told <- f })
	store, err := p.SessionRead(ctx, newID())
	if err != nil {
		t.Fatal(err)
	}
	s.Pause()
	t.Cleanup(s.Resume)
	go store.SessionRelease(ctx, nil)
	await(t, "the release", func() bool { return p.Stats().InFlight == 1 })
	patient := make(chan error)
	go func() { patient <- p.Close(ctx) }()
	await(t, "Close", func() bool { return isClosed(p) })
	limited, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := p.Close(limited); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "1 ") {
		t.Errorf("Close = %v", err)
	}
	if f := <-told; f.Kind != redis.KindClosed || !errors.Is(f.Err, redis.ErrClosed) {
		t.Errorf("what was cut off is of the kind %s: %v", f.Kind, f.Err)
	}
	if err := <-patient; err != nil {
		t.Errorf("the first Close = %v, though nothing is under way any more", err)
	}
	if p.SessionAll(ctx); len(told) != 1 {
		t.Error("it is not told that a provider which is closed cannot count")
	}
}

// isClosed asks no server.
func isClosed(p *redis.Provider) bool {
	_, err := p.SessionsOf(ctx, "ann")
	return errors.Is(err, redis.ErrClosed)
}

func TestCloseWithAContextThatHasEnded(t *testing.T) {
	s, _ := onMiniredis(t, "")
	ended, cancel := context.WithCancel(ctx)
	cancel()
	for range 10 {
		if err := s.Close(ended); err != nil {
			t.Fatalf("nothing was under way: %v", err)
		}
		if err := s.SessionInit(ctx, life, s.config); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCloseDoesNotWaitForASessionInit(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.Proxy(t, s.Addr())
	config := fmt.Sprintf(`{"save_path":%q,"read_timeout":"10s"}`, proxy.Addr())
	p := open(t, config, life)
	s.Pause()
	t.Cleanup(s.Resume)
	begun := make(chan error)
	before := proxy.Connections()
	go func() { begun <- p.SessionInit(ctx, life, strings.Replace(config, "{", `{"poolsize":3,`, 1)) }()
	await(t, "SessionInit", func() bool { return proxy.Connections() > before }) // one that has yet to look whether p is closed opens it anew
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
	s.Resume()
	if err := <-begun; !errors.Is(err, redis.ErrClosed) {
		t.Errorf("SessionInit = %v", err)
	}
	if !isClosed(p) {
		t.Error("the provider is open again")
	}
}

// The client of an application is not cut off.
func TestASessionInitOnTheApplicationsClientFindsThatItIsClosed(t *testing.T) {
	client := goredis.NewClient(&goredis.Options{Addr: miniredis.RunT(t).Addr()})
	defer client.Close()
	for _, row := range []struct {
		name string
		when func(t *testing.T, closes func())
	}{
		{"while it reads its configuration", func(t *testing.T, closes func()) { logTo(t, logged(closes)) }},
		{"while it connects", func(_ *testing.T, closes func()) { client.AddHook(&between{command: "ping", before: closes}) }},
	} {
		t.Run(row.name, func(t *testing.T) {
			p := redis.NewProvider(client)
			if err := p.SessionInit(ctx, life, ""); err != nil {
				t.Fatal(err)
			}
			row.when(t, func() {
				if err := p.Close(ctx); err != nil {
					t.Error(err)
				}
			})
			if err := p.SessionInit(ctx, life, `{"key_prefix":"other:","no_such_key":1}`); !errors.Is(err, redis.ErrClosed) {
				t.Errorf("SessionInit = %v", err)
			}
			if !isClosed(p) {
				t.Error("the provider is open again")
			}
		})
	}
}

// logged is called for each line that is logged to it.
type logged func()

func (f logged) Write(line []byte) (int, error) {
	f()
	return len(line), nil
}

func TestCloseIsAboutAllConfigurations(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	proxy := redistest.Proxy(t, s.Addr())
	connections := func() int { return strings.Count(s.Client().ClientList().Val(), "addr=127.0.0.1") }
	before := connections()
	p := open(t, fmt.Sprintf(`{"save_path":%q,"read_timeout":"10s"}`, proxy.Addr()), life)
	site := &site{T: t, raw: s.Client(), Provider: p}
	id := site.create("n", 1)
	store := site.read(p, id)
	set(t, store, "n", 2)
	if err := p.SessionInit(ctx, life, fmt.Sprintf(`{"save_path":%q,"read_timeout":"1s","write_timeout":"1s","dial_timeout":"1s"}`, s.Addr())); err != nil {
		t.Fatal(err)
	}
	both := connections()
	s.Client().Do("acl", "setuser", "app", "on", ">secret", "~*", "+@all", "-zadd")
	if err := p.SessionInit(ctx, life, fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret","user_key":"uid"}`, s.Addr())); err == nil {
		t.Fatal("no error")
	}
	await(t, "the connections of a SessionInit that failed to be closed", func() bool { return connections() <= both })
	proxy.SetDelay(2 * time.Second) // each way: more than an operation may take of the later configuration
	go store.SessionRelease(ctx, nil)
	await(t, "the release", func() bool { return p.Stats().InFlight == 1 })
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
	if got := site.stored(id); got["n"] != 2 {
		t.Errorf("stored is %v when Close returns", got)
	}
	await(t, "the connections of both configurations to be closed", func() bool { return connections() == before })
}

func TestAProbeEndsWhenTheProviderIsClosed(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	var dials atomic.Int64 // go-redis makes fewer after as many failures as the pool is large
	client := goredis.NewClient(&goredis.Options{Addr: m.Addr(), PoolSize: 10000, Dialer: func(_ context.Context, network, addr string) (net.Conn, error) {
		dials.Add(1)
		return net.Dial(network, addr)
	}})
	defer client.Close()
	p := redis.NewProvider(client)
	if err := p.SessionInit(ctx, life, `{"outage_time":"100ms"}`); err != nil {
		t.Fatal(err)
	}
	m.Close()
	await(t, "the probe", func() bool {
		_, err := p.SessionRead(ctx, newID())
		return err != nil && strings.Contains(err.Error(), "does not serve since")
	})
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
	await(t, "the probe to end", func() bool {
		probed := dials.Load()
		time.Sleep(120 * time.Millisecond) // two probes
		return dials.Load() == probed
	})
}

func TestKindsOfFailures(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--requirepass", "secret")
	m := miniredis.RunT(t)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := open(t, fmt.Sprintf(`{"save_path":%q,"password_file":%q,"max_retries":-1,"outage_time":"0s","read_timeout":"1m"}`, s.Addr(), password), life)
	var last redis.Stats
	is := func(what string, want redis.Kind) {
		t.Helper()
		now := p.Stats()
		if now.Errors[want] != last.Errors[want]+1 {
			t.Errorf("%s is of another kind than %s: %v, before %v", what, want, now.Errors, last.Errors)
		}
		last = now
	}
	await(t, "the connections to be closed", func() bool { return s.Client().Do("client", "kill", "type", "normal").Err() == nil })
	if err := os.Rename(password, password+"2"); err != nil {
		t.Fatal(err)
	}
	_, err := p.SessionRead(ctx, newID())
	if is("a connection that lacks its password", redis.KindUnreachable); err == nil {
		t.Error("no error")
	}
	if err := os.Rename(password+"2", password); err != nil {
		t.Fatal(err)
	}
	id := newID()
	store, err := p.SessionRead(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	p.OnError(func(context.Context, redis.Failure) {})
	s.Pause()
	released := make(chan struct{})
	go func() {
		defer close(released)
		store.SessionRelease(ctx, nil)
	}()
	await(t, "the release", func() bool { return p.Stats().InFlight == 1 })
	// Without repeats, a time limit has to be kept also where the machine is busy.
	quick := `{"save_path":%q,"password_file":%q,"max_retries":-1,"outage_time":"0s","read_timeout":"1500ms","write_timeout":"1500ms","dial_timeout":"1500ms"}`
	m.RequireAuth("secret")
	if err := p.SessionInit(ctx, life, fmt.Sprintf(quick, m.Addr(), password)); err != nil {
		t.Fatal(err)
	}
	last = p.Stats()
	if err := p.SessionDestroy(ctx, id); err == nil {
		t.Error("no error")
	}
	is("a wait for another request", redis.KindTimeout)
	m.SetError("ERR Connection timed out")
	_, _ = p.SessionRead(ctx, id)
	is("a server that a proxy has lost", redis.KindUnreachable)
	s.Resume()
	<-released
	if err := p.SessionInit(ctx, life, fmt.Sprintf(quick, s.Addr(), password)); err != nil {
		t.Fatal(err)
	}
	last = p.Stats()
	s.Pause()
	_, _ = p.SessionRead(ctx, id)
	is("a server that does not answer", redis.KindTimeout)
	s.Resume()
}

func TestCloseLeavesTheApplicationsClientOpen(t *testing.T) {
	m := miniredis.RunT(t)
	client := goredis.NewClient(&goredis.Options{Addr: m.Addr()})
	defer client.Close()
	p := redis.NewProvider(client)
	if err := p.Close(ctx); err != nil {
		t.Errorf("before SessionInit: %v", err)
	}
	if err := p.SessionInit(ctx, life, ""); err != nil {
		t.Fatal(err)
	}
	if err := p.Close(ctx); err != nil {
		t.Error(err)
	}
	if err := client.Ping().Err(); err != nil {
		t.Errorf("the application's client is closed: %v", err)
	}
	if _, err := p.SessionExist(ctx, newID()); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("SessionExist = %v", err)
	}
	if err := p.SessionInit(ctx, life, ""); err != nil {
		t.Fatal(err)
	}
	if err := p.Check(); err != nil {
		t.Errorf("after another SessionInit: %v", err)
	}
}

func TestCheckTellsWhetherSessionsCanBeSaved(t *testing.T) {
	s := redistest.Start(t)
	p := open(t, fmt.Sprintf(`{"save_path":%q,"outage_time":"0s","max_retries":-1,"key_prefix":"shop:"}`, s.Addr()), life)
	check := func(what, want string) {
		t.Helper()
		switch err := p.Check(); {
		case want == "" && err != nil, want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), s.Addr())):
			t.Errorf("%s: %v", what, err)
		}
	}
	check("well", "")
	if keys := s.Client().Keys("*").Val(); slices.ContainsFunc(keys, func(k string) bool { return strings.HasPrefix(k, "shop:") }) {
		t.Errorf("left %q", keys)
	}
	config := s.Client().ConfigSet
	config("min-replicas-to-write", "3")
	check("no replicas", "NOREPLICAS")
	config("min-replicas-to-write", "0")
	check("well again", "")
	s.Client().Do("acl", "setuser", "default", "-get")
	check("no rights to read", "NOPERM")
	s.Client().Do("acl", "setuser", "default", "+get")
	s.Kill()
	check("down", "connection refused")
	s.Restart()
	await(t, "the server to be well", func() bool { return p.Check() == nil })
	if err := new(redis.Provider).Check(); err == nil {
		t.Error("without SessionInit it is well")
	}
}

func TestCheckLooksAtEveryMaster(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
	p := open(t, fmt.Sprintf(`{"mode":"cluster","save_path":%q,"outage_time":"0s","max_retries":-1}`, strings.Join(c.Addrs(), ";")), life)
	if err := p.Check(); err != nil {
		t.Error(err)
	}
	for _, master := range c.Masters() {
		set := master.Client().ConfigSet
		set("min-replicas-to-write", "3")
		if err := p.Check(); err == nil || !strings.Contains(err.Error(), master.Addr()+": NOREPLICAS") {
			t.Errorf("a master takes no writes, and Check says %v", err)
		}
		set("min-replicas-to-write", "0")
	}
}

func TestASessionThatGrowsTooLargeIsNotSaved(t *testing.T) {
	s, _ := onMiniredis(t, `"max_session_bytes":1000`)
	var told []redis.Failure
	s.OnError(func(_ context.Context, f redis.Failure) { told = append(told, f) })
	id := s.create("n", 1, "filler", strings.Repeat("x", 800))
	store := s.read(s, id)
	set(t, store, "basket", strings.Repeat("y", 400), "n", 2)
	store.SessionRelease(ctx, nil)
	s.holds(id, "n", 1, "filler", strings.Repeat("x", 800))
	if len(told) != 1 || told[0].Kind != redis.KindTooLarge {
		t.Fatalf("told %v", told)
	}
	for _, want := range []string{"max_session_bytes is 1000", `"filler" with 8`, `"basket" with 4`, "lost"} {
		if !strings.Contains(told[0].Err.Error(), want) {
			t.Errorf("it does not say %s: %v", want, told[0].Err)
		}
	}
	if strings.Contains(told[0].Err.Error(), "yyy") {
		t.Error("it tells values")
	}
	_ = store.Delete(ctx, "filler")
	store.SessionRelease(ctx, nil)
	s.holds(id, "n", 2, "basket", strings.Repeat("y", 400))

	// One that was too large before may change, but not grow.
	old := s.with(`"max_session_bytes":0`, life)
	id = newID()
	store = s.read(old, id)
	set(t, store, "n", 1, "filler", strings.Repeat("x", 2000))
	store.SessionRelease(ctx, nil)
	for n := range 12 { // also while versions are added
		store = s.read(s, id)
		set(t, store, "n", n)
		store.SessionRelease(ctx, nil)
		s.holds(id, "n", n, "filler", strings.Repeat("x", 2000))
	}
	if len(told) != 1 {
		t.Errorf("told %v", told)
	}
	store = s.read(s, newID())
	set(t, store, "filler", strings.Repeat("x", 1000))
	store.SessionRelease(ctx, nil)
	if len(told) != 2 {
		t.Error("a new session that is too large is saved")
	}
	s.gone(store.SessionID(ctx))
}

func TestASessionThatIsTooLargeMayFitIntoWhatAnotherRequestHasLeft(t *testing.T) {
	s, _ := onMiniredis(t, `"max_session_bytes":1000`)
	id := s.create("filler", strings.Repeat("x", 800))
	mine, theirs := s.read(s, id), s.read(s, id)
	_ = theirs.Delete(ctx, "filler")
	theirs.SessionRelease(ctx, nil)
	set(t, mine, "basket", strings.Repeat("y", 400))
	mine.SessionRelease(ctx, nil)
	s.holds(id, "basket", strings.Repeat("y", 400))
}

func TestOfASessionThatIsTooLargeIsToldOnceAndItLivesOn(t *testing.T) {
	s, _ := onMiniredis(t, `"max_session_bytes":1000`)
	told := 0
	s.OnError(func(context.Context, redis.Failure) { told++ })
	id := s.create("n", 1)
	s.raw.Expire(id, time.Minute)
	store := s.read(s, id)
	for range 2 {
		set(t, store, "basket", strings.Repeat("x", 1000))
		store.SessionRelease(ctx, nil)
		store.SessionRelease(ctx, nil)
	}
	if told != 2 {
		t.Errorf("of two changes that were not saved it is told %d times", told)
	}
	if left := s.ttl(id); left < (life-10)*time.Second {
		t.Errorf("the session of an active user lives for %v", left)
	}

	// Nor is anything lost that was not to be saved.
	told = 0
	set(t, store, "basket", strings.Repeat("x", 1000))
	if err := s.SessionDestroy(ctx, id); err != nil {
		t.Fatal(err)
	}
	store.SessionRelease(ctx, nil)
	store = s.read(s, newID())
	set(t, store, "basket", strings.Repeat("x", 1000))
	releaseIfPresent(ctx, store)
	if told != 0 {
		t.Errorf("told %d times", told)
	}
}

func TestOfAnEntryThatCannotBeEncodedIsToldOnce(t *testing.T) {
	type unregistered struct{ A int }
	s, _ := onMiniredis(t, "")
	told := 0
	s.OnError(func(context.Context, redis.Failure) { told++ })
	store := s.read(s, newID())
	for range 2 {
		set(t, store, "bad", []any{unregistered{1}})
		for n := range 2 {
			set(t, store, "n", n)
			store.SessionRelease(ctx, nil)
		}
	}
	if dropped := s.Stats().Dropped; told != 2 || dropped != 2 {
		t.Errorf("of two changes that were lost it is told %d times, and %d are counted", told, dropped)
	}
}

func TestStatsCountEachReleaseOnce(t *testing.T) {
	s, _ := onMiniredis(t, `"skip_empty":true`)
	counted := func(what string, want redis.Stats, timed uint64) {
		t.Helper()
		got := s.Stats()
		if got.Saved != want.Saved || got.Touched != want.Touched || got.Unchanged != want.Unchanged || got.Gone != want.Gone || got.Save.Count() != timed {
			t.Errorf("%s: counted %+v", what, got)
		}
	}
	s.read(s, newID()).SessionRelease(ctx, nil)
	releaseIfPresent(ctx, s.read(s, newID()))
	counted("new and empty ones", redis.Stats{Unchanged: 2}, 0)
	store := s.read(s, newID())
	set(t, store, "n", 1)
	releaseIfPresent(ctx, store)
	counted("a new one that is not to be created", redis.Stats{Unchanged: 3}, 1)
	id := s.create("n", 1)
	counted("one that is", redis.Stats{Saved: 1, Unchanged: 3}, 2)
	s.raw.Expire(id, time.Minute)
	store = s.read(s, id)
	s.raw.Del(id)
	store.SessionRelease(ctx, nil)
	counted("one that expires before it is renewed", redis.Stats{Saved: 1, Unchanged: 3, Gone: 1}, 2)
}

func TestARenewalKeepsToOneTimeLimit(t *testing.T) {
	t.Parallel()
	s, m := onMiniredis(t, "")
	proxy := redistest.Proxy(t, m.Addr())
	p := open(t, fmt.Sprintf(`{"save_path":%q,"user_key":"uid","read_timeout":"2s","write_timeout":"500ms","dial_timeout":"2s"}`, proxy.Addr()), life)
	id := s.create("uid", "ann")
	s.raw.Expire(id, time.Minute)
	store := s.read(p, id)
	s.raw.ScriptFlush()
	told := 0
	p.OnError(func(context.Context, redis.Failure) { told++ })
	proxy.SetDelay(800 * time.Millisecond) // each way, three times: of the digest of list.lua, its source, and EXPIRE
	store.SessionRelease(ctx, nil)
	if told != 1 || p.Stats().Touched != 0 {
		t.Error("it took more than the 4.5 s of one operation")
	}
}

// A save that was certainly not done is not looked for in what others have saved since.
func TestWhatWasRefusedIsSavedLater(t *testing.T) {
	s, m := onMiniredis(t, "")
	var told []redis.Failure
	s.OnError(func(_ context.Context, f redis.Failure) { told = append(told, f) })
	id := s.create("a", 1)
	store := s.read(s, id)
	set(t, store, "b", 2)
	m.SetError("OOM command not allowed")
	store.SessionRelease(ctx, nil)
	m.SetError("")
	data, err := session.EncodeGob(map[any]any{"a": 1, "c": 3})
	if err != nil {
		t.Fatal(err)
	}
	s.put(id, string(data)) // as beego's provider does
	store.SessionRelease(ctx, nil)
	s.holds(id, "a", 1, "b", 2, "c", 3)
	if len(told) != 1 || !strings.Contains(told[0].Err.Error(), "are lost") {
		t.Errorf("told %v", told)
	}
}

func TestWhatIsSetWhileAReleaseIsRefusedIsToldToo(t *testing.T) {
	server := redistest.Start(t)
	client := goredis.NewClient(&goredis.Options{Addr: server.Addr()})
	t.Cleanup(func() { _ = client.Close() })
	p := redis.NewProvider(client)
	if err := p.SessionInit(ctx, life, `{"max_session_bytes":100}`); err != nil {
		t.Fatal(err)
	}
	told := 0
	p.OnError(func(context.Context, redis.Failure) { told++ })
	store, err := p.SessionRead(ctx, newID())
	if err != nil {
		t.Fatal(err)
	}
	set(t, store, "filler", strings.Repeat("x", 200))
	client.AddHook(&between{command: "get", do: sync.OnceFunc(func() { set(t, store, "b", 2) })})
	for release, want := range []int{1, 2, 2} {
		if store.SessionRelease(ctx, nil); told != want {
			t.Errorf("after release %d it was told %d times, want %d", release+1, told, want)
		}
	}
}
