// Hashed ids together with what else a site may have configured.

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	goredis "github.com/go-redis/redis/v7"
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

// A process that cannot tell whose a session is moves it: it is found by its id, for as long as only that is in the index.
func TestTheIndexKeepsTheIDOfASessionThatMovedUnknown(t *testing.T) {
	accept, all := changingOver(t, "")
	config := strings.Replace(all.config, `"user_key":"uid",`, "", 1)
	unknowing := &site{T: t, config: config, raw: all.raw, Provider: open(t, config, life)}
	id := accept.create("uid", "ann")
	all.raw.ZAdd("user:{ann}", entry(id, 1000))
	unknowing.visit(id)
	for range 2 {
		all.wantSessionsOf("ann", hashed(id))
	}
	if n, err := all.DestroyAll(ctx, "ann"); n != 1 || err != nil {
		t.Errorf("DestroyAll = %d, %v", n, err)
	}
	all.oneForm("", id, "")
}

// Where a process has ended in the middle of a move, or a session was read under an id that was not looked for, there is more than one of an id.
func TestDestroyAllLeavesNothingUnderAnyName(t *testing.T) {
	for name, second := range map[string]func(s *site, id string){
		"what has waited": func(s *site, id string) {
			all := s.raw.Get(id).Val()
			s.visit(id)
			s.raw.Set("moved:{"+id+"}", all, time.Hour)
			s.raw.ZAdd("user:{ann}", entry(id, 1000))
		},
		"two sessions": func(s *site, id string) {
			s.read(s, id).SessionRelease(ctx, nil)
			s.raw.ZAdd("user:{ann}", entry(id, 1000))
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, list := range []bool{false, true} {
				accept, all := changingOver(t, "")
				id := accept.create("uid", "ann", "n", 1)
				second(all, id)
				if list {
					if got, err := all.SessionsOf(ctx, "ann"); len(got) != 1 || err != nil {
						t.Errorf("SessionsOf = %v, %v", got, err)
					}
				}
				if _, err := all.DestroyAll(ctx, "ann"); err != nil {
					t.Error(err)
				}
				all.raw.Del("gone:{"+id+"}", "gone:{"+hashed(id)+"}") // which ends
				for _, p := range []*site{accept, all} {
					if ok, err := p.SessionExist(ctx, id); ok || err != nil {
						t.Errorf("list %v: SessionExist of a session that was destroyed = %v, %v", list, ok, err)
					}
				}
			}
		})
	}
}

// The entry of a session in the index lasts as long as the life time that it has left, which is not that of the process that moves it.
func TestTheIndexOutlivesASessionThatMoves(t *testing.T) {
	accept, all := changingOver(t, "")
	accept.LifeTime(func(context.Context) time.Duration { return 100 * life * time.Second })
	id := accept.create("uid", "ann")
	all.visit(id)
	left, now := all.ttl(hashed(id)), time.Now()
	if left < 90*life*time.Second {
		t.Errorf("the session has %v left", left)
	}
	if ends := all.raw.ZScore("user:{ann}", hashed(id)).Val(); ends < float64(now.Add(left).Unix()) {
		t.Errorf("its entry lasts for %v, and the session for %v", time.Unix(int64(ends), 0).Sub(now), left)
	}
}

// What creates a session, and is repeated or late when that has moved to its hash, makes no other one.
func TestASessionThatHasMovedIsNotCreatedAgain(t *testing.T) {
	for _, topology := range lossyTopologies {
		if !topology.scripts {
			continue // where it may be
		}
		t.Run(topology.name, func(t *testing.T) {
			raw, connect := topology.start(t)
			for _, large := range []int{0, 10 << 10} {
				s := &twoProcesses{site: &site{T: t, raw: raw, config: `{"outage_time":"0s","hash_ids":"accept"}`}, network: new(network), log: captureLog(t)}
				s.Provider = s.open(connect, s.network)
				s.config = strings.Replace(s.config, `"accept"`, "true", 1)
				s.other = s.open(connect, nil)
				other := &site{T: t, raw: raw, Provider: s.other}
				id := newID()
				store := s.read(s, id)
				set(t, store, "n", 1, "large", strings.Repeat("x", large))
				s.network.lose("create.lua", 1, func() { other.change(id, "n", 2) })
				store.SessionRelease(ctx, nil)
				if len(s.network.lost) != 1 {
					t.Fatalf("lost %v", s.network.lost)
				}
				other.oneForm("", id, hashed(id))
				s.network.late(t, raw)
				other.oneForm("", id, hashed(id))
				set(t, store, "m", 1)
				store.SessionRelease(ctx, nil)
				if got := other.visit(id); got.Get(ctx, "n") != 2 || got.Get(ctx, "m") != 1 {
					t.Errorf("n = %v, m = %v", got.Get(ctx, "n"), got.Get(ctx, "m"))
				}
				s.silent()
			}
		})
	}
}

// pipelines notes what travels together.
type pipelines struct {
	hook
	all [][]string
}

func (h *pipelines) BeforeProcessPipeline(ctx context.Context, cmds []goredis.Cmder) (context.Context, error) {
	var sent []string
	for _, cmd := range cmds {
		sent = append(sent, strings.TrimSpace(fmt.Sprintln(cmd.Args()...)))
	}
	h.all = append(h.all, sent)
	return ctx, nil
}

