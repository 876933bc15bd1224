// A site that changes over to hashed ids: beego applications in processes of their own, and a browser that all of them serve.

package redis_test

import (
	"bufio"
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

	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web"
)

func TestABrowserIsServedThroughAChangeoverToHashedIDs(t *testing.T) {
	s := redistest.Start(t)
	urls := map[string]string{}
	for name, mode := range map[string]string{"false": "false", "accept": `"accept"`, "true": "true"} {
		file := filepath.Join(t.TempDir(), "app.conf")
		conf := fmt.Sprintf("appname = test\nrunmode = prod\nsessionon = true\nsessionprovider = redis\nSessionProviderConfig = "+
			`{"save_path":%q,"hash_ids":%s}`+"\n", s.Addr(), mode)
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		urls[name] = startSite(t, file)
	}
	jar, err := cookiejar.New(nil) // it makes no difference between ports
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	get := func(site, path string) string {
		t.Helper()
		response, err := browser.Get(urls[site] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	for i, step := range []struct{ site, path, want string }{
		{"false", "/", "1"}, {"false", "/login", "2"}, {"accept", "/", "3"}, {"false", "/", "4"}, {"accept", "/login", "5"}, {"false", "/", "6"},
		{"accept", "/", "7"}, {"true", "/", "8"}, {"accept", "/", "9"}, {"true", "/login", "10"}, {"accept", "/", "11"}, {"true", "/", "12"},
		{"accept", "/login", "13"}, {"true", "/", "14"}, {"true", "/", "15"}, {"accept", "/logout", "1"}, {"true", "/", "1"}, {"accept", "/", "2"},
		{"true", "/login", "3"}, {"true", "/logout", "1"}, {"accept", "/", "1"}, {"true", "/", "2"},
	} {
		if got := get(step.site, step.path); got != step.want {
			t.Fatalf("step %d: %s%s shows %q, want %q", i, step.site, step.path, got, step.want)
		}
	}
	for key := range dump(t, s.Client(), "") {
		for site := range urls {
			request, _ := http.NewRequest("GET", urls[site]+"/", nil)
			request.AddCookie(&http.Cookie{Name: "beegosessionID", Value: key})
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, _ := io.ReadAll(response.Body)
			_ = response.Body.Close()
			if string(body) != "1" {
				t.Errorf("%s: the cookie %q shows %q, and not a new session", site, key, body)
			}
		}
	}
}

// startSite starts a process with a beego application, and returns its address.
func startSite(t *testing.T, file string) string {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestSiteOfAChangeover$", "-test.v")
	child.Env = append(os.Environ(), "SITE_CONF="+file)
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_, _ = io.Copy(io.Discard, stdout)
		_ = child.Wait()
	})
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		if _, url, ok := strings.Cut(lines.Text(), "serves at "); ok {
			return url
		}
	}
	t.Fatal("the site did not start")
	return ""
}

func TestSiteOfAChangeover(t *testing.T) {
	file := os.Getenv("SITE_CONF")
	if file == "" {
		t.Skip("is run by TestABrowserIsServedThroughAChangeoverToHashedIDs, in processes of its own")
	}
	if err := web.LoadAppConfig("ini", file); err != nil {
		t.Fatal(err)
	}
	web.Get("/*", counter)
	web.InitBeegoBeforeTest(file)
	server := httptest.NewServer(web.BeeApp.Handlers)
	defer server.Close()
	fmt.Println("serves at " + server.URL)
	_, _ = io.Copy(io.Discard, os.Stdin)
}
