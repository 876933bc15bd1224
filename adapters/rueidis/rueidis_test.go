package rueidis_test

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	sessions "github.com/beego-session/redis"
	"github.com/beego-session/redis/adapters/rueidis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	client "github.com/redis/rueidis"
)

func TestMain(m *testing.M) { redistest.Main(m) }

// The client cuts off the code ERR, by which the provider knows that a server has no scripts. It saves without them then.
func TestAServersErrorsAreKnown(t *testing.T) {
	ctx := context.Background()
	s := redistest.Start(t, "--rename-command", "EVALSHA no-evalsha", "--rename-command", "EVAL no-eval")
	c, err := client.NewClient(client.ClientOption{InitAddress: []string{s.Addr()}, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := rueidis.NewProvider(c)
	if err := p.SessionInit(ctx, 60, ""); err != nil {
		t.Fatal(err)
	}
	p.OnError(func(_ context.Context, f sessions.Failure) { t.Error(f.Err) })
	const id = "0123456789abcdef"
	for n := range 2 {
		store, err := p.SessionRead(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.Set(ctx, "n", n); err != nil {
			t.Error(err)
		}
		store.SessionRelease(ctx, nil)
	}
	if store, err := p.SessionRead(ctx, id); err != nil || store.Get(ctx, "n") != 1 {
		t.Errorf("the session is not saved: %v", err)
	}
	s.Client().LPush("list", "no session")
	if _, err := p.SessionRead(ctx, "list"); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("SessionRead of a list: %v", err)
	}
}

// What remains of "ERR EVALSHA is disabled" begins like a code.
func TestARefusalThatNamesTheCommandIsKnown(t *testing.T) {
	ctx := context.Background()
	s := redistest.Start(t)
	network := redistest.Proxy(t, s.Addr())
	network.Meddle(func(request []byte) *redistest.Fault {
		if !bytes.Contains(bytes.ToUpper(request), []byte("EVALSHA")) {
			return nil
		}
		return &redistest.Fault{Answer: "ERR EVALSHA is disabled"}
	})
	c, err := client.NewClient(client.ClientOption{InitAddress: []string{network.Addr()}, ForceSingleClient: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p := rueidis.NewProvider(c)
	if err := p.SessionInit(ctx, 60, `{"sharded":false}`); err != nil {
		t.Fatal(err)
	}
	p.OnError(func(_ context.Context, f sessions.Failure) { t.Error(f.Err) })
	store, err := p.SessionRead(ctx, "0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	store.SessionRelease(ctx, nil)
	if found, err := p.SessionExist(ctx, "0123456789abcdef"); !found || err != nil {
		t.Errorf("the session is not saved: %v", err)
	}
}

func Example() {
	server, err := miniredis.Run() // in the place of a Redis
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	client, err := client.NewClient(client.ClientOption{InitAddress: []string{server.Addr()}, DisableCache: true})
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()

	session.Register("mine", rueidis.NewProvider(client)) // and SessionProvider = mine in app.conf

	manager, err := session.NewManager("mine", &session.ManagerConfig{CookieName: "sid", EnableSetCookie: true, Gclifetime: 3600})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(manager.GetActiveSession(), "sessions")
	// Output: 0 sessions
}
