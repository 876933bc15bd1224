// Tests of the whole application: real processes, driven through HTTP as a browser would.

package main

import (
	"bufio"
	"bytes"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	"github.com/go-redis/redis/v7"
)

// TestMain is the application itself in the processes that the tests start. They end when the test's end of their stdin
// is closed, be it because the test process is gone.
func TestMain(m *testing.M) {
	if os.Getenv("VISITS_TEST_PROCESS") == "" {
		os.Exit(m.Run())
	}
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(3)
	}()
	main()
}

func TestLogInMovesTheSessionToANewID(t *testing.T) {
	onEachRedis(t, func(t *testing.T, addr string) {
		b := newBrowser(t, start(t, addr).url)
		b.load()
		b.post("/basket", "item", "Bread", "do", "add")
		oldID := b.id()
		oldToken := b.token()

		b.post("/login", "name", "Ada")
		b.want("name", "Ada")
		b.want("id", b.id()[:6]+"…")
		b.wantItem("Bread", 1)
		if b.id() == oldID {
			t.Error("the session has the same id after the log-in")
		}
		if b.token() == oldToken {
			t.Error("the forms have the same token after the log-in")
		}
		if moved := fmt.Sprintf("<code>%.6s…</code> became <code>%.6s…</code>", oldID, b.id()); !strings.Contains(b.page, moved) {
			t.Errorf("the page does not say %q", moved)
		}
		b.load()
		b.wantNone("regenerated")

		thief := newBrowser(t, b.url)
		thief.setID(oldID)
		thief.load()
		thief.wantNone("name")
		thief.wantItem("Bread", 0)
		if thief.id() == oldID {
			t.Error("the old id is still good for a session")
		}
	})
}

func TestCountsTheVisitsOfEachBrowser(t *testing.T) {
	onEachRedis(t, func(t *testing.T, addr string) {
		url := start(t, addr).url
		one, other := newBrowser(t, url), newBrowser(t, url)
		for n := 1; n <= 5; n++ {
			one.load()
			one.want("visits", fmt.Sprint(n))
		}
		other.load()
		other.want("visits", "1")
	})
}

func TestBasketTakesAndGivesBack(t *testing.T) {
	onEachRedis(t, func(t *testing.T, addr string) {
		b := newBrowser(t, start(t, addr).url)
		b.load()
		for _, change := range []struct {
			item, do string
			want     int
		}{
			{"Bread", "add", 1}, {"Bread", "add", 2}, {"Coffee", "add", 1}, {"Bread", "remove", 1}, {"Bread", "remove", 0},
			{"Bread", "remove", 0}, {"Bread", "add", 1},
		} {
			b.post("/basket", "item", change.item, "do", change.do)
			b.wantItem(change.item, change.want)
		}
		b.load()
		b.wantItem("Bread", 1)
		b.wantItem("Coffee", 1)
		if !strings.Contains(b.page, "map[Bread:1 Coffee:1]") {
			t.Error("the page does not show the basket as it is in the session")
		}
		b.post("/basket", "item", "Caviar", "do", "add")
		if b.status != http.StatusBadRequest {
			t.Errorf("an item that is not on the shelf: status %d, want 400", b.status)
		}
	})
}

func TestSessionSurvivesARestart(t *testing.T) {
	onEachRedis(t, func(t *testing.T, addr string) {
		app := start(t, addr)
		b := newBrowser(t, app.url)
		b.load()
		b.post("/basket", "item", "Cheese", "do", "add")
		b.post("/login", "name", "Ada")
		b.wantNoText("survived a restart")
		id := b.id()
		app.end()

		b.url = start(t, addr).url
		b.setID(id)
		b.load()
		b.want("name", "Ada")
		b.want("visits", "4")
		b.wantItem("Cheese", 1)
		b.wantText("survived a restart")
		if b.id() != id {
			t.Error("the session has another id after the restart")
		}
	})
}

