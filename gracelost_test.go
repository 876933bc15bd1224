// The grace of an id when replies are lost, behind proxies, and what it costs.

package redis_test

import (
	"fmt"
	"strings"
	"testing"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
)

// Whatever reply is lost while a session moves, and for how long: where it is not under its old id, that has its grace.
func TestTheGraceWhenAReplyIsLost(t *testing.T) {
	for _, topology := range lossyTopologies {
		t.Run(topology.name, func(t *testing.T) {
			captureLog(t)
			raw, connect := topology.start(t)
			s := &twoProcesses{site: &site{T: t, raw: raw, config: `{"regenerate_grace":"1m","outage_time":"0s"}`}, network: new(network)}
			s.Provider, s.other = s.open(connect, s.network), s.open(connect, nil)
			var moved, stayed int
			for _, values := range [][]any{{"n", 1}, nil} {
				for _, requests := range []bool{false, true} {
					for _, times := range []int{1, 4, always} {
						for first := range redistest.Times(2, 3) { // the first command whose reply is lost, of all that are sent
							old, next := newID(), newID()
							if values != nil {
								old = s.create(values...)
							}
							left, after := first, times
							s.network.lose("", 0, nil)
							s.network.mu.Lock()
							s.network.requests = requests
							s.network.loses = func(string) bool {
								if left > 0 {
									left--
									return false
								}
								after--
								return after >= 0
							}
							s.network.mu.Unlock()
							_, err := s.SessionRegenerate(ctx, old, next)
							s.network.heal()
							there := raw.Exists(old).Val() == 1
							if there {
								stayed++
								s.holds(old, values...)
							} else if moved++; err == nil || values != nil {
								s.passes(s.other, old)
							}
							if err == nil && there {
								t.Error("the session is under its old id as well")
							}
							if err == nil {
								s.holds(next, values...)
							}
							s.network.late(s, raw)
							if !there && (err == nil || values != nil) {
								s.passes(s.other, old)
							}
						}
					}
				}
			}
			t.Logf("%d moved, %d stayed", moved, stayed)
			if moved == 0 || stayed == 0 {
				t.Error("one of the two did not come up")
			}
		})
	}
}

// A grace that begins late, when its id has no session any more, makes it an empty one, and a session that is there stays.
func TestAGraceThatComesLate(t *testing.T) {
	server := redistest.Start(t)
	s := &site{T: t, config: fmt.Sprintf(`{"save_path":%q}`, server.Addr()), raw: server.Client()}
	s.Provider = s.graceful()
	id := s.create("n", 1)
	server.Client().SetNX("grace:{"+id+"}", "", 0)
	s.holds(id, "n", 1)
	s.raw.Del(id)
	s.passes(s.Provider, id)
	next := newID()
	if _, err := s.SessionRegenerate(ctx, id, next); err != nil {
		t.Error(err)
	}
	s.holds(next)
	if left := s.ttl("grace:{" + id + "}"); left <= 0 {
		t.Errorf("the grace lasts for %v", left)
	}
}

func TestTheGraceBehindTwemproxy(t *testing.T) {
	for name, row := range map[string]struct{ hashTag, config string }{
		"keys with a tag together": {"{}", `{"save_path":%q}`},
		"keys with a tag apart":    {"", `{"save_path":%q}`},
		"configured":               {"{}", `{"save_path":%q,"sharded":true}`},
		"configured wrongly":       {"{}", `{"save_path":%q,"sharded":false}`},
	} {
		t.Run(name, func(t *testing.T) {
			addr := redistest.Twemproxy(t, row.hashTag, redistest.Start(t), redistest.Start(t))
			captureLog(t)
			s := &site{T: t, config: fmt.Sprintf(row.config, addr), raw: rawClient(t, at(addr))}
			s.Provider = open(t, s.config, life)
			p := s.graceful()
			for n := range 20 {
				old := s.create("n", n)
				id := s.loggedIn(p, old)
				s.passes(p, old)
				again := s.loggedIn(p, old)
				s.passes(p, old)
				s.holds(id, "n", n, "user", "of "+id[:6])
				s.holds(again, "user", "of "+again[:6])
				if err := p.SessionDestroy(ctx, old); err != nil {
					t.Error(err)
				}
				if ok, err := p.SessionExist(ctx, old); ok || err != nil {
					t.Errorf("SessionExist after a destroy = %v, %v", ok, err)
				}
			}
			graceFromTheMoveOn(s)
		})
	}
}

