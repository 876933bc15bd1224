// A site that changes over to hashed ids: beego applications in processes of their own, and a browser that all of them serve.

package redis_test

import (
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/beego-session/redis/internal/redistest"
)

func TestABrowserIsServedThroughAChangeoverToHashedIDs(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	urls := map[string]string{}
	for name, mode := range map[string]string{"false": "false", "accept": `"accept"`, "true": "true"} {
		urls[name] = countingSite(t, fmt.Sprintf(`{"save_path":%q,"hash_ids":%s}`, s.Addr(), mode))
	}
	browser := newBrowser(t, "")
	for i, step := range []struct{ site, path, want string }{
		{"false", "/", "1"}, {"false", "/login", "2"}, {"accept", "/", "3"}, {"false", "/", "4"}, {"accept", "/login", "5"}, {"false", "/", "6"},
		{"accept", "/", "7"}, {"true", "/", "8"}, {"accept", "/", "9"}, {"true", "/login", "10"}, {"accept", "/", "11"}, {"true", "/", "12"},
		{"accept", "/login", "13"}, {"true", "/", "14"}, {"true", "/", "15"}, {"accept", "/logout", "1"}, {"true", "/", "1"}, {"accept", "/", "2"},
		{"true", "/login", "3"}, {"true", "/logout", "1"}, {"accept", "/", "1"}, {"true", "/", "2"},
	} {
		browser.sees(fmt.Sprint("step ", i, " with ", step.site), urls[step.site]+step.path, step.want)
	}
	for key := range dump(t, s.Client(), "") {
		for site := range urls {
			thief := newBrowser(t, urls[site])
			thief.Jar.SetCookies(must(url.Parse(thief.url)), []*http.Cookie{{Name: "beegosessionID", Value: key}})
			thief.sees("with "+site+" the cookie "+key, "/", 1) // in a new session
		}
	}
}
