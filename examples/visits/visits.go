// The controller: what each request does with its session.

package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	_ "embed"
	"encoding/gob"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	sessions "github.com/beego-session/redis"
	"github.com/beego-session/redis/examples/visits/trials"

	"github.com/beego/beego/v2/core/logs"
	"github.com/beego/beego/v2/server/web"
	beecontext "github.com/beego/beego/v2/server/web/context"
	"github.com/go-redis/redis/v7"
)

// A process must know the types in its sessions before it reads one that an earlier process wrote.
func init() {
	gob.Register(map[string]int{})
	gob.Register(time.Time{})
}

// shelf is what the basket can hold.
var shelf = []string{"Apples", "Bread", "Cheese", "Coffee"}

const (
	maxName  = trials.MaxName // characters
	maxCount = 99             // of one item
)

// visits serves every page. Beego makes a new one for each request and copies the exported fields.
type visits struct {
	web.Controller
	Redis    *redis.Client
	Embedded bool
	Compare  bool
	Started  time.Time
}

// provider is what keeps the sessions. Beego has it once it has started.
func provider() *sessions.Provider { return web.GlobalSessions.GetProvider().(*sessions.Provider) }

// Prepare runs before every action. A form must bring the token that only pages of the same session hold, so that no
// other site can send it. (Beego's own protection sets a cookie that some browsers accept over HTTPS only.)
func (c *visits) Prepare() {
	c.StartSession()
	if !c.Ctx.Input.IsPost() {
		return
	}
	token := get[string](c, "token")
	if token == "" || subtle.ConstantTimeCompare([]byte(token), []byte(c.GetString("token"))) == 0 {
		c.show(http.StatusForbidden, "That form belongs to a session that has ended. Nothing was changed: please try again.")
		c.StopRun()
	}
}

// Get counts a visit and shows the page.
func (c *visits) Get() {
	c.SetSession("visits", get[int](c, "visits")+1)
	c.show(http.StatusOK, web.ReadFromRequest(&c.Controller).Data["notice"])
}

// LogIn takes any name. The session keeps what is in it and gets a new id: whoever knew the old one is left outside.
func (c *visits) LogIn() {
	name := strings.TrimSpace(c.GetString("name"))
	if name == "" || utf8.RuneCountInString(name) > maxName {
		c.back(fmt.Sprintf("A name has 1 to %d characters.", maxName))
		return
	}
	oldID := c.id()
	if err := c.SessionRegenerateID(); err != nil {
		c.fail(err) // and no further: there is no session now, and SetSession would panic
	}
	c.SetSession("name", name)
	c.SetSession("was", abridged(oldID))
	c.DelSession("token")
	c.back("")
}

// Basket puts one more of an item into the basket, or takes one out.
func (c *visits) Basket() {
	item := c.GetString("item")
	if !slices.Contains(shelf, item) {
		c.CustomAbort(http.StatusBadRequest, "There is no such item.")
	}
	basket := get[map[string]int](c, "basket")
	if basket == nil {
		basket = make(map[string]int)
		c.SetSession("basket", basket)
	}
	// The map in the session is changed in place, and saved like one that was set.
	if c.GetString("do") == "remove" {
		basket[item]--
	} else {
		basket[item] = min(basket[item]+1, maxCount)
	}
	if basket[item] <= 0 {
		delete(basket, item)
	}
	c.Redirect("/#basket", http.StatusSeeOther)
}

// LogOut forgets the session, in the browser and in Redis.
func (c *visits) LogOut() {
	// DestroySession would do it all, but not tell when Redis could not be reached.
	if err := provider().SessionDestroy(context.Background(), c.id()); err != nil {
		c.fail(err)
	}
	if err := c.DestroySession(); err != nil {
		c.fail(err)
	}
	c.back("You are logged out. Your session is gone from Redis, and its id opens nothing any more.")
}

// End ends another session of the user. Only theirs are looked at, so that nobody can end those of others.
func (c *visits) End() {
	for _, s := range c.sessionsOfUser() {
		if fingerprint(s.ID) == c.GetString("session") {
			if err := provider().SessionDestroy(context.Background(), s.ID); err != nil {
				c.fail(err)
			}
		}
	}
	c.Redirect("/#sessions", http.StatusSeeOther)
}

// EndOthers logs the user out everywhere but here.
func (c *visits) EndOthers() {
	if name := get[string](c, "name"); name != "" {
		if _, err := provider().DestroyAll(context.Background(), name, c.id()); err != nil {
			c.fail(err)
		}
	}
	c.Redirect("/#sessions", http.StatusSeeOther)
}

// sessionsOfUser returns the sessions of who is logged in. Here that is a name that anybody may take: an application asks for a
// password first, and has the number of the account for a user.
func (c *visits) sessionsOfUser() []sessions.SessionInfo {
	name := get[string](c, "name")
	if name == "" {
		return nil
	}
	found, err := provider().SessionsOf(c.Ctx.Request.Context(), name)
	if err != nil {
		c.fail(err)
	}
	return found
}

