// Hashed ids together with what else a site may have configured.

package redis_test

import (
	"errors"
	"fmt"
	"testing"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
)

// changingOver opens a process with hash_ids "accept" and one with true on the same sessions.
func changingOver(t *testing.T, config string) (accept, all *site) {
	s := redistest.Start(t)
	captureLog(t)
	var sites []*site
	for _, mode := range hashModes[1:] {
		config := fmt.Sprintf(`{"save_path":%q,"user_key":"uid","hash_ids":%s%s}`, s.Addr(), mode, config)
		sites = append(sites, &site{T: t, config: config, raw: s.Client(), Provider: open(t, config, life)})
	}
	return sites[0], sites[1]
}

func TestAnUpdateFollowsASessionThatMoves(t *testing.T) {
	accept, all := changingOver(t, "")
	id := accept.create("n", 1)
	store := accept.visit(id)
	set(t, store, "mine", 1)
	all.change(id, "theirs", 1)
	if err := update(store, add("n", 1)); err != nil {
		t.Error(err)
	}
	set(t, store, "after", 1)
	store.SessionRelease(ctx, nil)
	got := all.visit(id)
	for key, want := range map[string]int{"n": 2, "mine": 1, "theirs": 1, "after": 1} {
		if got.Get(ctx, key) != want {
			t.Errorf("%s = %v, want %d", key, got.Get(ctx, key), want)
		}
	}
	all.oneForm("", id, hashed(id))

	id = accept.create("n", 1)
	store = accept.visit(id)
	all.visit(id)
	all.destroyed(id)
	if err := update(store, add("n", 1)); !errors.Is(err, redis.ErrGone) {
		t.Errorf("Update of a session that has moved and was destroyed = %v", err)
	}
	all.oneForm("", id, "")
}

func TestALogOutEndsAGraceUnderTheID(t *testing.T) {
	accept, all := changingOver(t, `,"regenerate_grace":"1m"`)
	for _, by := range []*site{accept, all} {
		for _, from := range []*site{accept, all} {
			id := from.create("n", 1)
			from.regenerated(id)
			by.passes(by.Provider, id)
			by.destroyed(id)
			for _, p := range []*site{accept, all} {
				if ok, err := p.SessionExist(ctx, id); ok || err != nil {
					t.Errorf("SessionExist after a log-out = %v, %v", ok, err)
				}
			}
		}
	}
}
