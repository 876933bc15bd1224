// What becomes of life times and ages when replies are lost, and commands come late.

package redis_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/record"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
)

func TestLifeTimesWhenAReplyIsLost(t *testing.T) {
	for _, topology := range lossyTopologies {
		t.Run(topology.name, func(t *testing.T) {
			raw, connect := topology.start(t)
			save, _ := saving(topology.scripts)
			move := moving(topology.scripts, topology.oneServer)
			for _, row := range []struct {
				behaviour string
				shown     func(s *twoProcesses)
			}{
				{"a save that is no activity does not shorten what came after it", func(s *twoProcesses) { pollSavedOnce(s, save) }},
				{"a life time of its own is set once, and by the next release if it was not", func(s *twoProcesses) { lifeTimeSetOnce(s, save) }},
				{"a life time that an Update sets is set once, and one that was set before it in any case", func(s *twoProcesses) { lifeTimeUpdatedOnce(s, save) }},
				{"an age begins anew once, and by the next release if it did not", func(s *twoProcesses) { ageBegunOnce(s, save) }},
				{"a renewal by who has read an older session is mended", staleRenewal},
				{"a session that moves has its life time, or that is told", func(s *twoProcesses) { movedLifeTime(s, topology.scripts && topology.oneServer) }},
				{"a session that is taken back has its life time when it is next used", func(s *twoProcesses) { takenBackLifeTime(s, move) }},
				{"a session that has reached max_age is removed once", func(s *twoProcesses) { agedOutOnce(s, topology.scripts) }},
			} {
				t.Run(row.behaviour, func(t *testing.T) {
					s := &twoProcesses{site: &site{T: t, raw: raw, config: `{"outage_time":"0s","max_age":"10h"}`}, network: new(network), log: captureLog(t)}
					s.Provider, s.other = s.open(connect, s.network), s.open(connect, nil)
					row.shown(s)
				})
			}
		})
	}
}

func pollSavedOnce(s *twoProcesses, save string) {
	for _, size := range []int{1, 10_000} {
		id := s.create("n", strings.Repeat("x", size))
		s.raw.Expire(id, 300*time.Second)
		store := s.readStore(s, id)
		store.NoActivity(ctx)
		set(s, store, "n", strings.Repeat("y", size))
		s.network.lose(save, 1, func() {
			s.change(s.other, id, "other", 1)
			s.lives("used by another", id, life*time.Second)
		})
		store.SessionRelease(ctx, nil)
		if len(s.network.lost) != 1 {
			s.Fatalf("lost %v", s.network.lost)
		}
		s.network.heal()
		s.holds(id, "n", strings.Repeat("y", size), "other", 1)
		s.lives("after the repeat", id, life*time.Second)
		s.network.late(s, s.raw)
		s.holds(id, "n", strings.Repeat("y", size), "other", 1)
		s.lives("when it came late", id, life*time.Second)

		// And it renews nothing by being sent twice.
		s.raw.Expire(id, 300*time.Second)
		store = s.readStore(s, id)
		store.NoActivity(ctx)
		set(s, store, "n", 2)
		s.network.lose(save, 1, nil)
		store.SessionRelease(ctx, nil)
		s.network.heal()
		s.network.late(s, s.raw)
		s.holds(id, "n", 2, "other", 1)
		s.lives("saved twice", id, 300*time.Second)
	}
	s.silent()
}

func lifeTimeSetOnce(s *twoProcesses, save string) {
	own := func(id string) time.Duration {
		return time.Duration(record.Value(s.raw.Get(id).Val()).OwnLife()) * time.Second
	}
	for _, executed := range []bool{true, false} {
		id := s.create("n", 0)
		store := s.readStore(s, id)
		s.ok(store.SetLifeTime(ctx, 4*time.Hour))
		s.network.lose(save, always, nil)
		s.network.requests = !executed
		store.SessionRelease(ctx, nil)
		if len(s.network.lost) == 0 {
			s.Fatal("nothing was lost")
		}
		s.network.heal()
		if (own(id) != 0) != executed {
			s.Errorf("executed %v: %v", executed, own(id))
		}

		// The next release of the store, which changes something else, finds out.
		set(s, store, "n", 1)
		store.SessionRelease(ctx, nil)
		s.holds(id, "n", 1)
		s.lives("set at last", id, 4*time.Hour)
		if own(id) != 4*time.Hour {
			s.Errorf("executed %v: its own life time is %v", executed, own(id))
		}
		s.network.late(s, s.raw)
		s.lives("when it came late", id, 4*time.Hour)
		s.holds(id, "n", 1)

		// If it was done, and another has set it after that, it is not done again; else the later release wins.
		store = s.readStore(s, id)
		s.ok(store.SetLifeTime(ctx, 5*time.Hour))
		s.network.lose(save, always, nil)
		s.network.requests = !executed
		store.SessionRelease(ctx, nil)
		s.network.heal()
		theirs := s.readStore(s.other, id)
		s.ok(theirs.SetLifeTime(ctx, 6*time.Hour))
		theirs.SessionRelease(ctx, nil)
		store.SessionRelease(ctx, nil)
		want := 5 * time.Hour
		if executed {
			want = 6 * time.Hour
		}
		s.lives("set by another", id, want)
		if own(id) != want {
			s.Errorf("executed %v: its own life time is %v, want %v", executed, own(id), want)
		}
		set(s, store, "n", 2)
		store.SessionRelease(ctx, nil)
		s.network.late(s, s.raw)
		s.lives("when it came late", id, want)
		s.network.sent, s.network.held = nil, nil
	}
}