// Where the keys beside a session may be on another server, that one's trouble is none of who finds the session.
func TestTheGraceBehindTwemproxyOfWhichOneServerIsDown(t *testing.T) {
	servers := []*redistest.Server{redistest.Start(t), redistest.Start(t)}
	addr := redistest.Twemproxy(t, "", servers...)
	captureLog(t)
	s := &site{T: t, config: fmt.Sprintf(`{"save_path":%q,"outage_time":"0s","max_retries":-1}`, addr), raw: rawClient(t, at(addr))}
	s.Provider = s.graceful()
	var there, elsewhere int
	var ids []string
	for range 40 {
		ids = append(ids, s.create("n", 1))
	}
	onFirst := map[string]bool{}
	for _, id := range ids {
		onFirst[id] = servers[0].Client().Exists(id).Val() == 1
	}
	servers[1].Kill()
	for _, id := range ids {
		switch ok, err := s.SessionExist(ctx, id); {
		case onFirst[id] && ok && err == nil:
			there++
		case onFirst[id]:
			t.Errorf("SessionExist of a session that can be reached = %v, %v", ok, err)
		case err == nil:
			t.Errorf("SessionExist of one that cannot = %v", ok)
		default:
			elsewhere++
		}
	}
	if there == 0 || elsewhere == 0 {
		t.Errorf("%d sessions on the one server, and %d on the other", there, elsewhere)
	}
}

func TestRoundTripsOfAGrace(t *testing.T) {
	server := redistest.Start(t)
	proxy := redistest.Proxy(t, server.Addr())
	s := &site{T: t, config: fmt.Sprintf(`{"save_path":%q}`, proxy.Addr()), raw: server.Client()}
	s.Provider = open(t, s.config, life)
	without, with := s.Provider, s.graceful()
	across := s.with(`"sharded":true`, life)
	graceAcross := s.with(`"sharded":true,"regenerate_grace":"1m"`, life)
	request := func(id string) func(*redis.Provider) {
		return func(p *redis.Provider) {
			sid := id
			found, err := p.SessionExist(ctx, sid)
			if err != nil {
				t.Error(err)
			}
			if !found {
				sid = newID() // as beego does
			}
			s.read(p, sid)
		}
	}
	there, moved := s.create("n", 1), s.create("n", 1)
	s.loggedIn(with, moved)
	move := func(p *redis.Provider) {
		if _, err := p.SessionRegenerate(ctx, there, newID()); err != nil {
			t.Error(err)
		}
		s.put(there, "")
	}
	for _, p := range []*redis.Provider{without, with, across, graceAcross} {
		move(p) // for which the server parses the scripts
	}
	for _, row := range []struct {
		name             string
		p, grace         *redis.Provider
		do               func(*redis.Provider)
		want, withOption int
	}{
		{"a request that finds its session", without, with, request(there), 1, 1},
		{"one without a cookie", without, with, func(p *redis.Provider) { s.read(p, newID()) }, 1, 1},
		{"one whose session has expired", without, with, func(p *redis.Provider) { request(newID())(p) }, 2, 3},
		{"one whose session has moved", without, with, request(moved), 2, 2},
		{"a regenerate", without, with, move, 1, 1},
		{"a regenerate across servers", across, graceAcross, move, 3, 3},
		{"a regenerate of nothing", without, with, func(p *redis.Provider) { _, _ = p.SessionRegenerate(ctx, newID(), newID()) }, 1, 1},
		{"a destroy", without, with, func(p *redis.Provider) { _ = p.SessionDestroy(ctx, newID()) }, 1, 1},
	} {
		for p, want := range map[*redis.Provider]int{row.p: row.want, row.grace: row.withOption} {
			if got := leastRoundTrips(proxy, func() { row.do(p) }); got != want {
				t.Errorf("%s: %d round trips, want %d", row.name, got, want)
			}
		}
	}
}

// A grace that cannot begin costs the regenerate, and not the session.
func TestAGraceThatCannotBegin(t *testing.T) {
	for name, row := range map[string]struct{ rights, config string }{
		"one server":      {"+@all", ""},
		"across servers":  {"+@all", `,"sharded":true`},
		"without scripts": {"+@all -@scripting", ""},
	} {
		t.Run(name, func(t *testing.T) {
			captureLog(t)
			server := redistest.Start(t, "--user", "app on >secret ~[0-9a-f]* ~gone:* ~save:* ~moved:* ~survey:* "+row.rights)
			s := &site{T: t, raw: server.Client(), Provider: redis.NewProvider(server.Client())}
			if err := s.SessionInit(ctx, life, ""); err != nil {
				t.Fatal(err)
			}
			p := open(t, fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret","regenerate_grace":"1m"%s}`, server.Addr(), row.config), life)
			for range 3 {
				id, next := s.create("n", 1), newID()
				store, err := p.SessionRegenerate(ctx, id, next)
				if err == nil || store != nil || !strings.Contains(err.Error(), "NOPERM") {
					t.Fatalf("SessionRegenerate = %v, %v", store, err)
				}
				s.holds(id, "n", 1)
				if n := server.Client().Exists(next).Val(); n != 0 && name != "without scripts" { // where the copy stays, as a removal may still come
					t.Errorf("the session is under its new id as well: %v", err)
				}
				if _, err := p.SessionRegenerate(ctx, newID(), next); err == nil {
					t.Error("SessionRegenerate of nothing succeeds")
				}
			}
		})
	}
}
