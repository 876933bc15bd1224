// The clients of another make that adapters/ has, as overlay.json adds them to the tests of the root package.

package redis_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/adapters/goredis"
	"github.com/beego-session/redis/adapters/rueidis"
	"github.com/beego-session/redis/internal/redistest"
	goredisv9 "github.com/redis/go-redis/v9"
	rueidisclient "github.com/redis/rueidis"
)

func init() {
	ownClients = []ownClient{
		onGoRedis("go-redis v9", "standalone", func(addrs []string) goredisv9.UniversalClient {
			return goredisv9.NewClient(&goredisv9.Options{Addr: addrs[0]})
		}),
		onGoRedis("go-redis v9, RESP 2 and deadlines", "standalone", func(addrs []string) goredisv9.UniversalClient {
			return goredisv9.NewClient(&goredisv9.Options{Addr: addrs[0], Protocol: 2, ContextTimeoutEnabled: true})
		}),
		onGoRedis("go-redis v9, sentinel", "sentinel", func(addrs []string) goredisv9.UniversalClient {
			return goredisv9.NewFailoverClient(&goredisv9.FailoverOptions{MasterName: "mymaster", SentinelAddrs: addrs})
		}),
		onGoRedis("go-redis v9, cluster", "cluster", func(addrs []string) goredisv9.UniversalClient {
			return goredisv9.NewClusterClient(&goredisv9.ClusterOptions{Addrs: addrs})
		}),
		onRueidis("rueidis", "standalone", rueidisclient.ClientOption{ForceSingleClient: true}),
		onRueidis("rueidis, RESP 2", "standalone", rueidisclient.ClientOption{ForceSingleClient: true, AlwaysRESP2: true, DisableCache: true}),
		onRueidis("rueidis, sentinel", "sentinel", rueidisclient.ClientOption{Sentinel: rueidisclient.SentinelOption{MasterSet: "mymaster"}}),
		onRueidis("rueidis, cluster", "cluster", rueidisclient.ClientOption{}),
	}
}

func onGoRedis(name, kind string, open func(addrs []string) goredisv9.UniversalClient) ownClient {
	return ownClient{name, kind, false, func(t testing.TB, addrs []string) (func() *redis.Provider, func()) {
		c := open(addrs)
		return func() *redis.Provider {
			p, err := goredis.NewProvider(c)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}, func() { _ = c.Close() }
	}}
}

func onRueidis(name, kind string, o rueidisclient.ClientOption) ownClient {
	return ownClient{name, kind, false, func(t testing.TB, addrs []string) (func() *redis.Provider, func()) {
		o := o
		o.InitAddress = addrs
		c, err := rueidisclient.NewClient(o)
		if err != nil {
			t.Fatal(err)
		}
		return func() *redis.Provider { return rueidis.NewProvider(c) }, c.Close
	}}
}

// BenchmarkClients logs what a request takes through clients of other makes, and how much more that is than through the provider's
// own, as medians of rounds in which each has its turn: go test -run '^$' -bench Clients -benchtime 1x, with the flags in go.adapters.mod.
func BenchmarkClients(b *testing.B) {
	const rounds, n = 11, 4000
	s := redistest.Start(b)
	names := []string{"its own"}
	providers := []*redis.Provider{open(b, s.Addr(), life)}
	for _, c := range ownClients {
		if c.name == "go-redis v9" || c.name == "rueidis" {
			own, closeClient := c.connect(b, []string{s.Addr()})
			defer closeClient()
			names, providers = append(names, c.name), append(providers, configure(b, own(), "", life))
		}
	}
	ids := visited(b, providers[0])
	for _, change := range []bool{false, true} {
		for _, goroutines := range []int{1, 16, 128} {
			took := make([][]time.Duration, len(providers))
			for range rounds {
				for i, p := range providers {
					runtime.GC()
					begun := time.Now()
					requests(b, p, ids, change, goroutines, n)
					took[i] = append(took[i], time.Since(begun)/n)
				}
			}
			line := fmt.Sprintf("%s, %d at once:", kindOfRequest[change], goroutines)
			var first time.Duration
			for i, all := range took {
				slices.Sort(all)
				median := all[len(all)/2]
				if i == 0 {
					first = median
				}
				line += fmt.Sprintf(" %s %v (%.2f)", names[i], median.Round(100*time.Nanosecond), float64(median)/float64(first))
			}
			b.Log(line)
		}
	}
}
