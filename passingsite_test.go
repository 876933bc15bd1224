// Sites whose requests go on with an empty session: beego applications, and browsers that keep its cookies.

package redis_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
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
	server        *redistest.Server
	url           string
	arrived, goOn chan struct{}
}

// inOwnProcess runs a test again in a process of its own, because beego has one configuration in each.
func inOwnProcess(t *testing.T, test, option string) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.v")
	child.Env = append(os.Environ(), "SITE_OPTION="+option)
	out, err := child.CombinedOutput()
	for _, line := range strings.Split(string(out), "\n") {
		if err != nil || strings.Contains(line, "_test.go:") {
			t.Log(line)
		}
	}
	if err != nil {
		t.Error(err)
	}
}

// newMemberSite starts the application in this process, or skips the test if it is not in one of its own.
func newMemberSite(t *testing.T) (s *memberSite, option string) {
	t.Helper()
	option = os.Getenv("SITE_OPTION")
	if option == "" {
		t.Skip("is run by another test, in a process of its own")
	}
	s = &memberSite{T: t, server: redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always"), arrived: make(chan struct{}), goOn: make(chan struct{})}
	file := filepath.Join(t.TempDir(), "app.conf")
	conf := fmt.Sprintf("appname = test\nrunmode = prod\nsessionon = true\nsessionprovider = redis\nSessionProviderConfig = {\"save_path\":%q,%s}\n", s.server.Addr(), option)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := web.LoadAppConfig("ini", file); err != nil {
		t.Fatal(err)
	}
	web.Any("/*", members)
	web.InitBeegoBeforeTest(file)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Held") != "" {
			s.arrived <- struct{}{}
			<-s.goOn
		}
		web.BeeApp.Handlers.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = server.URL
	return s, option
}

// member is a visitor who keeps cookies.
type member struct {
	*memberSite
	client *http.Client
}

func (s *memberSite) browser() *member {
	jar, err := cookiejar.New(nil)
	if err != nil {
		s.Fatal(err)
	}
	return &member{s, &http.Client{Jar: jar}}
}

// shown is what a browser gets to see.
type shown struct {
	status int
	text   string
	cookie bool // it sets one
}

func (b *member) get(path string) shown { return b.send(path, "") }

func (b *member) send(path, held string) shown {
	request, err := http.NewRequest("GET", b.url+path, nil)
	if err != nil {
		b.Error(err)
		return shown{}
	}
	request.Header.Set("Held", held)
	response, err := b.client.Do(request)
	if err != nil {
		b.Error(err)
		return shown{}
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.Error(err)
	}
	return shown{response.StatusCode, string(body), len(response.Header.Values("Set-Cookie")) > 0}
}

// around sends a request and lets another be sent and answered before it is served.
func (b *member) around(path string, other func()) (late shown) {
	pages := make(chan shown)
	go func() { pages <- b.send(path, "yes") }()
	<-b.arrived
	other()
	b.goOn <- struct{}{}
	return <-pages
}

const visitors = 20

func TestRequestsFromBeforeALogIn(t *testing.T) {
	for _, grace := range []string{"0s", "1m"} {
		t.Run(grace, func(t *testing.T) {
			inOwnProcess(t, "TestSiteWithLateRequests", fmt.Sprintf(`"regenerate_grace":%q`, grace))
		})
	}
}

func TestSiteWithLateRequests(t *testing.T) {
	s, option := newMemberSite(t)
	grace := !strings.Contains(option, "0s")
	var out, outAgain int
	for i := range visitors {
		b, user := s.browser(), fmt.Sprint("user-", i)
		if got := b.get("/"); got != (shown{200, "nobody 1", true}) {
			t.Fatalf("the first visit: %+v", got)
		}
		before := b.client.Jar.(*cookiejar.Jar)
		old := *b
		old.client = &http.Client{Jar: copyOf(s, before)}

		late := b.around("/", func() {
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
		second := b.around("/login?user="+user, func() { b.get("/login?user=" + user) })
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
	t.Logf("%s: of %d users %d were logged out by a late request, and %d by a second log-in", option, visitors, out, outAgain)
	if grace && out > 0 || !grace && out != visitors || outAgain > 0 {
		t.Error("some were logged out, or the race was not met")
	}
}

// copyOf is a jar with the cookies of another.
func copyOf(s *memberSite, jar *cookiejar.Jar) *cookiejar.Jar {
	again := must(cookiejar.New(nil))
	at := must(http.NewRequest("GET", s.url, nil)).URL
	again.SetCookies(at, jar.Cookies(at))
	return again
}

func TestSitesDuringAnOutage(t *testing.T) {
	for _, mode := range []string{"anonymous", "error"}[:redistest.Times(1, 2)] {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			inOwnProcess(t, "TestSiteDuringAnOutage", fmt.Sprintf(`"on_outage":%q,"read_timeout":"1s"`, mode))
		})
	}
}

func TestSiteDuringAnOutage(t *testing.T) {
	s, option := newMemberSite(t)
	captureLog(t)
	provider := must(session.GetProvider("redis")).(*redis.Provider)
	anonymous := strings.Contains(option, "anonymous")
	members := make([]*member, visitors)
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
		t.Logf("%s, %s: %d pages in %v", option, outage.name, pages, took.Round(time.Millisecond))
		if took > time.Minute {
			t.Error("each page has waited for Redis")
		}
	}
	if n := provider.Stats().Errors; n[redis.KindUnreachable] == 0 || n[redis.KindTimeout] == 0 {
		t.Errorf("errors: %v", n)
	}
}
