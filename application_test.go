// Beego applications, each in a process of its own because beego has one configuration in each, and the browsers of their users.

package redis_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/beego/beego/v2/server/web"
)

// appConf writes an app.conf with sessions in Redis, and these lines.
func appConf(t testing.TB, lines ...string) (file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "app.conf")
	lines = append([]string{"appname = test", "runmode = prod", "sessionon = true", "sessionprovider = redis"}, lines...)
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// ownProcess is a process that runs one test alone, which has what it needs from its environment.
func ownProcess(test string, env ...string) *exec.Cmd {
	child := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.v")
	child.Env = append(append(os.Environ(), "OWN_PROCESS="+test), env...)
	return child
}

// inOwnProcess runs a test in a process of its own, and fails as that does.
func inOwnProcess(t *testing.T, test string, env ...string) {
	t.Helper()
	out, err := ownProcess(test, env...).CombinedOutput()
	if err == nil && !strings.Contains(string(out), "--- PASS: "+test) {
		err = errors.New("it was not run")
	}
	for _, line := range strings.Split(string(out), "\n") {
		if err != nil || strings.Contains(line, "_test.go:") {
			t.Log(line)
		}
	}
	if err != nil {
		t.Errorf("%s: %v", test, err)
	}
}

// startBeego makes this process an application, or skips the test if it is not in one of its own.
func startBeego(t *testing.T, conf func() (file string), routes func()) {
	t.Helper()
	if os.Getenv("OWN_PROCESS") != t.Name() {
		t.Skip("is run by other tests, in a process of its own")
	}
	file := conf()
	if err := web.LoadAppConfig("ini", file); err != nil {
		t.Fatal(err)
	}
	routes()
	web.InitBeegoBeforeTest(file)
}

// given is the app.conf that the parent of this process has written.
func given() (file string) { return os.Getenv("APP_CONF") }

// serve serves the application of this process until the parent is done.
func serve() {
	server := httptest.NewServer(web.BeeApp.Handlers)
	defer server.Close()
	fmt.Println("serving at", server.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startApplication runs a test in a process of its own that serves until this one ends, and returns its URL.
func startApplication(t *testing.T, test, file string, env ...string) (url string) {
	t.Helper()
	child := ownProcess(test, append(env, "APP_CONF="+file)...)
	child.Stderr = os.Stderr
	stdin, stdout := must(child.StdinPipe()), must(child.StdoutPipe())
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	for url == "" && lines.Scan() {
		_, url, _ = strings.Cut(lines.Text(), "serving at ")
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(io.Discard, stdout)
	}()
	t.Cleanup(func() {
		_ = stdin.Close()
		<-read
		if err := child.Wait(); err != nil {
			t.Errorf("%s: %v", test, err)
		}
	})
	if url == "" {
		t.Fatalf("%s does not serve", test)
	}
	return url
}

// countingSite starts an application that counts visits, with sessions that are configured so.
func countingSite(t *testing.T, config string) (url string) {
	t.Helper()
	return startApplication(t, "TestCountingApplication", appConf(t, "SessionProviderConfig = "+config))
}

func TestCountingApplication(t *testing.T) {
	startBeego(t, given, func() { web.Get("/*", counter) })
	serve()
}

// browser has the cookies of one user. To it, applications on one machine are one site.
type browser struct {
	testing.TB
	http.Client
	url string // of the application, if there is only one
}

func newBrowser(t testing.TB, url string) *browser {
	return &browser{t, http.Client{Jar: must(cookiejar.New(nil))}, url}
}

// shown is what a browser gets to see.
type shown struct {
	status int
	text   string
	cookie bool // it sets one
}

func (b *browser) get(path string) shown { return b.send(path, "") }

// send asks for a page, and has the site hold the request back.
func (b *browser) send(path, held string) shown {
	b.Helper()
	request, err := http.NewRequest("GET", b.url+path, nil)
	if err != nil {
		b.Error(err)
		return shown{}
	}
	request.Header.Set("Held", held)
	response, err := b.Do(request)
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

// sees checks what a page shows.
func (b *browser) sees(what, path string, want any) {
	b.Helper()
	if got := b.get(path); got.status != http.StatusOK || got.text != fmt.Sprint(want) {
		b.Fatalf("%s: %s shows %q with the status %d, want %v", what, path, got.text, got.status, want)
	}
}

// session is the id in the cookie.
func (b *browser) session() string {
	b.Helper()
	cookies := b.Jar.Cookies(must(url.Parse(b.url)))
	if len(cookies) != 1 {
		b.Fatalf("cookies %v", cookies)
	}
	return cookies[0].Value
}

// again is a browser that has the cookies of this one as they are now.
func (b *browser) again() *browser {
	copied, at := newBrowser(b, b.url), must(url.Parse(b.url))
	copied.Jar.SetCookies(at, b.Jar.Cookies(at))
	return copied
}