// A session that moves away while it is looked for is found, or its grace is: that is asked for behind all names of the session.
func TestAGraceIsAskedForBehindTheSession(t *testing.T) {
	s := redistest.Start(t)
	for _, mode := range hashModes {
		sent, id := new(pipelines), newID()
		own := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
		t.Cleanup(func() { _ = own.Close() })
		own.AddHook(sent)
		p := redis.NewProvider(own)
		if err := p.SessionInit(ctx, life, `{"regenerate_grace":"1m","hash_ids":`+mode+`}`); err != nil {
			t.Fatal(err)
		}
		sent.all = nil
		if _, err := p.SessionRead(ctx, id); err != nil {
			t.Fatal(err)
		}
		asked := 0
		for _, pipeline := range sent.all {
			for i, cmd := range pipeline {
				if !strings.Contains(cmd, "grace:{") {
					continue
				}
				asked++
				for _, later := range pipeline[i:] {
					if later == "get "+id || later == "get "+hashed(id) {
						t.Errorf("%s: %q comes before %q", mode, cmd, later)
					}
				}
			}
		}
		if asked == 0 {
			t.Errorf("%s: nothing has asked for a grace", mode)
		}
	}
}

// A regenerate from an id that is taken back does not bring back what was logged out meanwhile by a process that has sessions under hashes.
func TestARegenerateThatIsTakenBackDoesNotUndoALogOut(t *testing.T) {
	for _, topology := range lossyTopologies {
		if !topology.scripts {
			continue // where it may
		}
		t.Run(topology.name, func(t *testing.T) {
			raw, connect := topology.start(t)
			s := &twoProcesses{site: &site{T: t, raw: raw, config: `{"outage_time":"0s","hash_ids":"accept"}`}, network: new(network), log: captureLog(t)}
			s.Provider = s.open(connect, s.network)
			s.config = strings.Replace(s.config, `"accept"`, "true", 1)
			other := &site{T: t, raw: raw, Provider: s.open(connect, nil)}
			id, next := s.create("n", 1), newID()
			s.network.lose(moving(topology.scripts, topology.oneServer), 1000, func() { other.destroyed(id) })
			if _, err := s.SessionRegenerate(ctx, id, next); err == nil {
				t.Error("SessionRegenerate succeeds")
			}
			s.network.heal()
			for _, p := range []*site{s.site, other} {
				if ok, err := p.SessionExist(ctx, id); ok || err != nil {
					t.Errorf("SessionExist after a log-out = %v, %v", ok, err)
				}
			}
		})
	}
}

// Of two regenerates at once, and one of which the replies are lost, neither loses the data where the session stands under its hash.
func TestTwoRegeneratesFromAHashLoseNothing(t *testing.T) {
	for _, topology := range lossyTopologies {
		t.Run(topology.name, func(t *testing.T) {
			raw, connect := topology.start(t)
			s := &twoProcesses{site: &site{T: t, raw: raw, config: `{"outage_time":"0s","hash_ids":"accept","regenerate_grace":"1m"}`}, network: new(network), log: captureLog(t)}
			s.Provider, s.other = s.open(connect, s.network), s.open(connect, nil)
			s.config = strings.Replace(s.config, `"accept"`, "true", 1)
			all := &site{T: t, raw: raw, Provider: s.open(connect, nil)}
			for _, times := range []int{1, 4, always} { // of the first
				id, next, second := all.create("user", "ann"), newID(), newID()
				s.network.lose(moving(topology.scripts, topology.oneServer), times, func() {
					if store, err := s.other.SessionRegenerate(ctx, id, second); err != nil || store.Get(ctx, "user") != nil {
						t.Errorf("the second regenerate: %v", err)
					}
				})
				_, err := s.SessionRegenerate(ctx, id, next)
				if len(s.network.lost) == 0 || times == 1 && err != nil {
					t.Errorf("lost %v, error %v", s.network.lost, err)
				}
				s.network.heal()
				s.network.late(t, raw)
				is := id
				if err == nil {
					is = next
					s.passes(all.Provider, id)
				}
				if got := all.visit(is).Get(ctx, "user"); got != "ann" {
					t.Errorf("%d times, %v: user = %v", times, err, got)
				}
			}
		})
	}
}

// What a process has left that ended in the middle of a move is no session: who looks for it under both names ends the move.
func TestAMoveIsEndedByWhoFindsIt(t *testing.T) {
	accept, all := changingOver(t, "")
	id := accept.create("n", 1)
	before := all.raw.Get(id).Val()
	held := accept.visit(id)
	all.visit(id)
	ended := func(by string) {
		t.Helper()
		if left := all.raw.Get("moved:{" + id + "}").Val(); left != "moved" {
			t.Errorf("%s has left %q", by, left)
		}
		all.raw.Set("moved:{"+id+"}", before, time.Hour)
	}
	all.raw.Set("moved:{"+id+"}", before, time.Hour)
	set(t, held, "m", 2)
	held.SessionRelease(ctx, nil)
	ended("a save")
	accept.change(id, "n", 2)
	ended("a request")
	if got := all.visit(id); got.Get(ctx, "n") != 2 || got.Get(ctx, "m") != 2 {
		t.Errorf("n = %v, m = %v", got.Get(ctx, "n"), got.Get(ctx, "m"))
	}
}
