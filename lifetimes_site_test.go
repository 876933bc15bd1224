// A beego application and its users: one who works, one whose page polls, one who is remembered.

package redis_test

import (
	"fmt"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/beego-session/redis"
	"github.com/beego/beego/v2/server/web"
	webcontext "github.com/beego/beego/v2/server/web/context"
)

func TestLifeTimesOfASite(t *testing.T) {
	inOwnProcess(t, "TestLifeTimesSite")
}

// countingShop counts the visits of a session. A log-in draws a new id and begins the age anew, and may be remembered.
func countingShop(c *webcontext.Context) {
	switch c.Request.URL.Path {
	case "/login", "/remember":
		store, err := web.GlobalSessions.SessionRegenerateID(c.ResponseWriter, c.Request)
		if err != nil {
			panic(err)
		}
		c.Input.CruSession = store
		own := store.(*redis.SessionStore)
		own.ResetAge(c.Request.Context())
		if c.Request.URL.Path == "/remember" {
			if err := own.SetLifeTime(c.Request.Context(), month); err != nil {
				panic(err)
			}
		}
	case "/poll":
		c.Input.CruSession.(*redis.SessionStore).NoActivity(c.Request.Context())
		polls, _ := c.Input.Session("polls").(int)
		c.Output.Session("polls", polls+1)
	}
	visits, _ := c.Input.Session("visits").(int)
	if c.Request.URL.Path != "/poll" {
		visits++
		c.Output.Session("visits", visits)
	}
	_ = c.Output.Body([]byte(fmt.Sprint(visits)))
}

func TestLifeTimesSite(t *testing.T) {
	var m *miniredis.Miniredis
	startBeego(t, func() string {
		m = miniredis.RunT(t)
		return appConf(t, fmt.Sprintf("sessiongcmaxlifetime = %d", life), fmt.Sprintf("sessioncookielifetime = %d", int(month.Seconds())),
			"SessionProviderConfig = "+m.Addr())
	}, func() { web.Get("/*", countingShop) })
	server := httptest.NewServer(web.BeeApp.Handlers)
	defer server.Close()

	busy, idle := newBrowser(t, server.URL), newBrowser(t, server.URL)
	busy.sees("new", "/", 1)
	idle.sees("new", "/", 1)
	for i := range 8 { // 2400 s
		m.FastForward(300 * time.Second)
		busy.sees("busy", "/", 2+i)
		visits := 1
		if i >= 3 {
			visits = 0
		}
		idle.sees("polling", "/poll", visits)
	}

	remembered, forgotten := newBrowser(t, server.URL), newBrowser(t, server.URL)
	remembered.sees("new", "/", 1)
	remembered.sees("remembered", "/remember", 2)
	forgotten.sees("new", "/login", 1)
	for i := range 3 {
		m.FastForward(25 * 24 * time.Hour)
		remembered.sees("after weeks", "/", 3+i)
		forgotten.sees("after weeks", "/", 1)
	}

	provider := web.GlobalSessions.GetProvider().(*redis.Provider)
	if err := provider.SessionInit(ctx, life, fmt.Sprintf(`{"save_path":%q,"max_age":"1h"}`, m.Addr())); err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: provider}
	for _, path := range []string{"/", "/login"} {
		user := newBrowser(t, server.URL)
		user.sees("new", "/", 1)
		user.sees("logged in", "/login", 2)
		s.grow(user.session(), 59*time.Minute)
		user.sees("busy", "/", 3)
		s.lives("busy", user.session(), time.Minute)
		user.sees("logged in again", "/login", 4)
		s.lives("logged in again", user.session(), life*time.Second)
		last := user.session()
		s.grow(last, time.Hour)
		user.sees("at the age of an hour", path, 1)
		if user.session() == last {
			t.Error("the id of a session that has reached max_age is used again")
		}
	}
}
