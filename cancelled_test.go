package redis_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// Requests are cancelled at about the time when their replies come, alone and in lanes. What is used again, as batches and
// connections are, must not be what a call that was left still touches.
func TestCancelledRequestsMixNothingUp(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	s := redistest.Start(t)
	proxy := redistest.Proxy(t, s.Addr())
	p := open(t, proxy.Addr(), life)
	site := &site{T: t, raw: s.Client(), Provider: p}
	for _, goroutines := range []int{3, 40} {
		t.Run(fmt.Sprint(goroutines), func(t *testing.T) {
			ids := make([]string, goroutines)
			for g := range ids {
				ids[g] = site.create("n", g)
			}
			var all sync.WaitGroup
			for g, id := range ids {
				random := rand.New(rand.NewPCG(seed, uint64(g)))
				all.Add(1)
				go func() {
					defer all.Done()
					for i := range 40 {
						proxy.SetDelay(time.Duration(random.IntN(8)) * time.Millisecond)
						cancellable, cancel := context.WithCancel(ctx)
						if random.IntN(2) == 0 {
							time.AfterFunc(time.Duration(random.IntN(20_000))*time.Microsecond, cancel)
						}
						store, err := p.SessionRead(cancellable, id)
						switch {
						case err == nil && store.Get(ctx, "n") != g:
							t.Errorf("n = %v, want %d", store.Get(ctx, "n"), g)
						case err == nil:
							if err := store.Set(ctx, "i", i); err != nil {
								t.Error(err)
							}
							store.SessionRelease(cancellable, nil)
							site.holds(id, "n", g, "i", i)
						case !errors.Is(err, context.Canceled) || cancellable.Err() == nil:
							t.Errorf("SessionRead = %v, and the context %v", err, cancellable.Err())
						}
						cancel()
					}
				}()
			}
			all.Wait()
		})
	}
}

// tracing is an application's client whose pipelines are good for one use, as those are that end a span.
type tracing struct{ goredis.UniversalClient }

type onePipeline struct{ goredis.Pipeliner }

func (c tracing) Pipeline() goredis.Pipeliner { return onePipeline{c.UniversalClient.Pipeline()} }

func (p onePipeline) ExecContext(ctx context.Context) ([]goredis.Cmder, error) {
	defer p.Close()
	return p.Pipeliner.ExecContext(ctx)
}

func TestAnApplicationsPipelinesAreUsedOnce(t *testing.T) {
	m := miniredis.RunT(t)
	p := redis.NewProvider(tracing{rawClient(t, at(m.Addr()))})
	if err := p.SessionInit(ctx, life, ""); err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: p}
	id := s.create("n", 0)
	for n := range 3 {
		store := s.read(p, id)
		if got := store.Get(ctx, "n"); got != max(n-1, 0) {
			t.Errorf("n = %v, want %d", got, max(n-1, 0))
		}
		set(t, store, "n", n)
		store.SessionRelease(ctx, nil)
	}
}

// silent is a client that fails without saying so to the commands.
type silent struct{ goredis.UniversalClient }

type silentPipeline struct{ goredis.Pipeliner }

func (silent) Pipeline() goredis.Pipeliner { return silentPipeline{new(goredis.Pipeline)} }

func (silentPipeline) Process(goredis.Cmder) error { return nil }

func (silentPipeline) ExecContext(context.Context) ([]goredis.Cmder, error) {
	return nil, errors.New("nothing was sent")
}

func TestAPipelineThatWasNotSentIsNoAnswer(t *testing.T) {
	m := miniredis.RunT(t)
	p := redis.NewProvider(silent{rawClient(t, at(m.Addr()))})
	if err := p.SessionInit(ctx, life, `{"sharded":false}`); err != nil {
		t.Fatal(err)
	}
	if _, err := p.SessionRead(ctx, newID()); err == nil || !strings.Contains(err.Error(), "nothing was sent") {
		t.Errorf("SessionRead: %v", err)
	}
}

// plain is a hook that looks at the deadlines which the client gets.
type plain struct {
	hook
	t *testing.T
}

func (p plain) see(ctx context.Context) {
	if deadline, ok := ctx.Deadline(); !ok || !client.Uninterrupted(deadline).Equal(deadline) {
		p.t.Errorf("a deadline by which another caller can be found: %v", deadline)
	}
}

func (p plain) BeforeProcess(ctx context.Context, cmd goredis.Cmder) (context.Context, error) {
	if nameOf(cmd) != "ask" {
		p.see(ctx)
	}
	return ctx, nil
}

func (p plain) BeforeProcessPipeline(ctx context.Context, _ []goredis.Cmder) (context.Context, error) {
	p.see(ctx)
	return ctx, nil
}

// Connections find the caller who may leave by the last bits of a deadline: those of all others are of nobody.
func TestWhoDoesNotLeaveIsFoundByNoConnection(t *testing.T) {
	m := miniredis.RunT(t)
	own := goredis.NewClient(&goredis.Options{Addr: m.Addr()})
	defer own.Close()
	own.AddHook(plain{t: t})
	p := redis.NewProvider(own)
	if err := p.SessionInit(ctx, life, ""); err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: p}
	cancellable, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	id, next := s.create("n", 0), newID()
	store, err := p.SessionRead(cancellable, id)
	if err != nil {
		t.Fatal(err)
	}
	set(t, store, "n", 1)
	store.SessionRelease(cancellable, nil)
	if _, err := p.SessionRegenerate(cancellable, id, next); err != nil {
		t.Error(err)
	}
	if err := p.SessionDestroy(cancellable, next); err != nil {
		t.Error(err)
	}
}

// Whoever needs a new connection asks the Sentinels, which may not answer.
func TestACallerWhoLeavesWaitsForNoSentinel(t *testing.T) {
	t.Parallel()
	sentinel := redistest.StartSentinel(t, redistest.SentinelOptions{})
	p := open(t, fmt.Sprintf(`{"mode":"sentinel","save_path":%q,"read_timeout":"1m","dial_timeout":"1m"}`, strings.Join(sentinel.Addrs(), ";")), life)
	for _, s := range sentinel.Sentinels() {
		s.Pause()
		t.Cleanup(s.Resume)
	}
	sentinel.Master().Client().Do("client", "kill", "type", "normal")
	cancellable, cancel := context.WithCancel(ctx)
	left := make(chan error, 1)
	go func() {
		_, err := p.SessionRead(cancellable, newID())
		left <- err
	}()
	time.AfterFunc(100*time.Millisecond, cancel)
	select {
	case err := <-left:
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it is still kept waiting")
	}
}
