// A shop in two processes whose user clicks ten times at once.

package redis_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"sync"
	"testing"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/beego-session/redis"
	"github.com/beego/beego/v2/server/web"
	webcontext "github.com/beego/beego/v2/server/web/context"
	"github.com/beego/beego/v2/server/web/session"
)

func TestTenClicksAtOnceAreTen(t *testing.T) {
	t.Parallel()
	for _, clicks := range []int{10, 50} {
		m := miniredis.RunT(t)
		file := appConf(t, "SessionProviderConfig = "+m.Addr())
		var all sync.WaitGroup // the clicks that have read the session
		all.Add(clicks)
		barrier := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			all.Done()
			all.Wait()
		}))
		var shops []string
		for range 2 {
			shops = append(shops, startApplication(t, "TestShop", file, "SHOP_BARRIER="+barrier.URL))
		}
		browser := newBrowser(t, "")
		browser.get(shops[0] + "/")
		var clicked sync.WaitGroup
		for i := range clicks {
			clicked.Add(1)
			go func() {
				defer clicked.Done()
				browser.get(fmt.Sprintf("%s/click?n=%d", shops[i%2], i))
			}()
		}
		clicked.Wait()
		browser.sees(fmt.Sprint("after ", clicks, " clicks"), shops[1]+"/",
			fmt.Sprintf("cart %[1]d, sum %[1]d, update %[1]d; as it was: cart 1, count 1", clicks))
		barrier.Close()
	}
}

func TestShop(t *testing.T) {
	startBeego(t, given, shopRoutes)
	provider := must(session.GetProvider("redis")).(*redis.Provider)
	provider.MergeKey("sum", redis.Sum)
	provider.MergeKey("later cart", redis.Later)
	serve()
}

func shopRoutes() {
	web.Get("/", func(ctx *webcontext.Context) {
		cart, _ := ctx.Input.Session("cart").(map[string]any)
		later, _ := ctx.Input.Session("later cart").(map[string]any)
		_ = ctx.Output.Body([]byte(fmt.Sprintf("cart %d, sum %v, update %v; as it was: cart %d, count %v", len(cart),
			ctx.Input.Session("sum"), ctx.Input.Session("update"), len(later), ctx.Input.Session("count"))))
		if cart == nil {
			ctx.Output.Session("cart", map[string]any{})
			ctx.Output.Session("later cart", map[string]any{})
		}
	})
	web.Get("/click", func(ctx *webcontext.Context) {
		if err := update(ctx.Input.CruSession, func(store session.Store) error {
			n, _ := store.Get(ctx.Request.Context(), "update").(int)
			return store.Set(ctx.Request.Context(), "update", n+1)
		}); err != nil {
			panic(err)
		}
		increased := func(key string) int {
			n, _ := ctx.Input.Session(key).(int)
			return n + 1
		}
		for _, key := range []string{"cart", "later cart"} {
			ctx.Input.Session(key).(map[string]any)[ctx.Input.Query("n")] = 1
		}
		ctx.Output.Session("sum", increased("sum"))
		ctx.Output.Session("count", increased("count"))
		response, err := http.Get(os.Getenv("SHOP_BARRIER"))
		if err != nil {
			panic(err)
		}
		_ = response.Body.Close()
	})
}