func TestLogOutForgetsTheSession(t *testing.T) {
	onEachRedis(t, func(t *testing.T, addr string) {
		b := newBrowser(t, start(t, addr).url)
		b.load()
		b.post("/basket", "item", "Apples", "do", "add")
		b.post("/login", "name", "Ada")
		oldID := b.id()

		b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		b.post("/logout")
		if b.id() != "" {
			t.Error("the browser still has a session cookie")
		}
		b.load()
		b.wantNone("name")
		b.want("visits", "1")
		b.wantItem("Apples", 0)
		b.wantText("You are logged out.")
		client := redis.NewClient(&redis.Options{Addr: addr})
		defer client.Close()
		if n, err := client.Exists(oldID).Result(); n != 0 || err != nil {
			t.Errorf("Redis has %d sessions with the old id (error: %v), want none", n, err)
		}

		b.setID(oldID)
		b.load()
		b.wantNone("name")
		b.wantItem("Apples", 0)
		if b.id() == oldID {
			t.Error("the cookie from before the log-out is still good for a session")
		}
	})
}

func TestShowsTheLifeTimeThatRedisGives(t *testing.T) {
	mini := miniredis.RunT(t)
	b := newBrowser(t, start(t, mini.Addr()).url)
	b.load()
	b.want("left", "30 min 00 s")
	b.wantText("The session is new.")

	mini.FastForward(10 * time.Minute)
	b.load()
	b.want("found", "20 min 00 s")
	b.want("left", "30 min 00 s")

	mini.FastForward(31 * time.Minute)
	b.load()
	b.want("visits", "1")
	b.wantText("The session is new.")
}

func TestRefusesAFormFromElsewhere(t *testing.T) {
	b := newBrowser(t, start(t, miniredis.RunT(t).Addr()).url)
	b.load()
	b.post("/login", "name", "Ada")
	for name, token := range map[string]string{"none": "", "a wrong one": "WRONG"} {
		for _, path := range []string{"/login", "/basket", "/logout", "/end", "/end-others"} {
			b.post(path, "token", token, "name", "Eve", "item", "Bread", "do", "add")
			if b.status != http.StatusForbidden {
				t.Errorf("%s with %s for a token: status %d, want 403", path, name, b.status)
			}
			b.wantText("Nothing was changed")
		}
	}
	b.load()
	b.want("name", "Ada")
	b.wantItem("Bread", 0)

	fresh := newBrowser(t, b.url)
	fresh.post("/login", "name", "Eve")
	if fresh.status != http.StatusForbidden {
		t.Errorf("a form without a token for a session without one: status %d, want 403", fresh.status)
	}
}

func TestEscapesNames(t *testing.T) {
	b := newBrowser(t, start(t, miniredis.RunT(t).Addr()).url)
	b.load()
	const name = `<script>alert("1")</script>&amp;`
	b.post("/login", "name", name)
	b.want("name", name)
	b.wantNoText("<script>alert")
}

func TestRefusesANameThatIsNone(t *testing.T) {
	b := newBrowser(t, start(t, miniredis.RunT(t).Addr()).url)
	b.load()
	id := b.id()
	for _, name := range []string{"", " ", strings.Repeat("ä", maxName+1)} {
		b.post("/login", "name", name)
		b.wantNone("name")
		b.wantText("A name has 1 to 40 characters.")
	}
	if b.id() != id {
		t.Error("a log-in that was refused changed the session id")
	}
	b.post("/login", "name", strings.Repeat("ä", maxName))
	b.want("name", strings.Repeat("ä", maxName))
}

func TestAnswersAFormByRedirecting(t *testing.T) {
	b := newBrowser(t, start(t, miniredis.RunT(t).Addr()).url)
	b.load()
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	token := b.token()
	for _, path := range []string{"/basket", "/logout"} {
		b.post(path, "token", token, "item", "Bread")
		if b.status != http.StatusSeeOther {
			t.Errorf("%s: status %d, want 303", path, b.status)
		}
	}
}

