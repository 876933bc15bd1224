package redis_test

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"sync"
	"time"

	"github.com/alicebob/miniredis/v2"
	_ "github.com/beego-session/redis"
	"github.com/beego/beego/v2/server/web"
	"github.com/beego/beego/v2/server/web/session"
)

// VisitsController is the controller that is tested.
type VisitsController struct{ web.Controller }

func (c *VisitsController) Get() {
	n, _ := c.GetSession("visits").(int)
	c.SetSession("visits", n+1)
	c.Ctx.WriteString(fmt.Sprint("visit ", n+1))
}

// routes are those of the application. Its main calls them too.
func routes() { web.Router("/", &VisitsController{}) }

var start sync.Once

// newSite starts the application with an empty Redis of its own, as often as there are tests. Beego starts once in a process, and reads its
// configuration then; after that the sessions alone are set up anew.
func newSite() (*httptest.Server, *miniredis.Miniredis, error) {
	server, err := miniredis.Run()
	if err != nil {
		return nil, nil, err
	}
	start.Do(func() {
		os.Setenv("SESSION_CONFIG", server.Addr()) // as app.conf says: sessionproviderconfig = ${SESSION_CONFIG||127.0.0.1:6379}
		web.InitBeegoBeforeTest("testdata/app.conf")
		routes() // after that, as new versions of beego give no session to a route that was there before sessionon was read
	})
	conf := web.BConfig.WebConfig.Session
	web.GlobalSessions, err = session.NewManager("redis", &session.ManagerConfig{
		CookieName: conf.SessionName, EnableSetCookie: true, Gclifetime: conf.SessionGCMaxLifetime, ProviderConfig: server.Addr(),
	})
	if err != nil {
		server.Close()
		return nil, nil, err
	}
	return httptest.NewServer(web.BeeApp.Handlers), server, nil
}

// The test of a controller whose sessions are in a Redis within the test.
func Example_controllerTest() {
	for range 2 { // as two tests
		site, server, err := newSite()
		if err != nil {
			log.Fatal(err)
		}
		defer server.Close()
		defer site.Close()
		cookies, err := cookiejar.New(nil)
		if err != nil {
			log.Fatal(err)
		}
		browser := http.Client{Jar: cookies}
		visit := func() string {
			response, err := browser.Get(site.URL)
			if err != nil {
				log.Fatal(err)
			}
			defer response.Body.Close()
			page, err := io.ReadAll(response.Body)
			if err != nil {
				log.Fatal(err)
			}
			return string(page)
		}

		fmt.Println(visit())
		fmt.Println(visit())
		server.FastForward(time.Hour) // the session expires
		fmt.Println(visit())
	}
	// Output:
	// visit 1
	// visit 2
	// visit 1
	// visit 1
	// visit 2
	// visit 1
}
