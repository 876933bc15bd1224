// The index of the sessions of each user.

package redis_test

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

// withUsers is a site on the same server under a prefix of its own, with an index of users.
func (s *site) withUsers() (indexed *site, prefix string) {
	prefix = newID() + ":"
	return s.on(s.with(fmt.Sprintf(`"key_prefix":%q,"user_key":"uid"`, prefix), life)), prefix
}

// idsOf returns the ids of a user's sessions, sorted.
func idsOf(t testing.TB, p *redis.Provider, user string) []string {
	t.Helper()
	sessions, err := p.SessionsOf(ctx, user)
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, s := range sessions {
		ids = append(ids, s.ID)
	}
	slices.Sort(ids)
	return ids
}

func (s *site) wantSessionsOf(user string, ids ...string) {
	s.Helper()
	slices.Sort(ids)
	if got := idsOf(s, s.Provider, user); !slices.Equal(got, ids) {
		s.Errorf("the sessions of %s are %q, want %q", user, got, ids)
	}
}

// entry is a session in the index, as one with the life time of the suite is entered so many seconds ago.
func entry(id string, age int64) *goredis.Z {
	entered := time.Now().Unix() - age
	return &goredis.Z{Member: id, Score: float64(entered+life+10+1+300) + float64(entered%(1<<18))/(1<<18)}
}

func usersSessions(s *site) {
	if _, err := s.SessionsOf(ctx, "ann"); err == nil || !strings.Contains(err.Error(), "user_key") {
		s.Errorf("without user_key: %v", err)
	}
	s, prefix := s.withUsers()
	s.wantSessionsOf("ann")
	phone, laptop := s.create("uid", "ann", "device", "phone"), s.create("uid", "ann", "device", "laptop")
	other, number, nobody := s.create("uid", "bob}"), s.create("uid", 42), s.create("a", 1)
	s.wantSessionsOf("ann", phone, laptop)
	s.wantSessionsOf("bob}", other)
	s.wantSessionsOf("42", number)

	s.raw.Expire(prefix+phone, (life-100)*time.Second)
	sessions, err := s.SessionsOf(ctx, "ann")
	if err != nil || len(sessions) != 2 || sessions[0].ID != laptop || sessions[1].ID != phone {
		s.Fatalf("not the one that was last seen first: %+v, %v", sessions, err)
	}
	now := time.Now()
	about := func(got, want time.Time) bool { return got.Sub(want).Abs() < 30*time.Second }
	old := sessions[1]
	if !about(old.Created, now) || !about(old.LastSeen, now.Add(-100*time.Second)) || !about(old.Expires, now.Add((life-100)*time.Second)) {
		s.Errorf("times of a session that was last seen 100 s ago: %+v", old)
	}
	if n := s.raw.StrLen(prefix + phone).Val(); int64(old.Size) != n {
		s.Errorf("size %d, want %d", old.Size, n)
	}

	// Log in, log out, move, and another user on the same device.
	store := s.read(s, nobody)
	set(s, store, "uid", "ann")
	store.SessionRelease(ctx, nil)
	s.wantSessionsOf("ann", phone, laptop, nobody)
	store = s.read(s, laptop)
	_ = store.Delete(ctx, "uid")
	store.SessionRelease(ctx, nil)
	s.wantSessionsOf("ann", phone, nobody)
	moved := newID()
	if _, err := s.SessionRegenerate(ctx, phone, moved); err != nil {
		s.Fatal(err)
	}
	s.wantSessionsOf("ann", moved, nobody)
	store = s.read(s, moved)
	set(s, store, "uid", "bob}")
	store.SessionRelease(ctx, nil)
	s.wantSessionsOf("ann", nobody)
	s.wantSessionsOf("bob}", moved, other)
	if err := s.SessionDestroy(ctx, nobody); err != nil {
		s.Fatal(err)
	}
	s.wantSessionsOf("ann")

	// A merge takes over the user that another request has set.
	id := s.create("a", 1)
	mine, theirs := s.read(s, id), s.read(s, id)
	set(s, mine, "a", 2)
	set(s, theirs, "uid", "eve")
	theirs.SessionRelease(ctx, nil)
	mine.SessionRelease(ctx, nil)
	s.wantSessionsOf("eve", id)
}