func TestWithoutAServerItEmbedsOne(t *testing.T) {
	app := start(t, "")
	b := newBrowser(t, app.url)
	b.load()
	b.wantText("Embedded miniredis")
	b.wantText("the sessions end with it")
	if !strings.Contains(app.greeting, "embedded miniredis and end with this process") {
		t.Errorf("it does not say on stdout that Redis is embedded, but:\n%s", app.greeting)
	}

	// Its clock goes: miniredis alone lets no session expire.
	server := regexp.MustCompile(`Embedded miniredis at <span class="mono">([^<]+)<`).FindStringSubmatch(b.page)
	if server == nil {
		t.Fatal("the page does not tell the address of the embedded miniredis")
	}
	client := redis.NewClient(&redis.Options{Addr: server[1]})
	defer client.Close()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left, err := client.PTTL(b.id()).Result()
		if err != nil {
			t.Fatal(err)
		}
		if left < 30*time.Minute {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the life time of a session does not pass")
		}
	}
}

func TestWithAServerItSaysWhich(t *testing.T) {
	mini := miniredis.RunT(t)
	app := start(t, mini.Addr())
	b := newBrowser(t, app.url)
	b.load()
	b.want("server", "Redis at "+mini.Addr())
	b.wantNoText("mbedded")
	if !strings.Contains(app.greeting, "in the Redis at "+mini.Addr()) {
		t.Errorf("it does not say on stdout which Redis it uses, but:\n%s", app.greeting)
	}
}

func TestEndsWithAnErrorThatSaysWhatToDo(t *testing.T) {
	nobody := closedPort(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, test := range []struct{ name, redis, addr, want string }{
		{"no Redis there", nobody, "127.0.0.1:0", "visits: no Redis at " + nobody + ": "},
		{"no address", "redis://:secret@localhost", "127.0.0.1:0", "visits: REDIS_ADDR must be host:port"},
		{"a whole configuration", "localhost:6379,100,secret", "127.0.0.1:0", "visits: REDIS_ADDR must be host:port"},
		{"port taken", "", taken.Addr().String(), "visits: listen tcp " + taken.Addr().String()},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := command(t, test.redis, test.addr)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			err := cmd.Run()
			if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("it ended with %v, want exit status 1", err)
			}
			if !strings.Contains(stderr.String(), test.want) {
				t.Errorf("stderr does not say %q, but:\n%s", test.want, stderr.String())
			}
			for _, bad := range []string{"goroutine", "secret"} {
				if strings.Contains(stderr.String(), bad) {
					t.Errorf("stderr says %q:\n%s", bad, stderr.String())
				}
			}
		})
	}
}

func TestEndsCleanlyThoughABrowserKeepsAConnectionOpen(t *testing.T) {
	t.Parallel()
	app := start(t, "")
	idle, err := net.Dial("tcp", strings.Trim(app.url, "htp:/"))
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	newBrowser(t, app.url).load()
	if rest := app.end(); rest != "" {
		t.Errorf("it says at the end: %s", rest)
	}
}

// It goes through a Redis that is slow, so that requests are at every stage when the application is told to end.
func TestEndsUnderLoadWithoutLosingASession(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	slow := redistest.Proxy(t, server.Addr())
	slow.SetDelay(10 * time.Millisecond)
	const browsers = 8
	late := 0
	for n := range redistest.Times(5, 20) {
		app := start(t, slow.Addr())
		var all sync.WaitGroup
		var told atomic.Bool
		var answeredLate atomic.Int64
		answers := make(chan struct{}, 1000)
		answered := make([]int, browsers)
		ids := make([]string, browsers)
		for i := range browsers {
			all.Add(1)
			go func() {
				defer all.Done()
				b := newBrowser(t, app.url)
				b.client.Transport = &http.Transport{}
				defer b.client.CloseIdleConnections()
				time.Sleep(time.Duration(i) * 10 * time.Millisecond) // else all are at the same stage
				for b.visit() {
					answered[i]++
					ids[i] = b.id()
					if told.Load() {
						answeredLate.Add(1)
					}
					answers <- struct{}{}
				}
			}()
		}
		go func() {
			all.Wait()
			close(answers)
		}()
		for range 2*browsers + n {
			<-answers
		}
		told.Store(true)
		app.endBy(syscall.SIGTERM)
		for range answers {
		}
		late += int(answeredLate.Load())
		for i, want := range answered {
			if want == 0 {
				continue // it never learned its session's id
			}
			if got := savedVisits(t, server.Client(), ids[i]); got != want {
				t.Errorf("round %d: %d visits were answered, and %d are in the session", n, want, got)
			}
		}
	}
	if late == 0 {
		t.Error("no request was under way when the application was told to end")
	}
}

