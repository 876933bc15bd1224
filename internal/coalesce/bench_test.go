// Benchmarks: what a Group costs, and what it gains in front of a real redis-server.
package coalesce_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-redis/redis/v7"

	"github.com/beego-session/redis/internal/coalesce"
	"github.com/beego-session/redis/internal/redistest"
)

// BenchmarkDo is the cost of a Group itself, in front of a run that only lets others in.
func BenchmarkDo(b *testing.B) {
	cancellable, cancel := context.WithCancel(context.Background())
	defer cancel()
	for _, bench := range []struct {
		name    string
		callers int
		ctx     context.Context
	}{
		{"callers=1", 1, context.Background()},
		{"callers=64", 64, context.Background()},
		{"callers=64/cancellable", 64, cancellable},
	} {
		b.Run(bench.name, func(b *testing.B) {
			g := coalesce.New(func([]int) { runtime.Gosched() }, coalesce.Limits{})
			b.ReportAllocs()
			concurrently(bench.callers, max(b.N/bench.callers, 1), func(int) { _ = g.Do(bench.ctx, 0) })
		})
	}
}

// BenchmarkRatio reports the time of one operation that is sent as it is, and through a Group, and how many times
// faster that is: medians of rounds that alternate. "bare" callers do nothing else; "request" is more like them: each
// has a context that can be cancelled, and computes for 3 µs.
func BenchmarkRatio(b *testing.B) {
	for _, size := range []int{200, 1000, 5000} {
		client := startServer(b, size)
		sha, err := client.ScriptLoad(saveScript).Result()
		if err != nil {
			b.Fatal(err)
		}
		value := strings.Repeat("x", size)
		for _, operation := range []struct {
			name string
			cmds func(key string) []redis.Cmder
		}{
			{"GET", func(key string) []redis.Cmder { return []redis.Cmder{redis.NewStringCmd("get", key)} }},
			{"GET+PTTL", func(key string) []redis.Cmder {
				return []redis.Cmder{redis.NewStringCmd("get", key), redis.NewIntCmd("pttl", key)}
			}},
			{"SETEX", func(key string) []redis.Cmder {
				return []redis.Cmder{redis.NewStatusCmd("setex", key, 3600, value)}
			}},
			{"EVALSHA", func(key string) []redis.Cmder {
				return []redis.Cmder{redis.NewIntCmd("evalsha", sha, 1, key, value, value, 3600)}
			}},
		} {
			for _, kind := range []string{"bare", "request"} {
				for _, callers := range []int{1, 2, 4, 8, 16, 24, 32, 48, 64, 128, 256} {
					b.Run(fmt.Sprintf("%dB/%s/%s/callers=%d", size, operation.name, kind, callers), func(b *testing.B) {
						s := sender{client}
						g := coalesce.New(s.run, coalesce.Limits{})
						ratio(b, callers, s.direct, g.Do, func(do do, caller int) {
							ctx := context.Background()
							if kind == "request" {
								var cancel context.CancelFunc
								ctx, cancel = context.WithCancel(ctx)
								defer cancel()
								compute(3 * time.Microsecond)
							}
							r := &request{ctx, operation.cmds(fmt.Sprint("k", caller))}
							_ = do(ctx, r)
							for _, cmd := range r.cmds {
								if err := cmd.Err(); err != nil {
									b.Error(err)
								}
							}
						})
					})
				}
			}
		}
	}
}

// BenchmarkBesideBusy is the ratio for GET where other goroutines never stop computing.
func BenchmarkBesideBusy(b *testing.B) {
	client := startServer(b, 200)
	for _, busy := range []int{1, 2, 4} {
		for _, callers := range []int{8, 32, 128} {
			b.Run(fmt.Sprintf("busy=%d/callers=%d", busy, callers), func(b *testing.B) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				for range busy {
					go func() {
						for ctx.Err() == nil {
							compute(time.Millisecond)
						}
					}()
				}
				s := sender{client}
				g := coalesce.New(s.run, coalesce.Limits{})
				ratio(b, callers, s.direct, g.Do, func(do do, caller int) {
					_ = do(ctx, &request{ctx, []redis.Cmder{redis.NewStringCmd("get", fmt.Sprint("k", caller))}})
				})
			})
		}
	}
}