func destroyAll(s *site) {
	s, prefix := s.withUsers()
	var anns []string
	for range 3 {
		anns = append(anns, s.create("uid", "ann"))
	}
	bob := s.create("uid", "bob")
	late := s.read(s, anns[1])
	set(s, late, "a", 1)
	n, err := s.DestroyAll(ctx, "ann", anns[0], "no-session-of-hers")
	if n != 2 || err != nil {
		s.Errorf("DestroyAll = %d, %v", n, err)
	}
	late.SessionRelease(ctx, nil)
	s.wantSessionsOf("ann", anns[0])
	s.wantSessionsOf("bob", bob)
	if left := s.raw.Exists(prefix+anns[1]).Val() + s.raw.Exists(prefix+anns[2]).Val(); left != 0 {
		s.Errorf("%d sessions are left", left)
	}
	if n, err := s.DestroyAll(ctx, "ann"); n != 1 || err != nil {
		s.Errorf("DestroyAll of the last = %d, %v", n, err)
	}
	if n, err := s.DestroyAll(ctx, "ann"); n != 0 || err != nil {
		s.Errorf("DestroyAll of none = %d, %v", n, err)
	}
}

// indexOutlives shows that neither is there a session whose index ends before it, whatever renews it.
func indexOutlives(s *site) {
	s, prefix := s.withUsers()
	index := prefix + "user:{ann}"
	id := s.create("uid", "ann")
	ends := func(what string) {
		s.Helper()
		session, left := s.ttl(prefix+id), s.ttl(index)
		if left < session {
			s.Errorf("%s: the session lives for %v and the index for %v", what, session, left)
		}
		if left > (life+400)*time.Second {
			s.Errorf("%s: the index lives for %v", what, left)
		}
	}
	forget := func() {
		s.raw.Expire(prefix+id, 100*time.Second)
		s.raw.Expire(index, 100*time.Second)
		s.raw.ZAdd(index, &goredis.Z{Member: id, Score: float64(time.Now().Unix() + 100)})
	}
	ends("created")
	forget()
	s.read(s, id).SessionRelease(ctx, nil)
	ends("read")
	forget()
	old := id
	id = newID()
	if _, err := s.SessionRegenerate(ctx, old, id); err != nil {
		s.Fatal(err)
	}
	ends("moved")
	for _, id := range []string{id, old} { // to which a move may be taken back
		if score := s.raw.ZScore(index, id).Val(); score < float64(time.Now().Unix()+life) {
			s.Errorf("an entry ends in %.0f s", score-float64(time.Now().Unix()))
		}
	}

	// Saved within a hundredth of its life time, it is not entered again, and the next process that saves it does not shorten what
	// one with a longer life time has entered.
	store := s.read(s, id)
	set(s, store, "a", 1)
	store.SessionRelease(ctx, nil)
	score := s.raw.ZScore(index, id).Val()
	s.raw.ZAdd(index, &goredis.Z{Member: id, Score: score + 1})
	set(s, store, "a", 2)
	store.SessionRelease(ctx, nil)
	if now := s.raw.ZScore(index, id).Val(); now != score+1 {
		s.Errorf("entered again after a moment")
	}
}

func indexForgets(s *site) {
	s, prefix := s.withUsers()
	index := prefix + "user:{ann}"
	enter := func(id string, age int64) { s.raw.ZAdd(index, entry(id, age)) }
	entered := func() []string { return s.raw.ZRange(index, 0, -1).Val() }
	mine, bobs := s.create("uid", "ann"), s.create("uid", "bob")
	enter("old-and-nowhere", 400)
	enter("young-and-nowhere", 200)
	enter("entered-by-a-clock-that-was-ahead", -60)
	enter(bobs, 400)
	s.wantSessionsOf("ann", mine)
	got := entered()
	slices.Sort(got)
	want := []string{mine, "young-and-nowhere", "entered-by-a-clock-that-was-ahead"}
	slices.Sort(want)
	scriptless := s.Name() != "" && strings.Contains(s.Name(), "without_scripts")
	if !scriptless && !slices.Equal(got, want) { // without them it stays until it would have ended
		s.Errorf("in the index are %q, want %q", got, want)
	}

	// What has ended is dropped whenever the user logs in.
	enter("ended", life+400)
	s.create("uid", "ann")
	if slices.Contains(entered(), "ended") {
		s.Error("what has ended is still in the index")
	}
}

