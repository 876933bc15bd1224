// Examples of what most sites do. Each has a Redis of its own in the program, miniredis; a site gives the address of its server.

package redis_test

import (
	"context"
	"encoding/gob"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/beego-session/redis"
	"github.com/beego/beego/v2/server/web/session"
)

// A site counts the visits of each visitor. In a beego application the configuration stands in app.conf, and beego does what the handler
// does with the manager.
func Example() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()

	manager, err := session.NewManager("redis", &session.ManagerConfig{
		CookieName: "sid", EnableSetCookie: true, Gclifetime: 3600, ProviderConfig: server.Addr(),
	})
	if err != nil {
		log.Fatal(err)
	}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		store, err := manager.SessionStart(w, r)
		if err != nil {
			http.Error(w, "Please try again.", http.StatusServiceUnavailable)
			return
		}
		defer store.SessionRelease(r.Context(), w) // saves it
		visits, _ := store.Get(r.Context(), "visits").(int)
		visits++
		if err := store.Set(r.Context(), "visits", visits); err != nil {
			log.Print(err)
		}
		fmt.Fprintln(w, "visit", visits)
	}))
	defer site.Close()

	cookies, err := cookiejar.New(nil)
	if err != nil {
		log.Fatal(err)
	}
	browser := http.Client{Jar: cookies}
	for range 2 {
		response, err := browser.Get(site.URL)
		if err != nil {
			log.Fatal(err)
		}
		page, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			log.Fatal(err)
		}
		fmt.Print(string(page))
	}
	// Output:
	// visit 1
	// visit 2
}

// Item is something in a cart.
type Item struct {
	Name  string
	Price int // in cents
}

func init() {
	gob.Register([]Item{}) // each type that is put into a session, when the program starts
}

// Types of the application are registered with encoding/gob once, when the program starts.
func ExampleSessionStore_Set_ownType() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	ctx := context.Background()
	sessions := new(redis.Provider)
	if err := sessions.SessionInit(ctx, 3600, server.Addr()); err != nil {
		log.Fatal(err)
	}

	store, err := sessions.SessionRead(ctx, "a-session-id")
	if err != nil {
		log.Fatal(err)
	}
	// func init() { gob.Register([]Item{}) }
	if err := store.Set(ctx, "cart", []Item{{"tea", 450}}); err != nil {
		log.Fatal(err)
	}
	store.SessionRelease(ctx, nil)

	store, err = sessions.SessionRead(ctx, "a-session-id")
	if err != nil {
		log.Fatal(err)
	}
	cart, _ := store.Get(ctx, "cart").([]Item)
	fmt.Println(cart)
	// Output: [{tea 450}]
}

// A log-in gives the session a new id, so that whoever knew the old one is left outside. A controller does it with
// SessionRegenerateID, and has to heed its error: there is no session then.
func ExampleProvider_SessionRegenerate() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	manager, err := session.NewManager("redis", &session.ManagerConfig{
		CookieName: "sid", EnableSetCookie: true, Gclifetime: 3600, ProviderConfig: `{"save_path": "` + server.Addr() + `", "outage_time": "100ms"}`,
	})
	if err != nil {
		log.Fatal(err)
	}

	logIn := func(w http.ResponseWriter, r *http.Request) {
		store, err := manager.SessionRegenerateID(w, r)
		if err != nil {
			log.Print(err)
			http.Error(w, "You cannot be logged in now. Please try again.", http.StatusServiceUnavailable)
			return
		}
		defer store.SessionRelease(r.Context(), w)
		if err := store.Set(r.Context(), "uid", 42); err != nil {
			http.Error(w, "You are not logged in.", http.StatusInternalServerError)
			return
		}
		fmt.Fprint(w, "Welcome.")
	}

	page := httptest.NewRecorder()
	visitor, err := manager.SessionStart(page, httptest.NewRequest("GET", "/", nil))
	if err != nil {
		log.Fatal(err)
	}
	visitor.SessionRelease(context.Background(), page)
	before := page.Result().Cookies()[0]

	for _, redisIsGone := range []bool{false, true} {
		if redisIsGone {
			server.Close()
		}
		request := httptest.NewRequest("POST", "/login", nil)
		request.AddCookie(before)
		page = httptest.NewRecorder()
		logIn(page, request)
		fmt.Println(page.Code, page.Body)
		if cookies := page.Result().Cookies(); len(cookies) > 0 {
			fmt.Println("a new id:", cookies[0].Value != before.Value)
		}
	}
	// Output:
	// 200 Welcome.
	// a new id: true
	// 503 You cannot be logged in now. Please try again.
}

// With user_key the sessions of a user are found: to show them, and to end all of them but the one at hand.
func ExampleProvider_DestroyAll() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	ctx := context.Background()
	sessions := new(redis.Provider) // beego has it: web.GlobalSessions.GetProvider().(*redis.Provider)
	if err := sessions.SessionInit(ctx, 3600, `{"save_path": "`+server.Addr()+`", "user_key": "uid"}`); err != nil {
		log.Fatal(err)
	}
	for _, id := range []string{"id-of-the-phone", "id-of-the-tablet", "id-of-the-laptop"} {
		store, err := sessions.SessionRead(ctx, id)
		if err != nil {
			log.Fatal(err)
		}
		if err := store.Set(ctx, "uid", 42); err != nil { // as the log-in does
			log.Fatal(err)
		}
		store.SessionRelease(ctx, nil)
	}

	devices, err := sessions.SessionsOf(ctx, "42")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(len(devices), "devices, the last seen less than a minute ago:", time.Since(devices[0].LastSeen) < time.Minute)
	ended, err := sessions.DestroyAll(ctx, "42", "id-of-the-laptop") // in a controller: c.CruSession.SessionID(ctx)
	if err != nil {
		log.Fatal(err) // some may be left: call it again
	}
	fmt.Println(ended, "logged out")
	// Output:
	// 3 devices, the last seen less than a minute ago: true
	// 2 logged out
}

// "Remember me": this session lives for 30 days from each use on, and all others for the hour that is configured. The browser has to keep
// the cookie for as long (SessionCookieLifeTime).
func ExampleSessionStore_SetLifeTime() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	ctx := context.Background()
	sessions := new(redis.Provider)
	if err := sessions.SessionInit(ctx, 3600, server.Addr()); err != nil {
		log.Fatal(err)
	}
	store, err := sessions.SessionRead(ctx, "a-session-id") // in a controller: c.StartSession()
	if err != nil {
		log.Fatal(err)
	}

	if err := store.(*redis.SessionStore).SetLifeTime(ctx, 30*24*time.Hour); err != nil {
		log.Fatal(err)
	}

	store.SessionRelease(ctx, nil)
	fmt.Println(server.TTL("a-session-id"))
	// Output: 720h0m0s
}