// visit tells whether the page came, for as long as anybody listens: unlike load it does not end the test.
func (b *browser) visit() bool {
	b.t.Helper()
	resp, err := b.client.Get(b.url)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return false
	}
	if resp.StatusCode != http.StatusOK {
		b.t.Errorf("status %d, want 200", resp.StatusCode)
	}
	return true
}

// savedVisits returns what a session in Redis says.
func savedVisits(t *testing.T, client *redis.Client, id string) int {
	t.Helper()
	value, err := client.Get(id).Bytes()
	if err != nil {
		t.Errorf("session %.6s…: %v", id, err)
		return 0
	}
	values, err := session.DecodeGob(value)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := values["visits"].(int)
	return n
}

// application is a running process of the application.
type application struct {
	t        *testing.T
	cmd      *exec.Cmd
	stdout   *bufio.Reader
	greeting string // what it said on stdout until it served
	url      string
}

func command(t *testing.T, redisAddr, addr string, flags ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, append(flags, "-addr", addr)...)
	cmd.Env = append(os.Environ(), "VISITS_TEST_PROCESS=1", "REDIS_ADDR="+redisAddr,
		"GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0") // the race detector sleeps for a second before it lets a process end
	cmd.Dir = t.TempDir()
	cmd.WaitDelay = 10 * time.Second // a process that it leaves behind would hold its stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close() })
	return cmd
}

// start runs the application, with an embedded Redis where redisAddr is empty, until the test ends.
func start(t *testing.T, redisAddr string) *application {
	t.Helper()
	return startCommand(t, command(t, redisAddr, "127.0.0.1:0"))
}

func startCommand(t *testing.T, cmd *exec.Cmd) *application {
	t.Helper()
	app := &application{t: t, cmd: cmd}
	var stderr bytes.Buffer
	app.cmd.Stderr = &stderr
	stdout, err := app.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := app.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if app.cmd.ProcessState == nil {
			app.cmd.Process.Kill()
			app.cmd.Wait()
		}
		if t.Failed() {
			t.Logf("stderr of the application:\n%s", stderr.String())
		}
	})
	app.stdout = bufio.NewReader(stdout)
	for app.url == "" {
		line, err := app.stdout.ReadString('\n')
		app.greeting += line
		if err != nil {
			t.Fatalf("the application ended before it said where it listens:\n%s", app.greeting)
		}
		app.url = regexp.MustCompile(`http://\S+|$`).FindString(line)
	}
	return app
}

// end presses Ctrl-C, and returns what the application had yet to say on stdout.
func (app *application) end() string {
	app.t.Helper()
	return app.endBy(os.Interrupt)
}

func (app *application) endBy(signal os.Signal) string {
	app.t.Helper()
	if err := app.cmd.Process.Signal(signal); err != nil {
		app.t.Fatal(err)
	}
	defer time.AfterFunc(20*time.Second, func() { app.cmd.Process.Kill() }).Stop()
	rest, _ := io.ReadAll(app.stdout)
	if err := app.cmd.Wait(); err != nil {
		app.t.Errorf("after the signal %v: %v, want exit status 0", signal, err)
	}
	return string(rest)
}