func indexLearns(s *site) {
	s, prefix := s.withUsers()
	without := s.with(fmt.Sprintf(`"key_prefix":%q`, prefix), life)
	save := func(id string) {
		store := s.read(without, id)
		set(s, store, "uid", "ann", "n", newID())
		store.SessionRelease(ctx, nil)
	}
	read, saved, moved := newID(), newID(), newID()
	for _, id := range []string{read, saved, moved} {
		save(id)
	}
	s.wantSessionsOf("ann")
	s.raw.Expire(prefix+read, (life-11)*time.Second)
	s.read(s, read).SessionRelease(ctx, nil)
	s.wantSessionsOf("ann", read)
	store := s.read(s, saved)
	set(s, store, "a", 1)
	store.SessionRelease(ctx, nil)
	s.wantSessionsOf("ann", read, saved)
	next := newID()
	if _, err := s.SessionRegenerate(ctx, moved, next); err != nil {
		s.Fatal(err)
	}
	s.wantSessionsOf("ann", read, saved, next)

	// beego's provider knows nothing of the mark behind the stream.
	data, err := session.EncodeGob(s.stored(prefix + saved))
	if err != nil {
		s.Fatal(err)
	}
	s.put(prefix+saved, string(data))
	s.raw.Del(prefix + "user:{ann}")
	store = s.read(s, saved)
	set(s, store, "a", 2)
	store.SessionRelease(ctx, nil)
	s.wantSessionsOf("ann", saved)
}

