// This file owns what the check of connections costs, and the count of replies.

package client

import (
	"context"
	"fmt"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-redis/redis/v7"

	"github.com/beego-session/redis/internal/redistest"
)

// BenchmarkCheck is what comes before every command.
func BenchmarkCheck(b *testing.B) {
	certs := redistest.NewCerts(b)
	cfg, err := TLS{CAFile: certs.CAFile}.Config()
	if err != nil {
		b.Fatal(err)
	}
	for name, o := range map[string]Options{
		"plain": {Addrs: []string{redistest.Start(b).Addr()}},
		"TLS":   {Addrs: []string{redistest.StartTLS(b, certs).Addr()}, TLS: cfg},
	} {
		b.Run(name, func(b *testing.B) {
			nc, err := newDialer(o).dial(context.Background(), "tcp", o.Addrs[0])
			if err != nil {
				b.Fatal(err)
			}
			defer nc.Close()
			c := nc.(*conn)
			b.ReportAllocs()
			for range b.N {
				if !c.usable() {
					b.Fatal("not usable")
				}
			}
		})
	}
}

// BenchmarkCount is what it takes to count the commands and the replies of a pipeline.
func BenchmarkCount(b *testing.B) {
	request := []byte(strings.Repeat("*2\r\n$3\r\nget\r\n$32\r\n0123456789abcdef0123456789abcdef\r\n", 64))
	reply := []byte(strings.Repeat("$200\r\n"+strings.Repeat("x", 200)+"\r\n", 64))
	var sent, read values
	b.ReportAllocs()
	for range b.N {
		sent.reset()
		read.reset()
		sent.pass(request)
		read.pass(reply)
		if sent.whole != 64 || read.whole != 64 {
			b.Fatal(sent, read)
		}
	}
	b.ReportMetric(float64(b.Elapsed())/float64(64*b.N), "ns/command")
}

// BenchmarkGet compares GET by a client of New with one of go-redis alone, in turn. It reports the median ratio.
func BenchmarkGet(b *testing.B) {
	server := redistest.Start(b)
	server.Client().Set("key", make([]byte, 200), 0)
	ours := New(Options{Addrs: []string{server.Addr()}, PoolSize: 100})
	defer ours.Close()
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
			var ratios []float64
			for range max(b.N/5000, 1) {
				floor := run(bare, goroutines, 5000)
				ratios = append(ratios, run(ours, goroutines, 5000)/floor)
			}
			sort.Float64s(ratios)
			b.ReportMetric(ratios[len(ratios)/2], "ours/bare")
		})
	}
}
