// Beego's filter/session. The main module's tests run on a beego that has none.

package bench

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/beego-session/redis"
	"github.com/beego/beego/v2/server/web"
	webcontext "github.com/beego/beego/v2/server/web/context"
	filter "github.com/beego/beego/v2/server/web/filter/session"
	"github.com/beego/beego/v2/server/web/session"
)

// filter/session releases the store it has captured, also after the handler has destroyed or regenerated the session.
func TestUnderTheSessionFilterGoneStaysGone(t *testing.T) {
	m := miniredis.RunT(t)
	session.Register("filtered", new(redis.Provider))
	site := web.NewControllerRegister()
	site.InsertFilterChain("*", filter.Session("filtered", session.CfgCookieName("id"), session.CfgSetCookie(true),
		session.CfgGcLifeTime(3600), session.CfgMaxLifeTime(3600), session.CfgProviderConfig(m.Addr())))
	manager, err := session.NewManager("filtered", &session.ManagerConfig{
		CookieName: "id", EnableSetCookie: true, Gclifetime: 3600, ProviderConfig: m.Addr(),
	})
	if err != nil {
		t.Fatal(err)
	}
	site.Get("/logout", func(ctx *webcontext.Context) {
		ctx.Output.Session("private", 1)
		manager.SessionDestroy(ctx.ResponseWriter, ctx.Request)
	})
	site.Get("/login", func(ctx *webcontext.Context) {
		ctx.Output.Session("private", 1)
		if _, err := manager.SessionRegenerateID(ctx.ResponseWriter, ctx.Request); err != nil {
			t.Error(err)
		}
	})
	site.Get("/", func(ctx *webcontext.Context) { ctx.Output.Session("private", 1) })

	site.Init()

	for _, path := range []string{"/logout", "/login"} {
		for _, first := range []string{"", "/"} { // in the request that made the session, and in a later one
			m.FlushAll()
			jar, _ := cookiejar.New(nil)
			server := httptest.NewServer(site)
			browser := &http.Client{Jar: jar}
			for _, path := range []string{first, path} {
				if path == "" {
					continue
				}
				response, err := browser.Get(server.URL + path)
				if err != nil {
					t.Fatal(err)
				}
				_ = response.Body.Close()
			}
			server.Close()
			keys := slices.DeleteFunc(m.Keys(), func(key string) bool { return strings.Contains(key, ":{") }) // beside the sessions
			if path == "/logout" && len(keys) != 0 || path == "/login" && len(keys) != 1 {
				t.Errorf("%s after %q leaves %d sessions", path, first, len(keys))
			}
		}
	}
}
