package redis_test

import (
	"context"
	"fmt"
	"log"
	"net"

	"github.com/alicebob/miniredis/v2"
	beegosession "github.com/beego-session/redis"
	"github.com/beego/beego/v2/server/web/session"
	"github.com/go-redis/redis/v7"
)

// An application has a go-redis v7 client of its own, here with a dialer, and registers a provider on it. Both packages are called redis, so
// that one needs another name. In app.conf it is then SessionProvider = mine.
func ExampleNewProvider() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	client := redis.NewClient(&redis.Options{
		Addr: "sessions.example.org:6379",
		Dialer: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server.Addr())
		},
	})
	defer client.Close()
	session.Register("mine", beegosession.NewProvider(client))

	manager, err := session.NewManager("mine", &session.ManagerConfig{
		CookieName: "sid", EnableSetCookie: true, Gclifetime: 3600, ProviderConfig: `{"key_prefix": "shop:"}`,
	})
	if err != nil {
		log.Fatal(err)
	}
	store, err := manager.GetProvider().SessionRead(context.Background(), "a-session-id")
	if err != nil {
		log.Fatal(err)
	}
	store.SessionRelease(context.Background(), nil)
	fmt.Println(client.Exists("shop:a-session-id").Val())
	// Output: 1
}