// back answers a form: the browser then asks for the page, and a reload sends nothing twice.
func (c *visits) back(notice string) {
	if notice != "" {
		flash := web.NewFlash()
		flash.Data["notice"] = notice
		flash.Store(&c.Controller)
	}
	c.Redirect("/", http.StatusSeeOther)
}

func (c *visits) fail(err error) {
	logs.Error(err)
	c.Abort("503")
}

//go:embed page.js
var pageJS []byte

// script sends what the page's buttons run. It is a filter, before beego has started a session, because it needs none.
func script(ctx *beecontext.Context) {
	ctx.Output.Header("Content-Type", "text/javascript; charset=utf-8")
	ctx.Output.Header("Cache-Control", "no-cache")
	if err := ctx.Output.Body(pageJS); err != nil {
		logs.Error(err)
	}
}

//go:embed page.html
var pageHTML string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{"minutes": minutes}).Parse(pageHTML))

// page is what page.html shows.
type page struct {
	Notice   string
	Token    string
	Server   string
	Embedded bool
	Compare  bool
	Started  time.Time // the application

	ID, Was     string    // abridged; Was is the id before a log-in that has just been
	Began       time.Time // the session
	Found, Left time.Duration
	Ends        time.Time

	Name   string
	Visits int
	Items  []item
	Values []value

	Here   sessionOfUser
	Others []sessionOfUser
}

type item struct {
	Name  string
	Count int
}

type value struct{ Key, Type, Text string }

type sessionOfUser struct {
	ID, Fingerprint string // the id is abridged
	Began, Seen     time.Time
}

// show sends the page.
func (c *visits) show(status int, notice string) {
	p := c.page(notice)
	header := c.Ctx.ResponseWriter.Header()
	header.Set("Content-Type", "text/html; charset=utf-8")
	header.Set("Cache-Control", "no-store") // nobody sees it by going back after the log-out
	header.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; connect-src 'self'; "+
		"style-src 'unsafe-inline'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	c.Ctx.ResponseWriter.WriteHeader(status)
	if err := pageTemplate.Execute(c.Ctx.ResponseWriter, p); err != nil {
		logs.Error(err)
	}
}

// page saves the session and tells what is in it then.
func (c *visits) page(notice string) page {
	p := page{
		Notice:   notice,
		Token:    c.token(),
		Server:   c.Redis.Options().Addr,
		Embedded: c.Embedded,
		Compare:  c.Compare,
		Started:  c.Started,
		ID:       abridged(c.id()),
		Was:      get[string](c, "was"),
		Began:    c.began(),
		Found:    c.lifeTime(),
		Name:     get[string](c, "name"),
		Visits:   get[int](c, "visits"),
	}
	c.DelSession("was")
	for _, name := range shelf {
		p.Items = append(p.Items, item{name, get[map[string]int](c, "basket")[name]})
	}
	for _, key := range []string{"name", "visits", "basket"} {
		if v := c.GetSession(key); v != nil {
			p.Values = append(p.Values, value{key, fmt.Sprintf("%T", v), fmt.Sprint(v)})
		}
	}

	// Beego saves when the request ends, but by then the browser may be back already. It finds nothing left to save.
	c.CruSession.SessionRelease(c.Ctx.Request.Context(), c.Ctx.ResponseWriter)
	p.Left = c.lifeTime()
	p.Ends = time.Now().Add(p.Left)

	for _, s := range c.sessionsOfUser() {
		shown := sessionOfUser{abridged(s.ID), fingerprint(s.ID), s.Created, s.LastSeen}
		if s.ID == c.id() {
			p.Here = shown
		} else {
			p.Others = append(p.Others, shown)
		}
	}
	return p
}

// get returns what the session holds under a key, or the zero value.
func get[T any](c *visits, key string) T {
	v, _ := c.GetSession(key).(T)
	return v
}

// token returns the session's token for its forms.
func (c *visits) token() string {
	token := get[string](c, "token")
	if token == "" {
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			c.fail(err)
		}
		token = hex.EncodeToString(random)
		c.SetSession("token", token)
	}
	return token
}

// began returns when the session was new.
func (c *visits) began() time.Time {
	began := get[time.Time](c, "began")
	if began.IsZero() {
		began = time.Now()
		c.SetSession("began", began)
	}
	return began
}

// lifeTime asks Redis how long the session will live if nobody uses it. It is 0 where Redis does not have the session.
func (c *visits) lifeTime() time.Duration {
	left, err := c.Redis.PTTL(c.id()).Result()
	if err != nil {
		logs.Error(err)
	}
	return max(left, 0)
}

func (c *visits) id() string { return c.CruSession.SessionID(context.Background()) }

// abridged is as much of a session id as may be shown, because the whole of it is a key to the session.
func abridged(id string) string { return id[:min(6, len(id))] + "…" }

// fingerprint names a session on a page, where the id, which is a key to the session, must not stand.
func fingerprint(id string) string {
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

func minutes(d time.Duration) string {
	s := int(d.Round(time.Second).Seconds())
	return fmt.Sprintf("%d min %02d s", s/60, s%60)
}
