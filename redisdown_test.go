// What a site does while Redis is down, hangs or refuses, as README.md has it: at start, in requests, at a log-in.

package redis_test

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web"
)

// readme returns what README.md has, of which the expression's group is wanted.
func readme(t *testing.T, expression string) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(expression).FindSubmatch(text)
	if found == nil {
		t.Fatalf("README.md has no %s", expression)
	}
	return string(found[1])
}

func TestASiteThatStartsWithoutRedisPanics(t *testing.T) {
	s := redistest.Start(t)
	s.Kill()
	out, err := ownProcess("TestSiteThatRuns", "APP_CONF="+appConf(t, "SessionProviderConfig = "+s.Addr())).CombinedOutput()
	want := strings.ReplaceAll(readme(t, `(panic: session/redis: .*)`), "127.0.0.1:6379", s.Addr())
	if err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%v\n%s\nwant %s", err, out, want)
	}
}

func TestSiteThatRuns(t *testing.T) {
	if os.Getenv("OWN_PROCESS") != t.Name() {
		t.Skip("is run by other tests, in a process of its own")
	}
	if err := web.LoadAppConfig("ini", given()); err != nil {
		t.Fatal(err)
	}
	web.Run("127.0.0.1:0")
}

// TestAHungRedisIsNoticedInTime has Redis hang beside a site with the timeouts that README.md recommends: their sum is 3 s.
func TestAHungRedisIsNoticedInTime(t *testing.T) {
	s := redistest.Start(t)
	line := readme(t, `(SessionProviderConfig = .*dial_timeout.*)`)
	url := startApplication(t, "TestSiteOfControllers", appConf(t, strings.ReplaceAll(line, "127.0.0.1:6379", s.Addr())))
	b := newBrowser(t, url)
	b.sees("at first", "/healthz", "ok")
	s.Pause()
	defer s.Resume()
	await(t, "answers at once", func() bool {
		began := time.Now()
		got, took := b.get("/healthz"), time.Since(began)
		if got.status != http.StatusServiceUnavailable || took > 4*time.Second {
			t.Errorf("status %d after %v, want 503 after 3 s", got.status, took)
		}
		return took < 500*time.Millisecond
	})
	s.Resume()
	await(t, "its return", func() bool { return b.get("/healthz").status == http.StatusOK })
}

// TestALogInHeedsItsError has Redis take no writes: what beego gives a controller then is no session, which panics at its first use.
func TestALogInHeedsItsError(t *testing.T) {
	s := redistest.Start(t)
	url := startApplication(t, "TestSiteOfControllers", appConf(t, fmt.Sprintf(`SessionProviderConfig = {"save_path": %q, "outage_time": 0}`, s.Addr())))
	b := newBrowser(t, url)
	b.sees("at first", "/healthz", "ok")
	if err := s.Client().Do("REPLICAOF", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	if got := b.get("/heedless"); got.status != http.StatusInternalServerError {
		t.Errorf("without a look at the error the page is %+v", got)
	}
	if got := b.get("/login"); got.status != http.StatusServiceUnavailable || got.text != "Please try again." {
		t.Errorf("with a look at the error the page is %+v", got)
	}
	if err := s.Client().Do("REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
	b.sees("when it takes writes again", "/login", "Welcome.")
}

type signIn struct{ web.Controller }

func (c *signIn) Healthz() { c.Ctx.WriteString("ok") }

func (c *signIn) LogIn() {
	if err := c.SessionRegenerateID(); err != nil {
		c.CustomAbort(http.StatusServiceUnavailable, "Please try again.")
	}
	_ = c.SetSession("uid", 42)
	c.Ctx.WriteString("Welcome.")
}

func (c *signIn) LogInHeedless() {
	_ = c.SessionRegenerateID()
	_ = c.SetSession("uid", 42)
	c.Ctx.WriteString("Welcome.")
}

func TestSiteOfControllers(t *testing.T) {
	startBeego(t, given, func() {
		web.Router("/healthz", &signIn{}, "get:Healthz")
		web.Router("/login", &signIn{}, "get:LogIn")
		web.Router("/heedless", &signIn{}, "get:LogInHeedless")
	})
	serve()
}
