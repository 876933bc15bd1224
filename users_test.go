// The index of the sessions of each user.

package redis_test

import (
	"context"
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
	return &site{s.T, s.config, s.raw, s.with(fmt.Sprintf(`"key_prefix":%q,"user_key":"uid"`, prefix), life)}, prefix
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
	now := time.Now().Unix()
	entry := func(id string, age int64) {
		s.raw.ZAdd(index, &goredis.Z{Member: id, Score: float64(now - age + life + 10 + 1 + 300)})
	}
	entered := func() []string { return s.raw.ZRange(index, 0, -1).Val() }
	mine, bobs := s.create("uid", "ann"), s.create("uid", "bob")
	entry("old-and-nowhere", 400)
	entry("young-and-nowhere", 200)
	entry(bobs, 400)
	s.wantSessionsOf("ann", mine)
	got := entered()
	slices.Sort(got)
	want := []string{mine, "young-and-nowhere"}
	slices.Sort(want)
	scriptless := s.Name() != "" && strings.Contains(s.Name(), "without_scripts")
	if !scriptless && !slices.Equal(got, want) { // without them it stays until it would have ended
		s.Errorf("in the index are %q, want %q", got, want)
	}

	// What has ended is dropped whenever the user logs in.
	entry("ended", life+400)
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
				user := fmt.Sprint("user", (g+choice)%5)
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
	if sessions < 20 {
		t.Errorf("only %d sessions are left, which shows little", sessions)
	}
}

// between does something after each command of a name.
type between struct {
	hook
	command string
	do      func()
}

func (h *between) AfterProcess(_ context.Context, cmd goredis.Cmder) error {
	if cmd.Name() == h.command {
		h.do()
	}
	return nil
}

func (h *between) AfterProcessPipeline(ctx context.Context, cmds []goredis.Cmder) error {
	return h.AfterProcess(ctx, cmds[0])
}

// TestWhoIsAboutToSaveIsNotDropped has somebody enter a session anew between the look of another at the index and its dropping.
func TestWhoIsAboutToSaveIsNotDropped(t *testing.T) {
	s := redistest.Start(t)
	old := float64(time.Now().Unix() - 400 + life + 10 + 1 + 300)
	enter := func(score float64) { s.Client().ZAdd("user:{ann}", &goredis.Z{Member: "nowhere", Score: score}) }
	client := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	t.Cleanup(func() { client.Close() })
	hook := &between{command: "zrange", do: func() { enter(old + 400) }}
	client.AddHook(hook)
	p := redis.NewProvider(client)
	if err := p.SessionInit(ctx, life, `{"user_key":"uid"}`); err != nil {
		t.Fatal(err)
	}
	for _, again := range []bool{true, false} {
		if enter(old); !again {
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
	s := redistest.Start(t)
	client := goredis.NewClient(&goredis.Options{Addr: s.Addr()})
	t.Cleanup(func() { client.Close() })
	p := redis.NewProvider(client)
	if err := p.SessionInit(ctx, life, `{"user_key":"uid"}`); err != nil {
		t.Fatal(err)
	}
	site := &site{T: t, raw: s.Client(), Provider: open(t, fmt.Sprintf(`{"save_path":%q,"user_key":"uid"}`, s.Addr()), life)}
	id, next := site.create("a", 1), newID()
	logIn := sync.OnceFunc(func() {
		store := site.read(site, id)
		set(t, store, "uid", "ann")
		store.SessionRelease(ctx, nil)
	})
	client.AddHook(&between{command: "get", do: logIn})
	store, err := p.SessionRegenerate(ctx, id, next)
	if err != nil || store.Get(ctx, "uid") != "ann" {
		t.Fatalf("the log-in was not before the move: %v", err)
	}
	site.wantSessionsOf("ann", next)
}
