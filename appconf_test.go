// A site that is configured by its app.conf: beego's own configuration reads it, in a process for each.

package redis_test

import (
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/beego/beego/v2/server/web"
	webcontext "github.com/beego/beego/v2/server/web/context"
)

// appConfs are ways to write the configuration. README.md shows the lines of the first ones.
var appConfs = map[string]string{
	"comma string":            `SessionProviderConfig = ADDR,100,secret,0,300`,
	"quoted comma string":     `SessionProviderConfig = "ADDR,100,secret"`,
	"JSON":                    `SessionProviderConfig = {"save_path":"ADDR","password":"secret","key_prefix":"shop:","idle_timeout":"5m"}`,
	"URL":                     `SessionProviderConfig = redis://:secret@ADDR/0?poolsize=50`,
	"environment variable":    `SessionProviderConfig = ${TEST_SESSION_CONFIG}`,
	"sessionConfig and comma": `sessionConfig = {"cookieName":"beegosessionID","enableSetCookie":true,"gclifetime":3600,"providerConfig":"ADDR,100,secret"}`,
	"sessionConfig and JSON":  `sessionConfig = {"cookieName":"beegosessionID","enableSetCookie":true,"gclifetime":3600,"providerConfig":"{\"save_path\":\"ADDR\",\"password\":\"secret\"}"}`,
}

func TestASiteIsConfiguredByItsAppConf(t *testing.T) {
	for name, line := range appConfs {
		t.Run(name, func(t *testing.T) {
			m := miniredis.RunT(t)
			m.RequireAuth("secret")
			file := filepath.Join(t.TempDir(), "app.conf")
			conf := "appname = test\nrunmode = prod\nsessionon = true\nsessionprovider = redis\n" + strings.ReplaceAll(line, "ADDR", m.Addr()) + "\n"
			if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
				t.Fatal(err)
			}
			child := exec.Command(os.Args[0], "-test.run=^TestAppConfSite$", "-test.v")
			child.Env = append(os.Environ(), "APP_CONF="+file, "TEST_SESSION_CONFIG="+m.Addr()+",100,secret")
			if out, err := child.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			keys := sessions(m.Keys())
			if len(keys) != 1 || strings.HasPrefix(keys[0], "shop:") != (name == "JSON") {
				t.Errorf("the keys are %q", keys)
			}
		})
	}
}

// sessions leaves out the keys that are there beside the sessions.
func sessions(keys []string) []string {
	return slices.DeleteFunc(keys, func(key string) bool { return strings.Contains(key, ":{") })
}

// counter counts the visits of a session; log in regenerates it, log out destroys it.
func counter(ctx *webcontext.Context) {
	switch ctx.Request.URL.Path {
	case "/login":
		store, err := web.GlobalSessions.SessionRegenerateID(ctx.ResponseWriter, ctx.Request)
		if err != nil {
			panic(err)
		}
		ctx.Input.CruSession = store
	case "/logout":
		_ = ctx.Input.CruSession.Flush(ctx.Request.Context())
		web.GlobalSessions.SessionDestroy(ctx.ResponseWriter, ctx.Request)
	}
	visits, _ := ctx.Input.Session("visits").(int)
	ctx.Output.Session("visits", visits+1)
	_ = ctx.Output.Body([]byte(fmt.Sprint(visits + 1)))
}

func TestAppConfSite(t *testing.T) {
	file := os.Getenv("APP_CONF")
	if file == "" {
		t.Skip("is run by TestASiteIsConfiguredByItsAppConf, in a process of its own")
	}
	if err := web.LoadAppConfig("ini", file); err != nil {
		t.Fatal(err)
	}
	web.Get("/*", counter)
	web.InitBeegoBeforeTest(file)
	server := httptest.NewServer(web.BeeApp.Handlers)
	defer server.Close()
	visit(t, server.URL)
}

// visit is a user who comes back, logs in and out.
func visit(t *testing.T, url string) {
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	browser := &http.Client{Jar: jar}
	for i, step := range []struct{ path, want string }{
		{"/", "1"}, {"/", "2"}, {"/login", "3"}, {"/", "4"}, {"/logout", "1"}, {"/", "1"}, {"/", "2"},
	} {
		response, err := browser.Get(url + step.path)
		if err != nil {
			t.Fatal(err)
		}
		body := make([]byte, 16)
		n, _ := response.Body.Read(body)
		_ = response.Body.Close()
		if got := string(body[:n]); got != step.want {
			t.Fatalf("step %d: %s shows %q, want %q", i, step.path, got, step.want)
		}
	}
}