// TestNoSessionIsMissingInTheIndex has users log in, move and log out on connections that break, and looks for each session
// in the index of its user.
func TestNoSessionIsMissingInTheIndex(t *testing.T) {
	random := seed(t)
	s := redistest.Start(t)
	proxy := redistest.Proxy(t, s.Addr())
	captureLog(t)
	config := fmt.Sprintf(`{"save_path":%q,"user_key":"uid","max_retries":-1}`, proxy.Addr())
	done := make(chan struct{})
	var wg sync.WaitGroup
	for g := range 8 {
		p, choices := open(t, config, life), make([]int, redistest.Times(150, 600))
		for i := range choices {
			choices[i] = random.IntN(100)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			id := newID()
			for i, choice := range choices {
				user := fmt.Sprint("user", (g+choice)%20)
				switch {
				case choice < 10:
					id = newID()
				case choice < 30:
					next := newID()
					if _, err := p.SessionRegenerate(ctx, id, next); err == nil {
						id = next
					}
				case choice < 35:
					_ = p.SessionDestroy(ctx, id)
				case choice < 40:
					_, _ = p.DestroyAll(ctx, user)
				case choice < 50:
					_, _ = p.SessionsOf(ctx, user)
				}
				store, err := p.SessionRead(ctx, id)
				if err != nil {
					continue
				}
				if choice%3 == 0 || store.Get(ctx, "uid") == nil {
					_ = store.Set(ctx, "uid", user)
				}
				_ = store.Set(ctx, "n", i)
				store.SessionRelease(ctx, nil)
			}
		}()
	}
	go func() {
		wg.Wait()
		close(done)
	}()
	for cutting := true; cutting; {
		select {
		case <-done:
			cutting = false
		case <-time.After(time.Duration(2+random.IntN(8)) * time.Millisecond):
			proxy.CutAll()
		}
	}

	p := open(t, fmt.Sprintf(`{"save_path":%q,"user_key":"uid"}`, s.Addr()), life)
	found := map[string][]string{}
	sessions := 0
	for _, key := range s.Client().Keys("*").Val() {
		if strings.Contains(key, "{") {
			continue
		}
		store, err := p.SessionRead(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		if user, ok := store.Get(ctx, "uid").(string); ok {
			found[user] = append(found[user], key)
			sessions++
		}
	}
	for user, ids := range found {
		slices.Sort(ids)
		if got := idsOf(t, p, user); !reflect.DeepEqual(got, ids) {
			t.Errorf("%s has %d sessions, and %d are found", user, len(ids), len(got))
		}
	}
	if sessions < 5 {
		t.Errorf("only %d sessions are left, which shows little", sessions)
	}
}

// between does something before or after each command of a name, and each pipeline that has it.
type between struct {
	command    string
	before, do func()
}

func (h *between) BeforeProcess(ctx context.Context, cmd goredis.Cmder) (context.Context, error) {
	return h.BeforeProcessPipeline(ctx, []goredis.Cmder{cmd})
}

func (h *between) AfterProcess(ctx context.Context, cmd goredis.Cmder) error {
	return h.AfterProcessPipeline(ctx, []goredis.Cmder{cmd})
}

func (h *between) BeforeProcessPipeline(ctx context.Context, cmds []goredis.Cmder) (context.Context, error) {
	if h.before != nil && h.has(cmds) {
		h.before()
	}
	return ctx, nil
}

func (h *between) AfterProcessPipeline(_ context.Context, cmds []goredis.Cmder) error {
	if h.do != nil && h.has(cmds) {
		h.do()
	}
	return nil
}

func (h *between) has(cmds []goredis.Cmder) bool {
	return slices.ContainsFunc(cmds, func(cmd goredis.Cmder) bool { return cmd.Name() == h.command })
}

// indexedOn is a site with an index on a server.
func indexedOn(t *testing.T, s *redistest.Server, life int64) *site {
	return &site{T: t, raw: s.Client(), Provider: open(t, fmt.Sprintf(`{"save_path":%q,"user_key":"uid"}`, s.Addr()), life)}
}

// hookedOn is a provider with an index, on a client with a hook.
func hookedOn(t *testing.T, s *redistest.Server, h goredis.Hook, life int64) *redis.Provider {
	t.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	t.Cleanup(func() { client.Close() })
	p := redis.NewProvider(client)
	if err := p.SessionInit(ctx, life, `{"user_key":"uid"}`); err != nil {
		t.Fatal(err)
	}
	client.AddHook(h)
	return p
}

// TestWhoIsAboutToSaveIsNotDropped has somebody enter a session anew between the look of another at the index and its dropping.
func TestWhoIsAboutToSaveIsNotDropped(t *testing.T) {
	s := redistest.Start(t)
	enter := func(age int64) { s.Client().ZAdd("user:{ann}", entry("nowhere", age)) }
	hook := &between{command: "zrange", do: func() { enter(0) }}
	p := hookedOn(t, s, hook, life)
	for _, again := range []bool{true, false} {
		if enter(400); !again {
			hook.do = func() {}
		}
		if ids := idsOf(t, p, "ann"); len(ids) > 0 {
			t.Errorf("found %q", ids)
		}
		if _, err := s.Client().ZScore("user:{ann}", "nowhere").Result(); (err == nil) != again {
			t.Errorf("entered again: %v; ZSCORE: %v", again, err)
		}
	}
}

func TestARefusedIndexIsNoRefusalOfScripts(t *testing.T) {
	s := redistest.Start(t, "--user", "app on >secret ~* +@all -renamenx -zadd")
	config := fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret","user_key":"uid"}`, s.Addr())
	if err := new(redis.Provider).SessionInit(ctx, life, config); err == nil || !strings.Contains(err.Error(), "user_key") {
		t.Errorf("SessionInit = %v", err)
	}
	s.Client().Do("acl", "setuser", "app", "+zadd")
	p := open(t, config, life)
	site := &site{T: t, raw: s.Client(), Provider: p}
	id, next, anns := site.create("a", 1), newID(), site.create("uid", "ann")
	s.Client().Do("acl", "setuser", "app", "-zadd")
	log := captureLog(t)
	store := site.read(p, anns)
	set(t, store, "b", 1)
	store.SessionRelease(ctx, nil) // entered a moment ago
	site.holds(anns, "uid", "ann", "b", 1)
	site.create("uid", "bob")
	if got := log.String(); !strings.Contains(got, "index of its user") || strings.Contains(got, "refuses scripts") {
		t.Errorf("log: %s", got)
	}
	if _, err := p.SessionRegenerate(ctx, id, next); err != nil { // without scripts it would need RENAMENX
		t.Error(err)
	}
}

func TestALogInAtTheMomentOfARegenerateIsFound(t *testing.T) {
	for _, before := range []string{"", "ann"} { // whose session it is
		s := redistest.Start(t)
		site := indexedOn(t, s, life)
		id, next := site.create("a", 1), newID()
		if before != "" {
			site.use(site, id, "uid", before)
		}
		logIn := sync.OnceFunc(func() {
			store := site.readStore(site, id)
			set(t, store, "uid", "ann")
			site.ok(store.SetLifeTime(ctx, month))
			store.SessionRelease(ctx, nil)
		})
		p := hookedOn(t, s, &between{command: "get", do: logIn}, life)
		store, err := p.SessionRegenerate(ctx, id, next)
		if err != nil || store.Get(ctx, "uid") != "ann" {
			t.Fatalf("the log-in was not before the move: %v", err)
		}
		site.wantSessionsOf("ann", next)
		site.lives("remembered", next, month)
		site.entered("user:{ann}", next, month)
	}
}

// entered checks that a session is in the index of a user for as long as it lives.
func (s *site) entered(index, name string, life time.Duration) {
	s.Helper()
	if ends, should := s.raw.ZScore(index, name).Val(), time.Now().Add(life).Unix(); ends < float64(should) {
		s.Errorf("the entry of the session ends at %.0f, and the session at %d", ends, should)
	}
}

// wantNone checks that DestroyAll has left none of some sessions.
func (s *site) wantNone(destroyed int, err error, ids ...string) {
	s.Helper()
	if err != nil {
		s.Errorf("DestroyAll: %v", err)
	}
	for i, id := range ids {
		if s.raw.Exists(id).Val() != 0 {
			s.Errorf("DestroyAll = %d, and session %d lives", destroyed, i)
		}
	}
}

func TestDestroyAllFollowsASessionThatMoves(t *testing.T) {
	for _, command := range []string{"zrange", "get"} {
		s := redistest.Start(t)
		site := indexedOn(t, s, life)
		id, next := "z"+newID(), "a"+newID()
		store := site.read(site, id)
		set(t, store, "uid", "ann")
		store.SessionRelease(ctx, nil)
		if command == "get" { // the new id is looked for before the move, and the old one after it
			s.Client().ZAdd("user:{ann}", &goredis.Z{Member: next, Score: 1 + float64(time.Now().Unix())})
			for i := range 150 {
				s.Client().ZAdd("user:{ann}", entry(fmt.Sprint("m", i), 0))
			}
		}
		move := sync.OnceFunc(func() {
			if _, err := site.SessionRegenerate(ctx, id, next); err != nil {
				t.Error(err)
			}
		})
		n, err := hookedOn(t, s, &between{command: command, do: move}, life).DestroyAll(ctx, "ann")
		site.wantNone(n, err, id, next)
	}
}

func TestARegenerateThatIsTakenBackDoesNotUndoDestroyAll(t *testing.T) {
	for _, topology := range lossyTopologies {
		t.Run(topology.name, func(t *testing.T) {
			raw, connect := topology.start(t)
			s := &twoProcesses{site: &site{T: t, raw: raw, config: `{"outage_time":"0s","user_key":"uid"}`}, network: new(network), log: captureLog(t)}
			s.Provider, s.other = s.open(connect, s.network), s.open(connect, nil)
			id, next := s.create("uid", "ann"), newID()
			s.network.lose(moving(topology.scripts, topology.oneServer), always, func() {
				if _, err := s.other.DestroyAll(ctx, "ann"); err != nil {
					t.Error(err)
				}
			})
			_, _ = s.SessionRegenerate(ctx, id, next)
			s.wantNone(0, nil, id, next)
		})
	}
}

// Without scripts a session that was changed right before it is taken away is put under its new id a second time.
func TestARegenerateWithoutScriptsDoesNotUndoDestroyAll(t *testing.T) {
	s := redistest.Start(t, "--user", "app on >secret ~* +@all -@scripting")
	captureLog(t)
	config := fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret","user_key":"uid"}`, s.Addr())
	site := &site{T: t, raw: s.Client(), Provider: open(t, config, life)}
	id, next := site.create("uid", "ann"), newID()
	client := goredis.NewClient(&goredis.Options{Addr: s.Addr(), Username: "app", Password: "secret"})
	t.Cleanup(func() { client.Close() })
	p := redis.NewProvider(client)
	if err := p.SessionInit(ctx, life, `{"user_key":"uid"}`); err != nil {
		t.Fatal(err)
	}
	client.AddHook(&between{
		command: "renamenx",
		before: func() {
			store := site.read(site, id)
			set(t, store, "n", 1)
			store.SessionRelease(ctx, nil)
		},
		do: func() {
			if _, err := site.DestroyAll(ctx, "ann"); err != nil {
				t.Error(err)
			}
		},
	})
	_, err := p.SessionRegenerate(ctx, id, next)
	site.wantNone(0, nil, id, next)
	if err == nil {
		t.Error("the regenerate succeeded")
	}
}

func TestDestroyAllEndsWhereItBegan(t *testing.T) {
	s := redistest.Start(t)
	site := indexedOn(t, s, life)
	ids := []string{site.create("uid", "ann"), site.create("uid", "ann")}
	var p *redis.Provider
	closed, begun := make(chan error, 1), false
	otherwise := func() {
		if begun {
			return
		}
		begun = true
		if err := p.SessionInit(ctx, life, `{"user_key":"uid","key_prefix":"new:"}`); err != nil {
			t.Error(err)
		}
		go func() { closed <- p.Close(ctx) }()
		await(t, "Close", func() bool {
			_, err := p.SessionExist(ctx, ids[0])
			return errors.Is(err, redis.ErrClosed)
		})
	}
	p = hookedOn(t, s, &between{command: "zrange", do: otherwise}, life)
	n, err := p.DestroyAll(ctx, "ann")
	site.wantNone(n, err, ids...)
	if err := <-closed; err != nil || n != 2 {
		t.Errorf("DestroyAll = %d, Close: %v", n, err)
	}
}

func TestWhatCannotBeLookedAtIsNotTakenForNone(t *testing.T) {
	s := redistest.Start(t)
	id := indexedOn(t, s, life).create("uid", "ann")
	s.Client().ZAdd("user:{ann}", &goredis.Z{Member: "0", Score: 1 + float64(time.Now().Unix())}, entry(id, 400))
	s.Client().LPush("0", "of another type")
	s.Client().Do("acl", "setuser", "app", "on", ">secret", "~user:*", "~survey:*", "~gone:*", "~0", "+@all")
	p := open(t, fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret","user_key":"uid"}`, s.Addr()), life)
	if n, err := p.DestroyAll(ctx, "ann"); err == nil {
		t.Errorf("DestroyAll = %d, though it could not look", n)
	}
	if _, err := s.Client().ZScore("user:{ann}", id).Result(); err != nil {
		t.Error("the session was dropped from the index")
	}
}

// TestProcessesWithOtherLifeTimes has them share sessions, as during a deploy that changes it.
func TestProcessesWithOtherLifeTimes(t *testing.T) {
	const day, hour = 24 * 3600, 3600
	s := redistest.Start(t, "--user", "app on >secret ~* +@all -@scripting")
	captureLog(t)
	outlived := func(what, user, id string) {
		t.Helper()
		index := "user:{" + user + "}"
		lives := s.Client().TTL(id).Val()
		ends := time.Duration(s.Client().ZScore(index, id).Val()-float64(time.Now().Unix())) * time.Second
		if left := s.Client().TTL(index).Val(); ends < lives || left < lives {
			t.Errorf("%s: the session lives for %v, its entry for %v and the index for %v", what, lives, ends, left)
		}
	}
	short, long := indexedOn(t, s, hour), indexedOn(t, s, day)
	id := short.create("uid", "ann")
	store := long.read(long, id)
	set(t, store, "a", 1)
	store.SessionRelease(ctx, nil)
	outlived("saved with a longer one", "ann", id)

	id = long.create("uid", "bob")
	dying := hookedOn(t, s, &between{command: "expire", before: func() { panic("the process ends") }}, hour)
	func() {
		defer func() { _ = recover() }()
		short.read(dying, id).SessionRelease(ctx, nil)
		t.Error("it lives on")
	}()
	outlived("entered with a shorter one, and not renewed", "bob", id)

	for user, config := range map[string]string{"eve": "", "dan": `,"username":"app","password":"secret"`} {
		config = fmt.Sprintf(`{"save_path":%q,"user_key":"uid"%s}`, s.Addr(), config)
		long := &site{T: t, raw: s.Client(), Provider: open(t, config, day)}
		id := long.create("uid", user)
		short := &site{T: t, raw: s.Client(), Provider: open(t, config, hour)}
		short.create("uid", user)
		outlived("beside one with a shorter life time", user, id)
	}

	id = newID()
	about := sync.OnceFunc(func() { long.wantSessionsOf("joe") })
	saving := hookedOn(t, s, &between{command: "evalsha", do: about}, hour)
	store = short.read(saving, id)
	set(t, store, "uid", "joe")
	store.SessionRelease(ctx, nil)
	long.wantSessionsOf("joe", id)
}

func TestARequestFromBeforeTheLogInRenewsItAsTheUsers(t *testing.T) {
	const day = 24 * 3600
	s := redistest.Start(t)
	site := indexedOn(t, s, day)
	id := site.create("a", 1)
	s.Client().Expire(id, day/2*time.Second)
	before := site.read(site, id)
	store := site.read(site, id)
	set(t, store, "uid", "ann")
	store.SessionRelease(ctx, nil)
	s.Client().Expire(id, day/2*time.Second)
	s.Client().ZAdd("user:{ann}", &goredis.Z{Member: id, Score: float64(time.Now().Unix() + day/2 + 600)})
	before.SessionRelease(ctx, nil)
	if ends := s.Client().ZScore("user:{ann}", id).Val() - float64(time.Now().Unix()); ends < s.Client().TTL(id).Val().Seconds() {
		t.Errorf("the session lives for %v, its entry for %.0f s", s.Client().TTL(id).Val(), ends)
	}
}

type (
	userName   string
	userNumber uint8
	userStruct struct{ Name string }
)

func init() {
	gob.Register(userName(""))
	gob.Register(userNumber(0))
	gob.Register(userStruct{})
}

func TestWhoIsAUser(t *testing.T) {
	s := redistest.Start(t)
	site, log := indexedOn(t, s, life), captureLog(t)
	for user, value := range map[string]any{"ann": userName("ann"), "7": userNumber(7), "-1": int64(-1), "0": 0, "a b\n{}": "a b\n{}"} {
		id := site.create("uid", value)
		site.wantSessionsOf(user, id)
	}
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
	for range 3 {
		site.create("uid", "")
		site.create("uid", userStruct{"eve"})
	}
	if n := strings.Count(log.String(), "userStruct"); n != 1 || strings.Contains(log.String(), "eve") {
		t.Errorf("said %d times that a struct is no user: %s", n, log)
	}
	for _, key := range s.Client().Keys("user:*").Val() {
		if strings.Contains(key, "eve") || key == "user:{}" {
			t.Errorf("there is an index %s", key)
		}
	}
}

func TestAProcessWithoutAnIndexLeavesNoMarkOfIt(t *testing.T) {
	s := redistest.Start(t)
	with := indexedOn(t, s, life)
	without := open(t, s.Addr(), life)
	id := with.create("uid", "ann")
	store := with.read(without, id)
	set(t, store, "a", 1)
	store.SessionRelease(ctx, nil)
	s.Client().Del("user:{ann}")
	store = with.read(with, id)
	set(t, store, "a", 2)
	store.SessionRelease(ctx, nil)
	with.wantSessionsOf("ann", id)
}
