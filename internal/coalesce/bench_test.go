// Benchmarks against a real redis-server: a Group over pipelines beside the same commands sent one by one.
package coalesce_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-redis/redis/v7"

	"github.com/beego-session/redis/internal/coalesce"
	"github.com/beego-session/redis/internal/redistest"
)

const saveScript = `
local now = redis.call('GET', KEYS[1])
if now ~= ARGV[1] then return 0 end
redis.call('SETEX', KEYS[1], ARGV[3], ARGV[2])
return 1`

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

func (s sender) direct(_ context.Context, r *request) error {
	s.run([]*request{r})
	return nil
}

// startServer returns a client of a server of its own, with 512 keys k0, k1, … of size bytes.
func startServer(b *testing.B, size int) *redis.Client {
	b.Helper()
	client := redis.NewClient(&redis.Options{Addr: redistest.Start(b).Addr(), PoolSize: 100, MaxRetries: -1})
	b.Cleanup(func() { client.Close() })
	for i := range 512 {
		if err := client.Set(fmt.Sprint("k", i), strings.Repeat("x", size), 0).Err(); err != nil {
			b.Fatal(err)
		}
	}
	return client
}

type do func(context.Context, *request) error

// BenchmarkRatio reports the time of one operation sent directly and through a Group, and how many times faster
// the latter is: medians of interleaved rounds. With "think", callers compute for 3 µs after every operation.
func BenchmarkRatio(b *testing.B) {
	for _, size := range []int{200, 1000, 5000} {
		b.Run(fmt.Sprint(size, "B"), func(b *testing.B) {
			client := startServer(b, size)
			sha, err := client.ScriptLoad(saveScript).Result()
			if err != nil {
				b.Fatal(err)
			}
			value := strings.Repeat("x", size)
			operations := []struct {
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
			}
			for _, op := range operations {
				for _, think := range []time.Duration{0, 3 * time.Microsecond} {
					for _, cancellable := range []bool{false, true} {
						for _, callers := range []int{1, 2, 4, 8, 16, 24, 32, 48, 64, 128, 256} {
							name := fmt.Sprintf("%s/think=%v/cancellable=%v/callers=%d", op.name, think, cancellable, callers)
							b.Run(name, func(b *testing.B) {
								ctx := context.Background()
								if cancellable {
									var cancel context.CancelFunc
									ctx, cancel = context.WithCancel(ctx)
									defer cancel()
								}
								s := sender{client}
								group := coalesce.New(s.run, coalesce.Limits{})
								ratio(b, callers, s.direct, group.Do, func(do do, caller int) {
									r := &request{ctx, op.cmds(fmt.Sprint("k", caller))}
									_ = do(ctx, r)
									for _, cmd := range r.cmds {
										if err := cmd.Err(); err != nil {
											b.Error(err)
										}
									}
									for start := time.Now(); time.Since(start) < think; {
									}
								})
							})
						}
					}
				}
			}
		})
	}
}

func ratio(b *testing.B, callers int, direct, coalesced do, operation func(do do, caller int)) {
	const rounds = 9
	n := max(b.N/rounds/callers, 1)
	measure := func(do do) float64 {
		var wg sync.WaitGroup
		start := time.Now()
		for caller := range callers {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range n {
					operation(do, caller)
				}
			}()
		}
		wg.Wait()
		return float64(time.Since(start)) / float64(n*callers)
	}
	var d, c, r []float64
	for range rounds {
		d = append(d, measure(direct))
		c = append(c, measure(coalesced))
		r = append(r, d[len(d)-1]/c[len(c)-1])
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

// BenchmarkBesideLarge reports how long 64 callers of small GETs wait while one caller keeps reading, or writing, 5 MB:
// all of them direct, the small ones through a Group, and the large ones through it as well.
func BenchmarkBesideLarge(b *testing.B) {
	client := startServer(b, 200)
	value := strings.Repeat("x", 5<<20)
	if err := client.Set("large", value, 0).Err(); err != nil {
		b.Fatal(err)
	}
	s := sender{client}
	group := coalesce.New(s.run, coalesce.Limits{})
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
			{"coalesced", group.Do, s.direct},
			{"all-coalesced", group.Do, group.Do},
		} {
			b.Run("large="+large.name+"/"+way.name, func(b *testing.B) {
				ctx, cancel := context.WithCancel(context.Background())
				defer cancel()
				larges := make(chan int)
				go func() {
					n := 0
					for ; large.cmd != nil && ctx.Err() == nil; n++ {
						_ = way.large(context.Background(), &request{context.Background(), []redis.Cmder{large.cmd()}})
					}
					larges <- n
				}()
				const callers = 64
				waits := make([][]float64, callers)
				var wg sync.WaitGroup
				for caller := range callers {
					wg.Add(1)
					go func() {
						defer wg.Done()
						for range max(b.N/callers, 1) {
							start := time.Now()
							_ = way.small(ctx, &request{ctx, []redis.Cmder{redis.NewStringCmd("get", fmt.Sprint("k", caller))}})
							waits[caller] = append(waits[caller], float64(time.Since(start).Microseconds()))
						}
					}()
				}
				wg.Wait()
				cancel()
				n := <-larges
				all := slices.Concat(waits...)
				slices.Sort(all)
				b.ReportMetric(all[len(all)/2], "p50-µs")
				b.ReportMetric(all[len(all)*99/100], "p99-µs")
				b.ReportMetric(all[len(all)-1], "max-µs")
				b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "larges/s")
			})
		}
	}
}