// browser has cookies, and the page that it loaded last.
type browser struct {
	t      *testing.T
	url    string
	client http.Client
	status int
	page   string
}

func newBrowser(t *testing.T, url string) *browser {
	jar, _ := cookiejar.New(nil)
	return &browser{t: t, url: url, client: http.Client{Jar: jar, Timeout: 20 * time.Second}}
}

func (b *browser) load() {
	b.t.Helper()
	b.took(b.client.Get(b.url))
	if b.status != http.StatusOK {
		b.t.Fatalf("status %d, want 200", b.status)
	}
}

// post sends a form with the token of the page, unless fields hold another.
func (b *browser) post(path string, fields ...string) {
	b.t.Helper()
	form := url.Values{"token": {b.token()}}
	for i := 0; i < len(fields); i += 2 {
		form.Set(fields[i], fields[i+1])
	}
	b.took(b.client.PostForm(b.url+strings.TrimPrefix(path, "/"), form))
}

func (b *browser) took(resp *http.Response, err error) {
	b.t.Helper()
	if err != nil {
		b.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	b.status, b.page = resp.StatusCode, string(body)
	if id := b.id(); id != "" && strings.Contains(b.page, id) {
		b.t.Error("the page shows the whole session id")
	}
}

func (b *browser) token() string { return b.find(`name="token" value="([^"]*)"`) }

// find returns what the first group of a regular expression matches on the page, or "".
func (b *browser) find(expr string) string {
	match := regexp.MustCompile(expr).FindStringSubmatch(b.page)
	if match == nil {
		return ""
	}
	return html.UnescapeString(match[1])
}

// want checks the text of an element.
func (b *browser) want(id, text string) {
	b.t.Helper()
	inner := b.find(`(?s) id="` + id + `"[^>]*>(.*?)</(?:span|code|strong)>`)
	if got := regexp.MustCompile(`<span[^>]*>`).ReplaceAllString(inner, ""); got != text {
		b.t.Errorf("the page says %q for %s, want %q", got, id, text)
	}
}

func (b *browser) wantNone(id string) {
	b.t.Helper()
	if strings.Contains(b.page, ` id="`+id+`"`) {
		b.t.Errorf("the page has an element %s", id)
	}
}

func (b *browser) wantItem(name string, count int) {
	b.t.Helper()
	if got := b.find(`data-item="` + name + `">(\d+)<`); got != fmt.Sprint(count) {
		b.t.Errorf("the basket holds %q of %s, want %d", got, name, count)
	}
}

func (b *browser) wantText(text string) {
	b.t.Helper()
	if !strings.Contains(b.page, text) {
		b.t.Errorf("the page does not say %q", text)
	}
}

func (b *browser) wantNoText(text string) {
	b.t.Helper()
	if strings.Contains(b.page, text) {
		b.t.Errorf("the page says %q", text)
	}
}

// id is the session's, from the cookie.
func (b *browser) id() string { return b.cookie("visits") }

func (b *browser) setID(id string) { b.setCookie("visits", id) }

func (b *browser) cookie(name string) string {
	at, _ := url.Parse(b.url)
	for _, cookie := range b.client.Jar.Cookies(at) {
		if cookie.Name == name {
			return cookie.Value
		}
	}
	return ""
}

func (b *browser) setCookie(name, value string) {
	at, _ := url.Parse(b.url)
	b.client.Jar.SetCookies(at, []*http.Cookie{{Name: name, Value: value, Path: "/"}})
}

// onEachRedis runs a test on miniredis, and on a real server where one is installed.
func onEachRedis(t *testing.T, test func(t *testing.T, addr string)) {
	t.Run("miniredis", func(t *testing.T) { test(t, miniredis.RunT(t).Addr()) })
	t.Run("redis-server", func(t *testing.T) { test(t, redistest.Start(t).Addr()) })
}

// closedPort returns an address that nobody listens on, and that nobody else takes before the test ends.
func closedPort(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("127.0.0.1:%d", redistest.Port(t))
}
