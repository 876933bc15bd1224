// This file owns what the check of idle connections costs.

package client

import (
	"context"
	"fmt"
	"net"
	"sort"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-redis/redis/v7"

	"github.com/beego-session/redis/internal/redistest"
)

// BenchmarkCheck is the look into a socket, and what it takes to see that a connection needs none.
func BenchmarkCheck(b *testing.B) {
	server := redistest.Start(b)
	d := newDialer(Options{})
	nc, err := d.dial(context.Background(), "tcp", server.Addr())
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	c := nc.(*conn)
	b.Run("idle", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if !c.socket.quiet() {
				b.Fatal("not quiet")
			}
		}
	})
	b.Run("in use", func(b *testing.B) {
		b.ReportAllocs()
		for range b.N {
			if err := c.ensureOpen(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkGet compares GET by a client of New with one of go-redis alone, in turn. It reports the median ratio.
func BenchmarkGet(b *testing.B) {
	server := redistest.Start(b)
	server.Client().Set("key", make([]byte, 200), 0)
	ours := New(Options{Addrs: []string{server.Addr()}, PoolSize: 100})
	defer ours.Close()
	checked := newDialer(Options{})
	always := redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 100, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
		nc, err := checked.dial(ctx, network, addr)
		return alwaysChecked{nc.(*conn)}, err
	}})
	defer always.Close()
	bare := redis.NewClient(&redis.Options{Addr: server.Addr(), PoolSize: 100})
	defer bare.Close()

	run := func(c redis.UniversalClient, goroutines, n int) float64 {
		var left atomic.Int64
		left.Store(int64(n))
		var all sync.WaitGroup
		start := time.Now()
		for range goroutines {
			all.Add(1)
			go func() {
				defer all.Done()
				for left.Add(-1) >= 0 {
					if err := c.ProcessContext(context.Background(), redis.NewStringCmd("get", "key")); err != nil {
						b.Error(err)
					}
				}
			}()
		}
		all.Wait()
		return float64(time.Since(start)) / float64(n)
	}
	for _, goroutines := range []int{1, 16, 128} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			var withSkip, withCheck []float64
			for range max(b.N/5000, 1) {
				floor := run(bare, goroutines, 5000)
				withSkip = append(withSkip, run(ours, goroutines, 5000)/floor)
				withCheck = append(withCheck, run(always, goroutines, 5000)/floor)
			}
			sort.Float64s(withSkip)
			sort.Float64s(withCheck)
			b.ReportMetric(withSkip[len(withSkip)/2], "skipped/bare")
			b.ReportMetric(withCheck[len(withCheck)/2], "checked/bare")
		})
	}
}

// alwaysChecked looks into the socket before every command.
type alwaysChecked struct{ *conn }

func (c alwaysChecked) Write(b []byte) (int, error) {
	c.used = 0
	return c.conn.Write(b)
}
