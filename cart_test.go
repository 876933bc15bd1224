// A shop in two processes whose user clicks ten times at once.

package redis_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
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
		file := filepath.Join(t.TempDir(), "app.conf")
		conf := "appname = test\nrunmode = prod\nsessionon = true\nsessionprovider = redis\nSessionProviderConfig = " + m.Addr() + "\n"
		if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup // the clicks that have read the session
		all.Add(clicks)
		barrier := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			all.Done()
			all.Wait()
		}))
		shops := []string{startShop(t, file, barrier.URL), startShop(t, file, barrier.URL)}
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		browser := &http.Client{Jar: jar}
		get := func(url string) string {
			response, err := browser.Get(url)
			if err != nil {
				t.Error(err)
				return ""
			}
			defer response.Body.Close()
			body, _ := io.ReadAll(response.Body)
			return string(body)
		}
		get(shops[0] + "/")
		var clicked sync.WaitGroup
		for i := range clicks {
			clicked.Add(1)
			go func() {
				defer clicked.Done()
				get(fmt.Sprintf("%s/click?n=%d", shops[i%2], i))
			}()
		}
		clicked.Wait()
		want := fmt.Sprintf("cart %[1]d, sum %[1]d, update %[1]d; as it was: cart 1, count 1", clicks)
		if got := get(shops[1] + "/"); got != want {
			t.Errorf("after %d clicks: %s, want %s", clicks, got, want)
		}
		barrier.Close()
	}
}

// startShop starts the shop in a process of its own, until the test ends, and returns its URL.
func startShop(t *testing.T, conf, barrier string) (url string) {
	t.Helper()
	child := exec.Command(os.Args[0], "-test.run=^TestShop$", "-test.v")
	child.Env = append(os.Environ(), "SHOP_CONF="+conf, "SHOP_BARRIER="+barrier)
	stdin, _ := child.StdinPipe()
	stdout, _ := child.StdoutPipe()
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		if err := child.Wait(); err != nil {
			t.Error(err)
		}
	})
	for text := ""; ; {
		part := make([]byte, 4096)
		n, err := stdout.Read(part)
		text += string(part[:n])
		if _, rest, found := strings.Cut(text, "the shop is at "); found && strings.Contains(rest, "\n") {
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0])
		} else if err != nil {
			t.Fatalf("the shop does not start: %s", text)
		}
	}
}

func TestShop(t *testing.T) {
	file := os.Getenv("SHOP_CONF")
	if file == "" {
		t.Skip("is run by TestTenClicksAtOnceAreTen, in processes of its own")
	}
	if err := web.LoadAppConfig("ini", file); err != nil {
		t.Fatal(err)
	}
	provider, err := session.GetProvider("redis")
	if err != nil {
		t.Fatal(err)
	}
	provider.(*redis.Provider).MergeKey("sum", redis.Sum)
	provider.(*redis.Provider).MergeKey("later cart", redis.Later)
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
	web.InitBeegoBeforeTest(file)
	server := httptest.NewServer(web.BeeApp.Handlers)
	defer server.Close()
	fmt.Println("the shop is at " + server.URL)
	_, _ = io.Copy(io.Discard, os.Stdin) // until the parent has closed it
}
