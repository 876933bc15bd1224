// What docs/testing.md says of tests with miniredis.

package redis_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/beego-session/redis/internal/markdown"
	"github.com/beego/beego/v2/server/web/session"
)

// The application and the test that the page shows are built and run, with the test twice in one process.
func TestTheTestInTheDocsRuns(t *testing.T) {
	t.Parallel()
	page := string(must(os.ReadFile("docs/testing.md")))
	site := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		path := filepath.Join(site, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files := regexp.MustCompile("(?s)`([a-z_/]+\\.(?:go|conf))`[^`]*\n\n```[a-z]+\n(.*?)```").FindAllStringSubmatch(page, -1)
	if blocks := strings.Count(page, "```go\n"); len(files) != 3 || blocks != 2 {
		t.Fatalf("the page has %d files and %d blocks of Go", len(files), blocks)
	}
	for _, file := range files {
		write(file[1], file[2])
	}
	markdown.Site(t, site, ".")

	test := exec.Command("go", "test", "-mod=mod", "-count=2", "-v", ".")
	test.Dir = site
	test.Env = append(os.Environ(), "GOPROXY=off", "GOFLAGS=", "GOWORK=off")
	out, err := test.CombinedOutput()
	if err != nil || strings.Count(string(out), "--- PASS") != 4 {
		t.Errorf("%v\n%s", err, out)
	}
}

// beego asks SessionExist when a request begins, and that always looks.
func TestARequestNoticesWhatATestRemoves(t *testing.T) {
	m := miniredis.RunT(t)
	p := open(t, m.Addr(), life)
	session.Register(t.Name(), p)
	manager := must(session.NewManager(t.Name(), &session.ManagerConfig{
		CookieName: "sid", EnableSetCookie: true, Gclifetime: life, ProviderConfig: m.Addr(),
	}))
	var cookie *http.Cookie
	request := func() (visits int) {
		t.Helper()
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil)
		if cookie != nil {
			r.AddCookie(cookie)
		}
		store := must(manager.SessionStart(w, r))
		visits, _ = store.Get(ctx, "visits").(int)
		if err := store.Set(ctx, "visits", visits+1); err != nil {
			t.Fatal(err)
		}
		store.SessionRelease(ctx, w)
		for _, set := range w.Result().Cookies() {
			cookie = set
		}
		return visits
	}
	for name, remove := range map[string]func(){
		"Del":         func() { m.Del(cookie.Value) },
		"FlushAll":    m.FlushAll,
		"FastForward": func() { m.FastForward(life * time.Second) },
		"SessionDestroy": func() {
			if err := p.SessionDestroy(ctx, cookie.Value); err != nil {
				t.Fatal(err)
			}
		},
	} {
		for i := range 60 { // the requests follow each other within 20 ms
			cookie = nil
			if request() != 0 || request() != 1 {
				t.Fatalf("%s: the session is not kept", name)
			}
			exists := func() bool { return must(p.SessionExist(ctx, cookie.Value)) } // which leaves what it finds to a read that follows
			if i%3 > 0 && !exists() {
				t.Fatalf("%s: the session does not exist", name)
			}
			remove()
			if i%3 > 1 && exists() {
				t.Errorf("%s: SessionExist does not notice it", name)
			}
			if visits := request(); visits != 0 {
				t.Errorf("%s: a request does not notice it, and has %d visits", name, visits)
			}
		}
	}
}
