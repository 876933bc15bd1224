// Tests of what the page lets one try, here and on beego's own provider.

package main

import (
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/go-redis/redis/v7"
)

// sides are the two providers: where their trials are, and the cookie of their sessions.
var sides = []struct{ name, base, cookie string }{{"this provider", "trials", "visits"}, {"beego's own", "beego/trials", "visits-beego"}}

func TestOfTwoRequestsAtOnceBothArriveHereAndOneOnBeegosProvider(t *testing.T) {
	onEachRedis(t, func(t *testing.T, addr string) {
		app := startComparing(t, addr)
		for _, side := range sides {
			b := newBrowser(t, app.url)
			b.state(side.base) // else each request would have a session of its own
			for n := 1; n <= 5; n++ {
				items := []string{"Bread", "Coffee"}
				answers := make(chan answer)
				for _, item := range items {
					go func() { answers <- b.send(side.base+"/together", url.Values{"item": {item}}) }()
				}
				for range items {
					if a := <-answers; a.err != nil || a.status != http.StatusOK {
						t.Fatalf("%s: status %d (error: %v), want 200", side.name, a.status, a.err)
					}
				}
				basket := b.state(side.base).Basket
				got, want := basket["Bread"]+basket["Coffee"], 2*n
				if side.base != "trials" {
					want = n
				}
				if got != want {
					t.Fatalf("%s: after %d times two requests the basket holds %v, want %d in all", side.name, n, basket, want)
				}
			}
			if side.base == "trials" {
				b.load()
				b.wantItem("Bread", 5)
				b.wantItem("Coffee", 5)
			}
		}
	})
}

func TestALogOutDuringASlowRequestStaysOneHereAndNotOnBeegosProvider(t *testing.T) {
	onEachRedis(t, func(t *testing.T, addr string) {
		client := redis.NewClient(&redis.Options{Addr: addr})
		defer client.Close()
		app := startComparing(t, addr)
		for _, side := range sides {
			back := side.base != "trials"
			b := newBrowser(t, app.url)
			b.state(side.base)
			before := b.cookie(side.cookie)
			b.trial(side.base+"/login", "name", "Ada")
			id := b.cookie(side.cookie)
			if id == before {
				t.Errorf("%s: the session has the same id after the log-in", side.name)
			}

			late := make(chan answer)
			go func() { late <- b.send(side.base+"/late", url.Values{"item": {"Cheese"}}) }()
			b.trial(side.base + "/logout")
			a := <-late
			if a.err != nil || a.status != http.StatusOK {
				t.Fatalf("%s: status %d (error: %v), want 200", side.name, a.status, a.err)
			}
			if a.Found != back || (a.Name == "Ada") != back || (a.Basket["Cheese"] == 1) != back {
				t.Errorf("%s: the slow request has left %+v", side.name, a)
			}

			if b.cookie(side.cookie) != "" {
				t.Errorf("%s: the browser still has a session cookie", side.name)
			}
			if n, err := client.Exists(id).Result(); (n == 1) != back || err != nil {
				t.Errorf("%s: Redis has %d sessions with the old id (error: %v)", side.name, n, err)
			}
			thief := newBrowser(t, app.url)
			thief.setCookie(side.cookie, id)
			if got := thief.state(side.base); (got.Name == "Ada") != back {
				t.Errorf("%s: the cookie from before the log-out opens %+v", side.name, got)
			}
		}
	})
}

func TestYourOtherSessionsCanBeEnded(t *testing.T) {
	onEachRedis(t, func(t *testing.T, addr string) {
		app := start(t, addr)
		logIn := func(name string) *browser {
			b := newBrowser(t, app.url)
			b.load()
			b.post("/login", "name", name)
			b.want("name", name)
			return b
		}
		here, there, grace := logIn("Ada"), logIn("Ada"), logIn("Grace")

		here.load()
		if got, want := here.others(), []string{there.id()[:6]}; !slices.Equal(got, want) {
			t.Errorf("the page lists the other sessions %q, want %q", got, want)
		}
		if strings.Contains(here.page, there.id()) {
			t.Error("the page shows the whole id of another session")
		}
		if got := grace.others(); len(got) > 0 {
			t.Errorf("another user is shown the sessions %q", got)
		}

		target := here.find(`name="session" value="([^"]+)"`)
		grace.post("/end", "session", target)
		there.load()
		there.want("name", "Ada")
		here.post("/end", "session", target)
		here.want("name", "Ada")
		if got := here.others(); len(got) > 0 {
			t.Errorf("the page still lists the other sessions %q", got)
		}
		there.load()
		there.wantNone("name")

		others := []*browser{logIn("Ada"), logIn("Ada"), logIn("Ada")}
		here.post("/end-others")
		here.want("name", "Ada")
		for _, b := range others {
			b.load()
			b.wantNone("name")
		}
		grace.load()
		grace.want("name", "Grace")
	})
}

