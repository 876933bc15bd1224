// A site that is configured by its app.conf: beego's own configuration reads it, in a process for each.

package redis_test

import (
	"fmt"
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
	"password's variable":     `SessionProviderConfig = {"save_path":"ADDR","password_env":"TEST_SESSION_PASSWORD"}`,
	"sessionConfig and comma": `sessionConfig = {"cookieName":"beegosessionID","enableSetCookie":true,"gclifetime":3600,"providerConfig":"ADDR,100,secret"}`,
	"sessionConfig and JSON":  `sessionConfig = {"cookieName":"beegosessionID","enableSetCookie":true,"gclifetime":3600,"providerConfig":"{\"save_path\":\"ADDR\",\"password\":\"secret\"}"}`,
}

func TestASiteIsConfiguredByItsAppConf(t *testing.T) {
	for name, line := range appConfs {
		t.Run(name, func(t *testing.T) {
			m := miniredis.RunT(t)
			m.RequireAuth("secret")
			visit(t, startApplication(t, "TestCountingApplication", appConf(t, strings.ReplaceAll(line, "ADDR", m.Addr())),
				"TEST_SESSION_CONFIG="+m.Addr()+",100,secret", "TEST_SESSION_PASSWORD=secret"))
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

// logInOrOut regenerates the session at /login, and destroys it at /logout.
func logInOrOut(ctx *webcontext.Context) {
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
}

// counter counts the visits of a session.
func counter(ctx *webcontext.Context) {
	logInOrOut(ctx)
	visits, _ := ctx.Input.Session("visits").(int)
	ctx.Output.Session("visits", visits+1)
	_ = ctx.Output.Body([]byte(fmt.Sprint(visits + 1)))
}

// visit is a user who comes back, logs in and out.
func visit(t *testing.T, url string) {
	browser := newBrowser(t, url)
	for i, step := range []struct{ path, want string }{
		{"/", "1"}, {"/", "2"}, {"/login", "3"}, {"/", "4"}, {"/logout", "1"}, {"/", "1"}, {"/", "2"},
	} {
		browser.sees(fmt.Sprint("step ", i), step.path, step.want)
	}
}
