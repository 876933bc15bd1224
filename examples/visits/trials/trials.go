// Package trials shows what a session provider makes of requests that come at a bad time. Its controller is the same on any of them:
// visits runs it on this one, and the program in ../compare on beego's own.
package trials

import (
	"context"
	"encoding/gob"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/beego/beego/v2/core/logs"
	"github.com/beego/beego/v2/server/web"
	"github.com/beego/beego/v2/server/web/session"
)

// A process must know the types in its sessions before it reads one that another process wrote.
func init() { gob.Register(map[string]int{}) }

// MaxName is how many characters a name may have.
const MaxName = 40

// Route adds the trials to beego's routes.
func Route() {
	web.Router("/trials", &controller{})
	web.Router("/trials/login", &controller{}, "post:LogIn")
	web.Router("/trials/together", &controller{}, "post:Together")
	web.Router("/trials/late", &controller{}, "post:Late")
	web.Router("/trials/logout", &controller{}, "post:LogOut")
}

// controller answers the script of the page. Beego has read the session when an action begins, and saves it when the action has
// ended. The answer, which is short, leaves after that.
type controller struct {
	web.Controller
}

// state is what there is of a session.
type state struct {
	Found  bool           `json:"found"`
	Name   string         `json:"name"`
	Basket map[string]int `json:"basket"`
}

func stateOf(s session.Store) state {
	name, _ := s.Get(context.Background(), "name").(string)
	basket, _ := s.Get(context.Background(), "basket").(map[string]int)
	return state{true, name, basket}
}

// Prepare runs before every action. A page of another site can send a form here, but not with the header that IsAjax asks for.
func (c *controller) Prepare() {
	c.StartSession()
	if c.Ctx.Input.IsPost() && !c.IsAjax() {
		c.CustomAbort(http.StatusForbidden, "This is for the script of the page.")
	}
}

// Get tells what is in the session.
func (c *controller) Get() {
	c.answer(stateOf(c.CruSession))
}

// LogIn takes any name. The session gets a new id, so that whoever knew the old one is left outside.
func (c *controller) LogIn() {
	name := strings.TrimSpace(c.GetString("name"))
	if name == "" || utf8.RuneCountInString(name) > MaxName {
		c.CustomAbort(http.StatusBadRequest, "That is no name.")
	}
	if err := c.SessionRegenerateID(); err != nil {
		c.fail(err) // and no further: there is no session now, and SetSession would panic
	}
	c.SetSession("name", name)
	c.Get()
}

// Together is one of two requests that change a session at the same time: either has read it before the other saves it.
func (c *controller) Together() {
	c.meet("together")
	c.add()
	c.Get()
}

// Late is a slow request, whose user logs out while it is under way. It tells what there is of the session in the end.
func (c *controller) Late() {
	id := c.id()
	c.meet("begun")
	c.meet("logged out")
	c.add()
	c.CruSession.SessionRelease(context.Background(), c.Ctx.ResponseWriter) // as beego does, but in time to look at what it leaves

	provider := web.GlobalSessions.GetProvider()
	found, err := provider.SessionExist(context.Background(), id)
	if err != nil {
		c.fail(err)
	}
	if !found {
		c.answer(state{})
		return
	}
	left, err := provider.SessionRead(context.Background(), id)
	if err != nil {
		c.fail(err)
	}
	c.answer(stateOf(left))
}

// LogOut forgets the session while a Late is under way, in the browser and in Redis.
func (c *controller) LogOut() {
	c.meet("begun")
	if err := web.GlobalSessions.GetProvider().SessionDestroy(context.Background(), c.id()); err != nil {
		c.fail(err)
	}
	if err := c.DestroySession(); err != nil {
		c.fail(err)
	}
	c.meet("logged out")
	c.answer(state{})
}

// add puts an item into the basket, with no thought of other requests.
func (c *controller) add() {
	basket, _ := c.GetSession("basket").(map[string]int)
	if basket == nil {
		basket = make(map[string]int)
		c.SetSession("basket", basket)
	}
	basket[c.GetString("item")]++
}

// meet waits for the other request of this session to come to a point.
func (c *controller) meet(point string) {
	if !meet(c.id() + " " + point) {
		c.CustomAbort(http.StatusConflict, "The other request did not come.")
	}
}

func (c *controller) id() string { return c.CruSession.SessionID(context.Background()) }

func (c *controller) answer(s state) {
	c.Ctx.Output.Header("Cache-Control", "no-store")
	c.Data["json"] = s
	if err := c.ServeJSON(); err != nil {
		logs.Error(err)
	}
}

func (c *controller) fail(err error) {
	logs.Error(err)
	c.CustomAbort(http.StatusServiceUnavailable, "The sessions cannot be reached.")
}