func lifeTimeUpdatedOnce(s *twoProcesses, save string) {
	for _, executed := range []bool{true, false} {
		for _, conflict := range []bool{true, false} {
			for _, row := range []struct{ before, in, want time.Duration }{ // the last of those that were not executed
				{3 * time.Hour, 0, 3 * time.Hour},
				{0, 4 * time.Hour, life * time.Second},
				{3 * time.Hour, 4 * time.Hour, 3 * time.Hour},
			} {
				id := s.create("n", 0)
				store := s.readStore(s, id)
				if row.before != 0 {
					s.ok(store.SetLifeTime(ctx, row.before))
				}
				if err := s.lostUpdate(store, save, executed, func(view session.Store) {
					if row.in != 0 {
						s.ok(view.(*redis.SessionStore).SetLifeTime(ctx, row.in))
					}
				}); err == nil {
					s.Error("no error")
				}
				want, n := row.want, 0
				if got := s.stored(id)["n"]; got == 1 {
					want, n = max(want, row.in), 1
				}
				if conflict {
					s.change(s.other, id, "theirs", 1)
				}
				set(s, store, "later", 1)
				store.SessionRelease(ctx, nil)
				s.lives(fmt.Sprintf("executed %v, conflict %v, %v", executed, conflict, row), id, want)
				if got := s.stored(id); got["n"] != n || got["later"] != 1 {
					s.Errorf("executed %v, conflict %v, %v: stored is %v", executed, conflict, row, got)
				}
			}
		}
	}
}

func ageBegunOnce(s *twoProcesses, save string) {
	created := func(id string) time.Duration {
		return time.Since(record.Value(s.raw.Get(id).Val()).Created()).Round(time.Hour)
	}
	for _, executed := range []bool{true, false} {
		for _, alone := range []bool{true, false} {
			id, want := s.create("n", 0), []any{"n", 1}
			s.grow(id, 9*time.Hour)
			store := s.readStore(s, id)
			store.ResetAge(ctx)
			s.network.lose(save, always, nil)
			s.network.requests = !executed
			store.SessionRelease(ctx, nil)
			s.network.heal()
			if !alone {
				s.change(s.other, id, "other", 1)
				want = append(want, "other", 1)
			}
			set(s, store, "n", 1)
			store.SessionRelease(ctx, nil)
			s.holds(id, want...)
			if created(id) != 0 {
				s.Errorf("executed %v, alone %v: it is %v old", executed, alone, created(id))
			}
		}

		// If it was done it is not done again.
		id := s.create("n", 0)
		s.grow(id, 8*time.Hour)
		store := s.readStore(s, id)
		store.ResetAge(ctx)
		s.network.lose(save, always, nil)
		s.network.requests = !executed
		store.SessionRelease(ctx, nil)
		s.network.heal()
		s.grow(id, 7*time.Hour) // which nobody can do but a test
		store.SessionRelease(ctx, nil)
		want := 0 * time.Hour
		if executed {
			want = 7 * time.Hour
		}
		if created(id) != want {
			s.Errorf("executed %v: it is %v old, want %v", executed, created(id), want)
		}
	}
}

func staleRenewal(s *twoProcesses) {
	for _, lost := range []string{"", "expire", "get"} {
		id := s.create("n", 0)
		s.raw.Expire(id, 500*time.Second)
		underWay := s.read(s, id)
		login := s.readStore(s.other, id)
		s.ok(login.SetLifeTime(ctx, 3*time.Hour))
		login.SessionRelease(ctx, nil)
		if lost != "" {
			s.network.lose(lost, 1, nil)
		}
		underWay.SessionRelease(ctx, nil)
		s.network.heal()
		s.lives("renewed by a request that has read it before a log-in", id, 3*time.Hour)
	}
	s.silent()
}

