// Sites whose requests go on with an empty session: beego applications, and browsers that keep its cookies.

package redis_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web"
	webcontext "github.com/beego/beego/v2/server/web/context"
	"github.com/beego/beego/v2/server/web/session"
)

// members says whose session it is, and counts its visits.
func members(ctx *webcontext.Context) {
	if ctx.Request.URL.Path == "/login" {
		store, err := web.GlobalSessions.SessionRegenerateID(ctx.ResponseWriter, ctx.Request)
		if err != nil {
			ctx.ResponseWriter.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		ctx.Input.CruSession = store
		ctx.Output.Session("user", ctx.Input.Query("user"))
	}
	user, ok := ctx.Input.Session("user").(string)
	if !ok {
		user = "nobody"
	}
	visits, _ := ctx.Input.Session("visits").(int)
	ctx.Output.Session("visits", visits+1)
	_, _ = fmt.Fprintf(ctx.ResponseWriter, "%s %d", user, visits+1)
}

// memberSite is a beego application, before which requests can be held back.
type memberSite struct {
	*testing.T
	option        string // of its sessions
	server        *redistest.Server
	url           string
	arrived, goOn chan struct{}
}

// newMemberSite starts the application in this process, or skips the test if it is not in one of its own.
func newMemberSite(t *testing.T) *memberSite {
	t.Helper()
	s := &memberSite{T: t, option: os.Getenv("SITE_OPTION"), arrived: make(chan struct{}), goOn: make(chan struct{})}
	startBeego(t, func() string {
		s.server = redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
		return appConf(t, fmt.Sprintf(`SessionProviderConfig = {"save_path":%q,%s}`, s.server.Addr(), s.option))
	}, func() { web.Any("/*", members) })
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Held") != "" {
			s.arrived <- struct{}{}
			<-s.goOn
		}
		web.BeeApp.Handlers.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s
}

func (s *memberSite) browser() *browser { return newBrowser(s, s.url) }

// around sends a request and lets another be sent and answered before it is served.
func (s *memberSite) around(b *browser, path string, other func()) (late shown) {
	pages := make(chan shown)
	go func() { pages <- b.send(path, "yes") }()
	<-s.arrived
	other()
	s.goOn <- struct{}{}
	return <-pages
}

const visitors = 20

func TestRequestsFromBeforeALogIn(t *testing.T) {
	for _, grace := range []string{"0s", "1m"} {
		t.Run(grace, func(t *testing.T) {
			redistest.Require(t)
			inOwnProcess(t, "TestSiteWithLateRequests", fmt.Sprintf(`SITE_OPTION="regenerate_grace":%q`, grace))
		})
	}
}

func TestSiteWithLateRequests(t *testing.T) {
	s := newMemberSite(t)
	grace := !strings.Contains(s.option, "0s")
	var out, outAgain int
	for i := range visitors {
		b, user := s.browser(), fmt.Sprint("user-", i)
		if got := b.get("/"); got != (shown{200, "nobody 1", true}) {
			t.Fatalf("the first visit: %+v", got)
		}
		old := b.again()
		late := s.around(b, "/", func() {
			if got := b.get("/login?user=" + user); got != (shown{200, user + " 2", true}) {
				t.Errorf("the log-in: %+v", got)
			}
		})
		if late != (shown{200, "nobody 1", !grace}) {
			t.Errorf("the late request: %+v", late)
		}
		if got := b.get("/"); got.text != user+" 3" {
			out++
		}

		// A log-in form that is sent twice has them logged in, in a session that has nothing of the first.
		b = s.browser()
		b.get("/")
		second := s.around(b, "/login?user="+user, func() { b.get("/login?user=" + user) })
		if second.text != user+" 1" {
			t.Errorf("the second log-in: %+v", second)
		}
		if got := b.get("/"); got.text != user+" 2" {
			outAgain++
		}

		// Long after the grace the old id is any that is not there.
		s.server.Client().Del(must(s.server.Client().Keys("grace:*").Result())...)
		if got := old.get("/"); got != (shown{200, "nobody 1", true}) {
			t.Errorf("after the grace: %+v", got)
		}
		if got := old.get("/"); got != (shown{200, "nobody 2", false}) {
			t.Errorf("after the grace: %+v", got)
		}
	}
	t.Logf("%s: of %d users %d were logged out by a late request, and %d by a second log-in", s.option, visitors, out, outAgain)
	if grace && out > 0 || !grace && out != visitors || outAgain > 0 {
		t.Error("some were logged out, or the race was not met")
	}
}

func TestSitesDuringAnOutage(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"anonymous", "error"}[:redistest.Times(1, 2)] {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			redistest.Require(t)
			inOwnProcess(t, "TestSiteDuringAnOutage", fmt.Sprintf(`SITE_OPTION="on_outage":%q,"read_timeout":"1s"`, mode))
		})
	}
}

func TestSiteDuringAnOutage(t *testing.T) {
	s := newMemberSite(t)
	captureLog(t)
	provider := must(session.GetProvider("redis")).(*redis.Provider)
	anonymous := strings.Contains(s.option, "anonymous")
	members := make([]*browser, visitors)
	for i := range members {
		members[i] = s.browser()
		members[i].get(fmt.Sprint("/login?user=user-", i))
	}
	visits := 1
	for _, outage := range []struct {
		name       string
		begin, end func()
	}{
		{"the server is killed", s.server.Kill, s.server.Restart},
		{"the server hangs", s.server.Pause, s.server.Resume},
		{"the server stops and comes back", s.server.Stop, s.server.Restart},
	} {
		outage.begin()
		visitor := s.browser()
		first := visitor.get("/")
		known, pages := time.Now(), 0
		for range 10 {
			for _, b := range members {
				got, want := b.get("/"), shown{200, "nobody 1", false}
				if !anonymous {
					want = shown{503, got.text, false}
				}
				if got != want {
					t.Errorf("%s: %+v, want %+v", outage.name, got, want)
				}
				pages++
			}
		}
		took := time.Since(known)
		if got := members[0].get("/login?user=other"); got.status != 503 || got.cookie {
			t.Errorf("%s: a log-in: %+v", outage.name, got)
		}
		if again := visitor.get("/"); anonymous && (first != shown{200, "nobody 1", true} || again != shown{200, "nobody 1", false}) {
			t.Errorf("%s: a visitor without a cookie: %+v, and then %+v", outage.name, first, again)
		}
		outage.end()
		await(t, "the server to serve", func() bool { return provider.Check() == nil })

		visits++
		for i, b := range members {
			if got, want := b.get("/"), (shown{200, fmt.Sprintf("user-%d %d", i, visits), false}); got != want {
				t.Errorf("after %s: %+v, want %+v", outage.name, got, want)
			}
		}
		if got, again := visitor.get("/"), visitor.get("/"); got != (shown{200, "nobody 1", true}) || again != (shown{200, "nobody 2", false}) {
			t.Errorf("after %s a visitor: %+v, and then %+v", outage.name, got, again)
		}
		t.Logf("%s, %s: %d pages in %v", s.option, outage.name, pages, took.Round(time.Millisecond))
		if took > time.Minute {
			t.Error("each page has waited for Redis")
		}
	}
	if n := provider.Stats().Errors; n[redis.KindUnreachable] == 0 || n[redis.KindTimeout] == 0 {
		t.Errorf("errors: %v", n)
	}
}