// A log-in elsewhere is what the page has for who has no second browser.
func TestALogInWithoutCookiesIsAnotherSession(t *testing.T) {
	b := newBrowser(t, start(t, miniredis.RunT(t).Addr()).url)
	b.load()
	b.post("/login", "name", "Ada")
	elsewhere := newBrowser(t, b.url)
	elsewhere.trial("trials/login", "name", "Ada")
	b.load()
	b.want("name", "Ada")
	if got, want := b.others(), []string{elsewhere.id()[:6]}; !slices.Equal(got, want) {
		t.Errorf("the page lists the other sessions %q, want %q", got, want)
	}
}

func TestTrialsRefuseAFormFromElsewhere(t *testing.T) {
	b := newBrowser(t, start(t, miniredis.RunT(t).Addr()).url)
	b.load()
	b.post("/login", "name", "Ada")
	for _, action := range []string{"login", "together", "late", "logout"} {
		b.post("/trials/"+action, "name", "Eve", "item", "Bread")
		if b.status != http.StatusForbidden {
			t.Errorf("%s: status %d, want 403", action, b.status)
		}
	}
	if got := b.state("trials"); got.Name != "Ada" || len(got.Basket) > 0 {
		t.Errorf("the session holds %+v after that", got)
	}
	for _, name := range []string{"", " ", strings.Repeat("ä", maxName+1)} {
		if a := b.send("trials/login", url.Values{"name": {name}}); a.status != http.StatusBadRequest {
			t.Errorf("the name %q: status %d, want 400", name, a.status)
		}
	}
}

func TestARequestThatWaitsInVainChangesNothing(t *testing.T) {
	t.Parallel()
	b := newBrowser(t, start(t, miniredis.RunT(t).Addr()).url)
	b.load()
	if a := b.send("trials/together", url.Values{"item": {"Bread"}}); a.status != http.StatusConflict {
		t.Errorf("status %d, want 409", a.status)
	}
	b.load()
	b.wantItem("Bread", 0)
}

func TestTheScriptNeedsNoSession(t *testing.T) {
	mini := miniredis.RunT(t)
	app := start(t, mini.Addr())
	status, body, header := fetch(t, app.url+"page.js")
	if status != http.StatusOK || body != string(pageJS) || header.Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Errorf("status %d, %d bytes of %s", status, len(body), header.Get("Content-Type"))
	}
	if len(mini.Keys()) > 0 || header.Get("Set-Cookie") != "" {
		t.Error("it has started a session")
	}
}

func TestWithoutTheFlagNothingIsCompared(t *testing.T) {
	b := newBrowser(t, start(t, miniredis.RunT(t).Addr()).url)
	b.load()
	b.wantText("-compare")
	b.wantNoText("/beego")
	if a := b.send("beego/trials", nil); a.status != http.StatusNotFound {
		t.Errorf("status %d, want 404", a.status)
	}
}

func TestWhatItIsComparedWithEndsWithIt(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*application){
		"is told to": func(app *application) { app.end() },
		"is killed":  func(app *application) { app.cmd.Process.Kill() },
	} {
		mini := miniredis.RunT(t)
		app := startComparing(t, mini.Addr())
		newBrowser(t, app.url).state("beego/trials")
		end(app)
		for deadline := time.Now().Add(20 * time.Second); mini.CurrentConnectionCount() > 0; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("when visits %s, another process stays connected to Redis", name)
			}
		}
	}
}

// startComparing runs the application with beego's own provider beside it.
func startComparing(t *testing.T, redisAddr string) *application {
	t.Helper()
	cmd := command(t, redisAddr, "127.0.0.1:0", "-compare")
	cmd.Dir = "" // the folder of this module, in which the go command finds the second program
	return startCommand(t, cmd)
}

// answer is that of a trial.
type answer struct {
	status int
	err    error
	Found  bool
	Name   string
	Basket map[string]int
}

// state asks what is in the session.
func (b *browser) state(path string) answer {
	b.t.Helper()
	return b.mustSend(path, nil)
}

// trial sends a request of a trial.
func (b *browser) trial(path string, fields ...string) answer {
	b.t.Helper()
	form := url.Values{}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	return b.mustSend(path, form)
}

func (b *browser) mustSend(path string, form url.Values) answer {
	b.t.Helper()
	a := b.send(path, form)
	if a.err != nil || a.status != http.StatusOK {
		b.t.Fatalf("%s: status %d (error: %v), want 200", path, a.status, a.err)
	}
	return a
}

// send sends a request as the page's script does, which is a post where there is a form.
func (b *browser) send(path string, form url.Values) (a answer) {
	req, err := http.NewRequest(http.MethodGet, b.url+path, nil)
	if form != nil {
		req, err = http.NewRequest(http.MethodPost, b.url+path, strings.NewReader(form.Encode()))
	}
	if err != nil {
		return answer{err: err}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("X-Requested-With", "XMLHttpRequest")
	resp, err := b.client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	a.status = resp.StatusCode
	if a.status == http.StatusOK {
		a.err = json.NewDecoder(resp.Body).Decode(&a)
	}
	return a
}

// others are the other sessions that the page lists, by what it shows of their ids.
func (b *browser) others() (ids []string) {
	for _, match := range regexp.MustCompile(`aria-label="End the session (\w+)…"`).FindAllStringSubmatch(b.page, -1) {
		ids = append(ids, match[1])
	}
	return ids
}