func movedLifeTime(s *twoProcesses, byScript bool) {
	remembered := func() (id string) {
		id = newID()
		store := s.readStore(s, id)
		s.ok(store.SetLifeTime(ctx, 3*time.Hour))
		set(s, store, "n", 1)
		store.SessionRelease(ctx, nil)
		return id
	}
	failures := told(s.Provider)
	id, next := remembered(), newID()
	if _, err := s.SessionRegenerate(ctx, id, next); err != nil {
		s.Fatal(err)
	}
	s.lives("moved", next, 3*time.Hour)

	id, next = remembered(), newID()
	s.network.lose("expire", 1, nil)
	if _, err := s.SessionRegenerate(ctx, id, next); err != nil {
		s.Fatal(err)
	}
	s.network.heal()
	s.lives("moved, and a reply lost", next, 3*time.Hour)
	if f := failures(); len(f) != 0 {
		s.Errorf("told %v", f)
	}
	if !byScript {
		return // it has its life time with the copy
	}
	for _, requests := range []bool{true, false} {
		id, next = remembered(), newID()
		s.network.lose("expire", always, nil)
		s.network.requests = requests
		store, err := s.SessionRegenerate(ctx, id, next)
		if err != nil || store.Get(ctx, "n") != 1 {
			s.Fatal(err)
		}
		s.network.heal()
		if f := failures(); len(f) != 1 || f[0].Operation != "renew the life time of" {
			s.Errorf("told %v", f)
		}
		if requests {
			s.lives("without the life time of its own", next, life*time.Second)
		}
		store.SessionRelease(ctx, nil)
		s.lives("and when it was used", next, 3*time.Hour)
	}
}

func takenBackLifeTime(s *twoProcesses, move string) {
	id, next := newID(), newID()
	store := s.readStore(s, id)
	s.ok(store.SetLifeTime(ctx, 3*time.Hour))
	set(s, store, "n", 1)
	store.SessionRelease(ctx, nil)
	s.network.lose(move, 4, nil)
	if store, err := s.SessionRegenerate(ctx, id, next); store != nil || err == nil {
		s.Fatalf("SessionRegenerate = %v, %v", store, err)
	}
	s.network.heal()
	s.holds(id, "n", 1)
	s.read(s, id).SessionRelease(ctx, nil)
	s.lives("taken back", id, 3*time.Hour)
}

func agedOutOnce(s *twoProcesses, scripts bool) {
	for _, lost := range []string{"", "remove.lua", "expire"} {
		id := s.create("secret", 1)
		s.grow(id, 10*time.Hour)
		if lost != "" {
			s.network.lose(lost, 1, nil)
		}
		store := s.read(s, id)
		s.network.heal()
		if got := store.Get(ctx, "secret"); got != nil {
			s.Errorf("it shows %v", got)
		}
		set(s, store, "n", 2)
		store.SessionRelease(ctx, nil)
		s.holds(id, "n", 2)
		s.network.late(s, s.raw)
		s.holds(id, "n", 2)
	}

	// A log-in that comes right before that keeps it.
	if !scripts {
		return
	}
	id := s.create("a", 1)
	login := s.readStore(s.other, id)
	login.ResetAge(ctx)
	set(s, login, "user", "ann")
	s.grow(id, 10*time.Hour)
	s.network.lose("remove.lua", 1, func() { login.SessionRelease(ctx, nil) })
	s.network.requests = true
	if got := s.read(s, id).Get(ctx, "user"); got != "ann" {
		s.Errorf("a log-in at the last moment: the user is %v", got)
	}
	s.network.heal()
	s.network.late(s, s.raw)
	s.holds(id, "a", 1, "user", "ann")
	s.silent()
}

