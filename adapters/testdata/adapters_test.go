// The clients of another make that adapters/ has, as overlay.json adds them to the tests of the root package.

package redis_test

import (
	"testing"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/adapters/goredis"
	"github.com/beego-session/redis/adapters/rueidis"
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
	return ownClient{name, kind, func(t *testing.T, addrs []string) (func() *redis.Provider, func()) {
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
	return ownClient{name, kind, func(t *testing.T, addrs []string) (func() *redis.Provider, func()) {
		o := o
		o.InitAddress = addrs
		c, err := rueidisclient.NewClient(o)
		if err != nil {
			t.Fatal(err)
		}
		return func() *redis.Provider { return rueidis.NewProvider(c) }, c.Close
	}}
}