// BenchmarkBesideLarge reports how long 64 callers of small GETs wait while one more keeps reading or writing 5 MB:
// all of them direct; the small ones through a Group; the large ones through it too.
func BenchmarkBesideLarge(b *testing.B) {
	client := startServer(b, 200)
	value := strings.Repeat("x", 5<<20)
	if err := client.Set("large", value, 0).Err(); err != nil {
		b.Fatal(err)
	}
	s := sender{client}
	g := coalesce.New(s.run, coalesce.Limits{})
	for _, large := range []struct {
		name string
		cmd  func() redis.Cmder
	}{
		{"none", nil},
		{"GET", func() redis.Cmder { return redis.NewStringCmd("get", "large") }},
		{"SETEX", func() redis.Cmder { return redis.NewStatusCmd("setex", "large", 3600, value) }},
	} {
		for _, way := range []struct {
			name         string
			small, large do
		}{
			{"direct", s.direct, s.direct},
			{"coalesced", g.Do, s.direct},
			{"coalesced-with-it", g.Do, g.Do},
		} {
			b.Run("large="+large.name+"/"+way.name, func(b *testing.B) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				var other sync.WaitGroup
				if large.cmd != nil {
					other.Add(1)
					go func() {
						defer other.Done()
						for ctx.Err() == nil {
							_ = way.large(context.Background(), &request{context.Background(), []redis.Cmder{large.cmd()}})
						}
					}()
				}
				const callers = 64
				waits := make([][]float64, callers)
				concurrently(callers, max(b.N/callers, 1), func(caller int) {
					start := time.Now()
					_ = way.small(ctx, &request{ctx, []redis.Cmder{redis.NewStringCmd("get", fmt.Sprint("k", caller))}})
					waits[caller] = append(waits[caller], float64(time.Since(start).Microseconds()))
				})
				cancel()
				other.Wait()
				all := slices.Concat(waits...)
				slices.Sort(all)
				b.ReportMetric(all[len(all)/2], "p50-µs")
				b.ReportMetric(all[len(all)*99/100], "p99-µs")
			})
		}
	}
}

const saveScript = `
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SETEX', KEYS[1], ARGV[3], ARGV[2])
return 1`

// A request is the item of these benchmarks.
type request struct {
	ctx  context.Context
	cmds []redis.Cmder
}

type sender struct{ client *redis.Client }

func (s sender) run(batch []*request) {
	if len(batch) == 1 && len(batch[0].cmds) == 1 {
		_ = s.client.ProcessContext(batch[0].ctx, batch[0].cmds[0])
		return
	}
	pipe := s.client.Pipeline()
	for _, r := range batch {
		for _, cmd := range r.cmds {
			_ = pipe.Process(cmd)
		}
	}
	_, _ = pipe.ExecContext(context.Background())
}

type do func(context.Context, *request) error

func (s sender) direct(_ context.Context, r *request) error {
	s.run([]*request{r})
	return nil
}

// startServer returns a client of a server of its own, with keys k0 to k255 of size bytes.
func startServer(b *testing.B, size int) *redis.Client {
	b.Helper()
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(b).Addr(), PoolSize: 100})
	b.Cleanup(func() { client.Close() })
	for i := range 256 {
		if err := client.Set(fmt.Sprint("k", i), strings.Repeat("x", size), 0).Err(); err != nil {
			b.Fatal(err)
		}
	}
	return client
}

// ratio measures operation with two ways to do it, in turn.
func ratio(b *testing.B, callers int, direct, coalesced do, operation func(do do, caller int)) {
	const rounds = 9
	n := max(b.N/rounds/callers, 1)
	measure := func(do do) float64 {
		start := time.Now()
		concurrently(callers, n, func(caller int) { operation(do, caller) })
		return float64(time.Since(start)) / float64(n*callers)
	}
	var d, c, r []float64
	for i := range rounds {
		d = append(d, measure(direct))
		c = append(c, measure(coalesced))
		r = append(r, d[i]/c[i])
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(d), "direct-ns")
	b.ReportMetric(median(c), "coalesced-ns")
	b.ReportMetric(median(r), "times")
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

// concurrently has callers at work that each call f n times.
func concurrently(callers, n int, f func(caller int)) {
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range n {
				f(caller)
			}
		}()
	}
	wg.Wait()
}

func compute(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}
