// This file owns the tests of what happens when a caller leaves.

package client_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/go-redis/redis/v7"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
)

func TestACallerWhoLeavesIsNotKeptWaiting(t *testing.T) {
	t.Parallel()
	certs := redistest.NewCerts(t)
	pause := func(s *redistest.Server, _ *redistest.ProxyT, _ redis.UniversalClient) { s.Pause() }
	hold := func(_ *redistest.Server, p *redistest.ProxyT, _ redis.UniversalClient) {
		p.Hold(true)
		p.CutAll()
	}
	occupy := func(s *redistest.Server, p *redistest.ProxyT, c redis.UniversalClient) {
		before := p.RoundTrips()
		s.Pause()
		go ping(context.Background(), c)
		await(t, func() bool { return p.RoundTrips() > before })
	}
	for _, test := range []struct {
		name   string
		server *redistest.Server
		o      client.Options
		hang   func(*redistest.Server, *redistest.ProxyT, redis.UniversalClient)
	}{
		{"for a reply", redistest.Start(t), client.Options{}, pause},
		{"for a reply in TLS", redistest.StartTLS(t, certs), client.Options{TLS: certs.ClientConfig(t)}, pause},
		{"for a connection that is opened anew", redistest.Start(t), client.Options{}, hold},
		{"for a connection that is free", redistest.Start(t), client.Options{PoolSize: 1}, occupy},
	} {
		t.Run(test.name, func(t *testing.T) {
			proxy := redistest.Proxy(t, test.server.Addr())
			o := patient(test.o)
			o.Addrs = []string{proxy.Addr()}
			c := open(t, o)
			if err := ping(within(t, 10*time.Second), c); err != nil {
				t.Fatal(err)
			}
			trips, connections := proxy.RoundTrips(), proxy.Connections()
			test.hang(test.server, proxy, c)
			t.Cleanup(test.server.Resume)
			ctx, cancel := context.WithCancel(within(t, time.Minute))
			result := make(chan error)
			go func() {
				for {
					i := c.(client.Interrupter).Interruptible(ctx)
					err := ping(i, c)
					i.End()
					if ctx.Err() != nil { // a connection that was just cut may fail before that
						result <- err
						return
					}
				}
			}()
			await(t, func() bool { return proxy.RoundTrips() > trips || proxy.Connections() > connections })
			cancel()
			select {
			case err := <-result:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("got %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Error("still waits")
			}
		})
	}
}

// Callers leave at about the time when their replies come.
func TestACallerWhoLeavesDisturbsNoOther(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	server := redistest.Start(t)
	proxy := redistest.Proxy(t, server.Addr())
	c := open(t, client.Options{Addrs: []string{proxy.Addr()}, PoolSize: 8})
	const goroutines, calls = 16, 60
	for i := range goroutines {
		if err := server.Client().Set(fmt.Sprint(i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	proxy.SetDelay(7 * time.Millisecond) // longer than a connection waits before it looks for its caller
	var all sync.WaitGroup
	for g := range goroutines {
		random := rand.New(rand.NewPCG(seed, uint64(g)))
		all.Add(1)
		go func() {
			defer all.Done()
			for range calls {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				if random.IntN(2) == 0 {
					time.AfterFunc(time.Duration(random.IntN(30_000))*time.Microsecond, cancel)
				}
				get := redis.NewStringCmd("get", fmt.Sprint(g))
				i := c.(client.Interrupter).Interruptible(ctx)
				err := c.ProcessContext(i, get)
				i.End()
				if err == nil && get.Val() != fmt.Sprint(g) {
					t.Errorf("got %q for %d", get.Val(), g)
				} else if err != nil && ctx.Err() == nil {
					t.Errorf("%v, and the context is alive", err)
				}
				cancel()
			}
		}()
	}
	all.Wait()
}

func TestEveryCallerHasADeadlineOfItsOwn(t *testing.T) {
	t.Parallel()
	c := client.New(client.Options{Addrs: []string{"127.0.0.1:1"}})
	defer c.Close()
	ctx := within(t, time.Minute)
	want, _ := ctx.Deadline()
	seen := map[time.Time]bool{client.Uninterrupted(want): true}
	var seated []*client.Interruptible
	for i := c.(client.Interrupter).Interruptible(ctx); i != nil; i = c.(client.Interrupter).Interruptible(ctx) {
		got, _ := i.Deadline()
		if seen[got] {
			t.Errorf("two have the deadline %v", got)
		}
		if off := got.Sub(want); off < -64 || off > 64 {
			t.Errorf("the deadline is %v off", off)
		}
		seen[got] = true
		seated = append(seated, i)
	}
	if len(seated) == 0 {
		t.Fatal("there are no seats")
	}
	seated[0].End()
	if c.(client.Interrupter).Interruptible(ctx) == nil {
		t.Error("a seat that was left is not free")
	}
	if c.(client.Interrupter).Interruptible(context.Background()) != nil {
		t.Error("a call without a deadline can be interrupted")
	}
}
