package goredis_test

import (
	"context"
	"fmt"
	"log"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/beego-session/redis/adapters/goredis"
	"github.com/beego/beego/v2/server/web/session"
	"github.com/redis/go-redis/v9"
)

func TestAClientThatCannotKeepSessionsIsRefused(t *testing.T) {
	for want, c := range map[string]redis.UniversalClient{
		"reads from replicas":    redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, RouteByLatency: true}),
		"is nil":                 nil,
		"spreads keys by itself": redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"one": "127.0.0.1:1"}}),
	} {
		if _, err := goredis.NewProvider(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewProvider: %v, want %q", err, want)
		}
		if c != nil {
			_ = c.Close()
		}
	}
}

// What an application has around a client is taken for what it is around.
func TestAClusterClientWithSomethingAroundItIsOne(t *testing.T) {
	traced := struct{ *redis.ClusterClient }{redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ReadOnly: true})}
	defer traced.Close()
	if _, err := goredis.NewProvider(traced); err == nil || !strings.Contains(err.Error(), "reads from replicas") {
		t.Errorf("NewProvider: %v", err)
	}
}

// skipping is a hook that sends nothing, and says nothing of that to the commands.
type skipping struct{ redis.Hook }

func (skipping) DialHook(next redis.DialHook) redis.DialHook { return next }

func (skipping) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(context.Context, []redis.Cmder) error { return nil }
}

func (skipping) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func TestACommandThatWasNotSentIsNoNull(t *testing.T) {
	c := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
	defer c.Close()
	c.AddHook(skipping{})
	p, err := goredis.NewProvider(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.SessionInit(context.Background(), 60, `{"outage_time":"0s","max_retries":-1}`); err == nil || !strings.Contains(err.Error(), "not sent") {
		t.Errorf("SessionInit: %v", err)
	}
}

func Example() {
	server, err := miniredis.Run() // in the place of a Redis
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client := redis.NewClient(&redis.Options{Addr: server.Addr(), ContextTimeoutEnabled: true})
	defer client.Close()

	provider, err := goredis.NewProvider(client)
	if err != nil {
		log.Fatal(err)
	}
	session.Register("mine", provider) // and SessionProvider = mine in app.conf

	manager, err := session.NewManager("mine", &session.ManagerConfig{CookieName: "sid", EnableSetCookie: true, Gclifetime: 3600})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(manager.GetActiveSession(), "sessions")
	// Output: 0 sessions
}
