// A beego application and its users: one who works, one whose page polls, one who is remembered.

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

	"github.com/alicebob/miniredis/v2"
	redis "github.com/beego-session/redis"
	"github.com/beego/beego/v2/server/web"
	webcontext "github.com/beego/beego/v2/server/web/context"
)

func TestLifeTimesOfASite(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^TestLifeTimesSite$", "-test.v")
	child.Env = append(os.Environ(), "LIFE_TIMES_SITE=1")
	out, err := child.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Fatalf("%v\n%s", err, out)
	}
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

// browser has the cookies of one user.
type browser struct {
	*testing.T
	http.Client
	url string
}

func newBrowser(t *testing.T, url string) *browser {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &browser{t, http.Client{Jar: jar}, url}
}

// sees checks how many visits a page shows.
func (b *browser) sees(what, path string, visits int) {
	b.Helper()
	response, err := b.Get(b.url + path)
	if err != nil {
		b.Fatal(err)
	}
	body, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if got := string(body); got != fmt.Sprint(visits) || err != nil {
		b.Errorf("%s: %s shows %q, want %d", what, path, got, visits)
	}
}

func (b *browser) session() string {
	request, _ := http.NewRequest(http.MethodGet, b.url, nil)
	cookies := b.Jar.Cookies(request.URL)
	if len(cookies) != 1 {
		b.Fatalf("cookies %v", cookies)
	}
	return cookies[0].Value
}

func TestLifeTimesSite(t *testing.T) {
	if os.Getenv("LIFE_TIMES_SITE") == "" {
		t.Skip("is run by TestLifeTimesOfASite, in a process of its own")
	}
	m := miniredis.RunT(t)
	file := filepath.Join(t.TempDir(), "app.conf")
	conf := fmt.Sprintf("appname = test\nrunmode = prod\nsessionon = true\nsessionprovider = redis\nsessiongcmaxlifetime = %d\n"+
		"sessioncookielifetime = %d\nsessionproviderconfig = {\"save_path\":%q}\n", life, int(month.Seconds()), m.Addr())
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := web.LoadAppConfig("ini", file); err != nil {
		t.Fatal(err)
	}
	web.Get("/*", countingShop)
	web.InitBeegoBeforeTest(file)
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