// The life time that is left is never sent with a SET that compares, which a server hands on to its replicas in these words.
func TestWhatIsLeftOfALifeTimeIsKeptByAScript(t *testing.T) {
	patientlyAsked(t)
	captureLog(t)
	m := miniredis.RunT(t)
	ifeq, refuse := redistest.IFEQ(m), false
	var swaps [][]string
	m.Server().SetPreHook(func(c *server.Peer, cmd string, args ...string) bool {
		if cmd == "SET" && len(args) > 3 && strings.EqualFold(args[2], "ifeq") && args[3] != "?" {
			swaps = append(swaps, args[2:])
		}
		if cmd == "EVALSHA" && refuse {
			c.WriteError("ERR unknown command 'evalsha'")
			return true
		}
		return ifeq(c, cmd, args...)
	})
	s := &site{T: t, raw: rawClient(t, at(m.Addr())), Provider: open(t, m.Addr(), life)}
	id := s.create("a", 0)
	s.use(s, id, "a", 1)
	s.use(s, id, "a", 2)
	if len(swaps) == 0 {
		t.Fatal("the server is not known to have IFEQ")
	}
	poll := func(p *redis.Provider, value int) {
		t.Helper()
		swaps = nil
		s.raw.Expire(id, 300*time.Second)
		store := s.readStore(p, id)
		store.NoActivity(ctx)
		set(t, store, "a", value)
		store.SessionRelease(ctx, nil)
		s.holds(id, "a", value)
		s.lives("polled", id, 300*time.Second)
	}
	if poll(s.Provider, 3); len(swaps) != 0 {
		t.Errorf("sent %v", swaps)
	}
	// Without scripts it is asked for, and sent as a number.
	refuse = true
	p := open(t, m.Addr(), life)
	s.use(p, id, "a", 4)
	if poll(p, 5); len(swaps) != 1 || !slices.Contains(swaps[0], "px") {
		t.Errorf("sent %v", swaps)
	}
	swaps = nil
	s.raw.Persist(id)
	store := s.readStore(p, id)
	store.NoActivity(ctx)
	set(t, store, "a", 6)
	store.SessionRelease(ctx, nil)
	if s.holds(id, "a", 6); s.ttl(id) >= 0 || len(swaps) != 0 {
		t.Errorf("of one that lives for ever is left %v, sent %v", s.ttl(id), swaps)
	}
}

// This waits for a session to grow old: what a request has read was younger.
func TestASessionReachesMaxAgeDuringARequest(t *testing.T) {
	captureLog(t)
	for _, topology := range lossyTopologies {
		t.Run(topology.name, func(t *testing.T) {
			t.Parallel()
			raw, connect := topology.start(t)
			s := &twoProcesses{site: &site{T: t, raw: raw, config: `{"max_age":"4s"}`}}
			s.Provider = s.open(connect, nil)
			failures := told(s.Provider)
			ids := make([]string, 4)
			for i := range ids {
				ids[i] = s.create("a", 1)
				raw.Expire(ids[i], 300*time.Second) // as a process without max_age does
			}
			changes, reads, resets, merges := s.read(s, ids[0]), s.read(s, ids[1]), s.readStore(s, ids[2]), s.read(s, ids[3])
			set(s, changes, "b", 2)
			resets.ResetAge(ctx)
			set(s, merges, "b", 2)
			await(t, "the sessions to reach max_age", func() bool {
				for _, id := range ids {
					if ok, err := s.SessionExist(ctx, id); ok || err != nil {
						s.ok(err)
						return false
					}
				}
				return true
			})
			before := raw.Get(ids[0]).Val()
			changes.SessionRelease(ctx, nil)
			if f := failures(); len(f) != 1 || f[0].Kind != redis.KindVanished || raw.Get(ids[0]).Val() != before {
				t.Errorf("a change of what has reached max_age: told %v", f)
			}
			reads.SessionRelease(ctx, nil)
			s.lives("one that was only read", ids[1], 300*time.Second)
			resets.SessionRelease(ctx, nil)
			s.grow(ids[3], 0) // as a log-in of another request does
			merges.SessionRelease(ctx, nil)
			if reset, merged := s.stored(ids[2]), s.stored(ids[3]); len(reset) != 1 || len(merged) != 2 {
				t.Errorf("saved are %v and %v", reset, merged)
			}
			if age := time.Since(record.Value(raw.Get(ids[2]).Val()).Created()); age > 2*time.Second {
				t.Errorf("one whose age began anew is %v old", age)
			}
			if f := failures(); len(f) != 0 {
				t.Errorf("told %v", f)
			}
		})
	}
}

func TestTheLongestLifeTimeOfASession(t *testing.T) {
	server := redistest.Start(t)
	captureLog(t)
	config := fmt.Sprintf(`{"save_path":%q,"user_key":"uid"}`, server.Addr())
	s := &site{T: t, config: config, raw: server.Client(), Provider: open(t, config, life)}
	failures := told(s.Provider)
	id, next := newID(), newID()
	longest := (math.MaxInt64/time.Second - 1) * time.Second // a second later is still a time.Duration
	store := s.readStore(s, id)
	s.ok(store.SetLifeTime(ctx, longest))
	set(s, store, "uid", "ann")
	store.SessionRelease(ctx, nil)
	s.lives("new", id, longest)
	s.raw.Expire(id, 100*365*24*time.Hour)
	s.read(s, id).SessionRelease(ctx, nil)
	s.lives("renewed", id, longest)
	_, err := s.SessionRegenerate(ctx, id, next)
	s.ok(err)
	s.lives("moved", next, longest)
	s.wantSessionsOf("ann", next)
	if f := failures(); len(f) != 0 {
		t.Errorf("told %v", f)
	}
}
