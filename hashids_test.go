// Sessions under a hash of their id, and the changeover to it.

package redis_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

// hashed is the name in Redis of a session with hash_ids.
func hashed(id string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(id))) }

// hashing is a hook of a plain client that puts a hash in the place of the ids in what it asks for.
type hashing struct{ hook }

var idIn = regexp.MustCompile(`\b[0-9a-f]{32}\b`)

func (hashing) BeforeProcess(ctx context.Context, cmd goredis.Cmder) (context.Context, error) {
	for i, arg := range cmd.Args() {
		if text, ok := arg.(string); ok && (i == 1 || strings.HasPrefix(cmd.Name(), "z") || cmd.Name() == "exists" || cmd.Name() == "del") {
			cmd.Args()[i] = idIn.ReplaceAllStringFunc(text, hashed)
		}
	}
	return ctx, nil
}

// ofIDs are the rows of the suite that compare what is listed with ids, or look for ids that are not like beego's.
var ofIDs = map[string]bool{
	"sessions are listed by prefix":                                             true,
	"only sessions are listed":                                                  true,
	"the sessions of a user are found":                                          true,
	"all sessions of a user are destroyed":                                      true,
	"a session lives no longer than its entry in the index of its user":         true,
	"the index forgets what is no session of its user":                          true,
	"sessions from before there was an index are found when they are next used": true,
	"ids from the network are checked":                                          true,
	"a session whose user does not decode stays its user's":                     true,
	"an Update enters the session in the index of its user":                     true,
	"a user's sessions are none that have reached max_age":                      true,
	"the index of a user outlives a life time of a session's own":               true,
	"encrypted sessions show nothing of what they hold":                         true,
}

// ofHashing are those that choose hash_ids.
var ofHashing = map[string]bool{
	"no id is in Redis":                                        true,
	"a changeover to hashed ids loses nothing":                 true,
	"who is logged out in a changeover to hashed ids stays so": true,
}

// TestTheBehaviourIsTheSameWithHashedIDs runs the suite with them, but for what tells of ids.
func TestTheBehaviourIsTheSameWithHashedIDs(t *testing.T) {
	for _, mode := range []string{`"accept"`, `true`} {
		for _, kind := range []string{"standalone", "cluster", "user without scripts"}[:redistest.Times(1, 2)] {
			t.Run(mode+" "+kind, func(t *testing.T) {
				var config string
				var raw goredis.UniversalClient
				for _, topology := range topologies {
					if topology.name == kind {
						config, raw = topology.start(t)
					}
				}
				config = strings.Replace(config, "{", `{"hash_ids":`+mode+",", 1)
				if mode == "true" {
					raw.(interface{ AddHook(goredis.Hook) }).AddHook(hashing{})
				}
				captureLog(t)
				p := open(t, config, life)
				for _, row := range suite {
					if mode == "true" && ofIDs[row.behaviour] || ofHashing[row.behaviour] {
						continue
					}
					t.Run(row.behaviour, func(t *testing.T) {
						row.shown(&site{T: t, config: config, raw: raw, Provider: p})
					})
				}
			})
		}
	}
}

// hashModes are the values of hash_ids.
var hashModes = []string{"false", `"accept"`, "true"}

// inModes opens a provider for each of hashModes on the same sessions, under a prefix of their own.
func (s *site) inModes() (none, accept, all *site, prefix string) {
	prefix = fmt.Sprintf("%08x:", rand.Uint32())
	var sites []*site
	for _, mode := range hashModes {
		p := s.with(fmt.Sprintf(`"key_prefix":%q,"user_key":"uid","hash_ids":%s`, prefix, mode), life)
		sites = append(sites, s.on(p))
	}
	return sites[0], sites[1], sites[2], prefix
}

// dump returns all that servers hold under a prefix, keys and values.
func dump(t testing.TB, raw goredis.UniversalClient, prefix string) map[string]string {
	t.Helper()
	var keys []string
	var mu sync.Mutex
	scan := func(c goredis.Cmdable) error {
		for cursor := uint64(0); ; {
			some, next, err := c.Scan(cursor, prefix+"*", 1000).Result()
			mu.Lock()
			keys = append(keys, some...)
			mu.Unlock()
			if cursor = next; err != nil || cursor == 0 {
				return err
			}
		}
	}
	err := error(nil)
	if cluster, ok := raw.(interface {
		ForEachMaster(func(*goredis.Client) error) error
	}); ok {
		err = cluster.ForEachMaster(func(master *goredis.Client) error { return scan(master) })
	} else {
		err = scan(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, key := range keys {
		switch kind := raw.Type(key).Val(); kind {
		case "string":
			all[key] = raw.Get(key).Val()
		case "zset":
			all[key] = fmt.Sprint(raw.ZRange(key, 0, -1).Val())
		case "none": // it has expired
		default:
			t.Fatalf("a key is a %s", kind)
		}
	}
	return all
}

// visit does what beego does of a request with a cookie: it asks for the session, and reads it.
func (s *site) visit(id string) session.Store {
	s.Helper()
	if ok, err := s.SessionExist(ctx, id); !ok || err != nil {
		s.Fatalf("logged out: SessionExist = %v, %v", ok, err)
	}
	return s.read(s, id)
}

// change does what a request does that sets values.
func (s *site) change(id string, keysAndValues ...any) {
	s.Helper()
	store := s.visit(id)
	set(s, store, keysAndValues...)
	store.SessionRelease(ctx, nil)
}

func (s *site) regenerated(id string) (next string) {
	s.Helper()
	next = newID()
	store, err := s.SessionRegenerate(ctx, id, next)
	if err != nil {
		s.Fatal(err)
	}
	if got := store.SessionID(ctx); got != next {
		s.Errorf("SessionID = %q, want %q", got, next)
	}
	return next
}

func (s *site) destroyed(id string) {
	s.Helper()
	if err := s.SessionDestroy(ctx, id); err != nil {
		s.Fatal(err)
	}
}

// busyLife makes all that a site makes of sessions, and returns the ids that live, and those that no longer do.
func busyLife(s *site) (live, dead []string) {
	for i := range 3 {
		id := s.create("uid", "ann", "n", i)
		s.change(id, "large", strings.Repeat("x", 10<<10))
		one, other := s.visit(id), s.visit(id)
		set(s, one, "one", 1)
		set(s, other, "other", 1)
		one.SessionRelease(ctx, nil)
		other.SessionRelease(ctx, nil)
		next := s.regenerated(id)
		s.change(next, "n", 10)
		ended := s.create("uid", "ann")
		late := s.visit(ended)
		set(s, late, "late", true)
		s.destroyed(ended)
		late.SessionRelease(ctx, nil)
		live, dead = append(live, next, s.create("a", 1), s.regenerated(newID())), append(dead, id, ended)
	}
	return live, dead
}

func hashedAtRest(s *site) {
	none, accept, all, prefix := s.inModes()
	live, dead := busyLife(all)
	found := dump(s, s.raw, prefix)
	for _, id := range slices.Concat(live, dead) {
		for key, value := range found {
			if strings.Contains(key+value, id) || strings.Contains(key+value, id[:16]) {
				s.Errorf("an id is in %q", key)
			}
		}
	}
	for _, id := range live {
		if _, ok := found[prefix+hashed(id)]; !ok {
			s.Error("a session is not under the hash of its id")
		}
		all.visit(id)
	}
	// Whoever has the dump sends what is in it as a cookie.
	for key := range found {
		cookie := strings.TrimPrefix(key, prefix)
		for mode, p := range map[string]*site{"false": none, "accept": accept, "true": all} {
			if ok, err := p.SessionExist(ctx, cookie); ok || err != nil {
				s.Errorf("%s: SessionExist(%q) = %v, %v", mode, cookie, ok, err)
			}
			if store, err := p.SessionRead(ctx, cookie); err == nil {
				s.Errorf("%s: SessionRead(%q) is %v", mode, cookie, store)
			}
			next := newID()
			if store, err := p.SessionRegenerate(ctx, cookie, next); err != nil || store.Get(ctx, "n") != nil || store.Get(ctx, "a") != nil {
				s.Errorf("%s: SessionRegenerate(%q) has the session, or fails: %v", mode, cookie, err)
			}
		}
	}
	for _, id := range live {
		all.visit(id)
	}
}

// oneForm checks under which names a session is.
func (s *site) oneForm(prefix, id, name string) {
	s.Helper()
	for _, is := range []string{id, hashed(id)} {
		want := int64(0)
		if is == name {
			want = 1
		}
		if n := s.raw.Exists(prefix + is).Val(); n != want {
			s.Errorf("there are %d keys that begin with %.6s, want %d", n, is, want)
		}
	}
}

func changeover(s *site) {
	none, accept, all, prefix := s.inModes()
	remembered := none.create("uid", "eve")
	store := none.readStore(none, remembered)
	s.ok(store.SetLifeTime(ctx, month))
	store.SessionRelease(ctx, nil)
	all.visit(remembered)
	s.lives("remembered", prefix+hashed(remembered), month)
	s.entered(prefix+"user:{eve}", hashed(remembered), month)
	all.destroyed(remembered)

	id := none.create("uid", "ann", "n", 1)
	s.raw.Expire(prefix+id, (life-100)*time.Second)
	held := accept.visit(id)
	deleting := accept.visit(id)
	s.oneForm(prefix, id, id)

	if got := all.visit(id).Get(ctx, "n"); got != 1 {
		s.Errorf("n = %v", got)
	}
	s.oneForm(prefix, id, hashed(id))
	if d := s.ttl(prefix + hashed(id)); d > (life-99)*time.Second || d < (life-200)*time.Second {
		s.Errorf("a session that had %d s left has %v when it has moved", life-100, d)
	}
	// The process that found it under its id saves it under the hash.
	all.change(id, "theirs", 1, "gone", 1)
	set(s, held, "mine", 1)
	held.SessionRelease(ctx, nil)
	_ = deleting.Delete(ctx, "n")
	deleting.SessionRelease(ctx, nil)
	set(s, held, "mine", 2)
	held.SessionRelease(ctx, nil)
	s.oneForm(prefix, id, hashed(id))
	for name, p := range map[string]*site{"accept": accept, "true": all} {
		store := p.visit(id)
		if store.Get(ctx, "theirs") != 1 || store.Get(ctx, "mine") != 2 || store.Get(ctx, "n") != nil {
			s.Errorf("%s: theirs %v, mine %v, n %v", name, store.Get(ctx, "theirs"), store.Get(ctx, "mine"), store.Get(ctx, "n"))
		}
	}
	all.wantSessionsOf("ann", hashed(id))
	accept.wantSessionsOf("ann", hashed(id))
	for key, value := range dump(s, s.raw, prefix+"user:") {
		if strings.Contains(value, id) {
			s.Errorf("%s has the id of a session that has moved", key)
		}
	}
	// Back again: it stays under the hash until it has a new id.
	accept.change(id, "n", 2)
	s.oneForm(prefix, id, hashed(id))
	if ok, err := none.SessionExist(ctx, id); ok || err != nil {
		s.Errorf("without hash_ids: SessionExist = %v, %v", ok, err)
	}
	next := accept.regenerated(id)
	s.oneForm(prefix, id, "")
	s.oneForm(prefix, next, next)
	if got := none.visit(next).Get(ctx, "n"); got != 2 {
		s.Errorf("n = %v", got)
	}
	// A session that only lives on moves as well.
	s.raw.Expire(prefix+next, (life-100)*time.Second)
	touched := accept.visit(next)
	all.visit(next)
	touched.SessionRelease(ctx, nil)
	if d := s.ttl(prefix + hashed(next)); d < (life-50)*time.Second {
		s.Errorf("the life time was not renewed where the session is by now: %v", d)
	}
	// A new id takes it from any name to that of the process.
	for _, row := range []struct {
		from, by *site
		is       func(id string) string
	}{
		{none, accept, strings.Clone}, {none, all, hashed}, {all, accept, strings.Clone}, {all, all, hashed}, {accept, all, hashed},
	} {
		id := row.from.create("n", 1)
		next := row.by.regenerated(id)
		s.oneForm(prefix, id, "")
		s.oneForm(prefix, next, row.is(next))
		row.by.change(next, "n", row.by.visit(next).Get(ctx, "n").(int)+1)
	}
}

func loggedOutInAChangeover(s *site) {
	none, accept, all, prefix := s.inModes()
	for _, from := range []*site{none, accept, all} {
		for _, by := range []*site{accept, all} {
			id := from.create("uid", "bob", "n", 1)
			late := accept.visit(id)
			set(s, late, "n", 2)
			by.destroyed(id)
			late.SessionRelease(ctx, nil)
			releaseIfPresent(ctx, late)
			s.oneForm(prefix, id, "")
			for _, p := range []*site{none, accept, all} {
				if ok, err := p.SessionExist(ctx, id); ok || err != nil {
					s.Errorf("SessionExist of a session that was destroyed = %v, %v", ok, err)
				}
			}
		}
	}
	// By what a listing returns, too.
	plain, moved, kept, other := none.create("uid", "ann"), all.create("uid", "ann"), none.create("uid", "ann"), all.create("uid", "bob")
	accept.visit(plain)
	all.visit(kept)
	all.wantSessionsOf("ann", plain, hashed(moved), hashed(kept))
	all.destroyed(hashed(other))
	s.oneForm(prefix, other, "")
	for i, except := range []string{kept, hashed(kept)} {
		if n, err := []*site{accept, all}[i].DestroyAll(ctx, "ann", except); n != 2*(1-i) || err != nil {
			s.Errorf("DestroyAll = %d, %v", n, err)
		}
	}
	s.oneForm(prefix, plain, "")
	s.oneForm(prefix, moved, "")
	s.oneForm(prefix, kept, hashed(kept))
	if got := slices.Collect(ids(all)); !slices.Equal(got, []string{hashed(kept)}) || all.SessionAll(ctx) != 1 {
		s.Errorf("Sessions = %q", got)
	}
	if n, err := all.DestroyAll(ctx, "ann"); n != 1 || err != nil {
		s.Errorf("DestroyAll = %d, %v", n, err)
	}
	// An index from before that.
	id := none.create("uid", "eve")
	all.visit(id)
	s.raw.ZAdd(prefix+"user:{eve}", entry(id, 1000))
	all.wantSessionsOf("eve", hashed(id))
	for key, value := range dump(s, s.raw, prefix+"user:") {
		if strings.Contains(value, id) && !strings.Contains(s.Name(), "without_scripts") { // where nothing is dropped before it has ended

			s.Errorf("%s still has the id of a session that has moved", key)
		}
	}
}

func ids(s *site) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for id, err := range s.Sessions(ctx) {
			if err != nil {
				s.Error(err)
			}
			if !yield(id) {
				return
			}
		}
	}
}

// fleets are where a changeover is made under load.
var fleets = []struct {
	name    string
	writers int // of one session at the same time
	start   func(t *testing.T) (config string, raw []goredis.UniversalClient)
}{
	{"standalone", 3, func(t *testing.T) (string, []goredis.UniversalClient) {
		s := redistest.Start(t)
		return fmt.Sprintf(`{"save_path":%q}`, s.Addr()), []goredis.UniversalClient{s.Client()}
	}},
	{"without scripts", 1, func(t *testing.T) (string, []goredis.UniversalClient) { // where saves at the same time lose updates
		s := redistest.Start(t, "--user", "app on >secret ~* +@all -@scripting")
		return fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret"}`, s.Addr()), []goredis.UniversalClient{s.Client()}
	}},
	{"cluster", 3, func(t *testing.T) (string, []goredis.UniversalClient) {
		c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
		return fmt.Sprintf(`{"mode":"cluster","save_path":%q}`, strings.Join(c.Addrs(), ";")),
			[]goredis.UniversalClient{rawClient(t, client.Options{Mode: client.Cluster, Addrs: c.Addrs()})}
	}},
	{"twemproxy", 3, twemproxied("{}", "")},
	{"twemproxy, keys with a tag apart", 3, twemproxied("", "")},
	{"twemproxy, configured wrongly", 3, twemproxied("{}", `,"sharded":false`)},
}

func twemproxied(hashTag, extra string) func(t *testing.T) (string, []goredis.UniversalClient) {
	return func(t *testing.T) (string, []goredis.UniversalClient) {
		one, other := redistest.Start(t), redistest.Start(t)
		return fmt.Sprintf(`{"save_path":%q%s}`, redistest.Twemproxy(t, hashTag, one, other), extra),
			[]goredis.UniversalClient{one.Client(), other.Client()}
	}
}

// rollout is a fleet of two processes that take one hash_ids after the other, and its users.
type rollout struct {
	*testing.T
	processes [2]atomic.Pointer[redis.Provider]
	raw       []goredis.UniversalClient
}

// passenger is a user, in whose session each of several writers counts for itself.
type passenger struct {
	mu sync.RWMutex // held for writing while the session gets a new id
	id string
}

func (r *rollout) process(random *rand.Rand) *redis.Provider {
	return r.processes[random.IntN(2)].Load()
}

// serve makes requests of a user: all of them find the session as this writer has left it.
func (r *rollout) serve(u *passenger, writer int, random *rand.Rand, ended func() bool) {
	key := fmt.Sprint("writer ", writer)
	for n := 0; !ended(); n++ {
		u.mu.RLock()
		p := r.process(random)
		if ok, err := p.SessionExist(ctx, u.id); !ok || err != nil {
			r.Errorf("logged out: SessionExist = %v, %v", ok, err)
		}
		store, err := p.SessionRead(ctx, u.id)
		if err != nil {
			r.Error(err)
			u.mu.RUnlock()
			return
		}
		if was, _ := store.Get(ctx, key).(int); was != n {
			r.Errorf("an update is lost: %s has %d, want %d", key, was, n)
		}
		set(r, store, key, n+1)
		store.SessionRelease(ctx, nil)
		u.mu.RUnlock()
		if r.Failed() {
			return
		}
		if writer == 0 && random.IntN(20) == 0 {
			u.mu.Lock()
			next := newID()
			if _, err := r.process(random).SessionRegenerate(ctx, u.id, next); err != nil {
				r.Error(err)
			}
			u.id = next
			u.mu.Unlock()
		}
	}
}

// end logs users out, while another request of theirs, and one that moves the session, are under way.
func (r *rollout) end(random *rand.Rand, ended func() bool) {
	for !ended() && !r.Failed() {
		id := newID()
		store, err := r.process(random).SessionRead(ctx, id)
		if err != nil {
			r.Error(err)
			return
		}
		store.SessionRelease(ctx, nil)
		one, other, third := r.process(random), r.process(random), r.process(random)
		var all sync.WaitGroup
		for _, f := range []func(){
			func() {
				if ok, _ := one.SessionExist(ctx, id); ok {
					if store, err := one.SessionRead(ctx, id); err == nil {
						_ = store.Set(ctx, "late", 1)
						releaseIfPresent(ctx, store)
					}
				}
			},
			func() { _, _ = other.SessionExist(ctx, id) },
			func() {
				if err := third.SessionDestroy(ctx, id); err != nil {
					r.Error(err)
				}
			},
		} {
			all.Add(1)
			go func() { defer all.Done(); f() }()
		}
		all.Wait()
		if n := r.keys(id) + r.keys(hashed(id)); n != 0 {
			r.Errorf("%d keys of a session that was logged out", n)
		}
	}
}

// keys counts the keys on all servers.
func (r *rollout) keys(name string) (n int64) {
	for _, raw := range r.raw {
		n += raw.Exists(name).Val()
	}
	return n
}

func TestAChangeoverToHashedIDsUnderLoad(t *testing.T) {
	for _, fleet := range fleets {
		t.Run(fleet.name, func(t *testing.T) {
			random := seed(t)
			config, raw := fleet.start(t)
			log := captureLog(t)
			r := &rollout{T: t, raw: raw}
			restart := func(process int, mode string) {
				r.processes[process].Store(open(t, strings.Replace(config, "{", `{"outage_time":"10s","hash_ids":`+mode+",", 1), life))
			}
			restart(0, "false")
			restart(1, "false")
			var users []*passenger
			for range 6 {
				u := &passenger{id: newID()}
				store, err := r.process(random).SessionRead(ctx, u.id)
				if err != nil {
					t.Fatal(err)
				}
				store.SessionRelease(ctx, nil)
				users = append(users, u)
			}
			var served atomic.Int64
			var stop atomic.Bool
			ended := func() bool { served.Add(1); return stop.Load() }
			var all sync.WaitGroup
			for _, u := range users {
				for writer := range fleet.writers {
					random := rand.New(rand.NewPCG(random.Uint64(), 0))
					all.Add(1)
					go func() { defer all.Done(); r.serve(u, writer, random, ended) }()
				}
			}
			for range 2 {
				random := rand.New(rand.NewPCG(random.Uint64(), 0))
				all.Add(1)
				go func() { defer all.Done(); r.end(random, ended) }()
			}
			pause := func() {
				until := served.Load() + int64(redistest.Times(200, 300))
				await(t, "requests", func() bool { return served.Load() > until || t.Failed() })
			}
			pause()
			for _, mode := range []string{`"accept"`, "true", `"accept"`, "true"} {
				for process := range 2 {
					restart(process, mode)
					pause()
				}
			}
			stop.Store(true)
			all.Wait()
			for _, u := range users {
				if ok, err := r.process(random).SessionExist(ctx, u.id); !ok || err != nil {
					t.Errorf("logged out: SessionExist = %v, %v", ok, err)
				}
				if plain, n := r.keys(u.id), r.keys(hashed(u.id)); plain+n != 1 || plain != 0 && !strings.Contains(fleet.name, "apart") {
					t.Errorf("a session has %d keys with its id, and %d with the hash of that", plain, n)
				}
			}
			for _, line := range strings.Split(log.String(), "\n") {
				if line != "" && !strings.Contains(line, "refuses scripts") && !strings.Contains(line, "hash_tag") {
					t.Errorf("log: %s", line)
				}
			}
		})
	}
}

// Who watches the server sees no id with which somebody is or will be logged in.
func TestWhoWatchesTheServerSeesNoIDThatLives(t *testing.T) {
	s := redistest.Start(t)
	config := fmt.Sprintf(`{"save_path":%q,"hash_ids":true,"user_key":"uid"}`, s.Addr())
	site := &site{T: t, config: config, raw: s.Client(), Provider: open(t, config, life)}
	watch, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer watch.Close()
	if _, err := fmt.Fprint(watch, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(watch)
	lines.Buffer(nil, 1<<20)
	lines.Scan() // OK
	live, dead := busyLife(site)
	fresh := site.create()

	if err := s.Client().Echo("that was all").Err(); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for lines.Scan() && !strings.Contains(lines.Text(), "that was all") {
		seen = append(seen, strings.ToLower(lines.Text()))
	}
	first := func(texts ...string) int {
		return slices.IndexFunc(seen, func(line string) bool {
			return !slices.ContainsFunc(texts, func(text string) bool { return !strings.Contains(line, text) })
		})
	}
	for _, id := range append(live, fresh) {
		if at := first(id[:16]); at >= 0 {
			t.Errorf("the server was told an id: %s", seen[at])
		}
	}
	for _, id := range dead { // it is looked for under the id when it has ended under the hash
		if at, ended := first(id[:16]), first(`"setex"`, "gone:{"+hashed(id)); ended < 0 || at >= 0 && at < ended {
			t.Errorf("the server was told an id before that ended: %s", seen[at])
		}
	}
}

// TestWhenTheReplyToAMoveIsLost loses the reply to each of the steps by which a session moves to its hash.
func TestWhenTheReplyToAMoveIsLost(t *testing.T) {
	for _, topology := range lossyTopologies {
		t.Run(topology.name, func(t *testing.T) {
			raw, connect := topology.start(t)
			steps := []string{"take.lua", "create.lua", "setex"}
			if !topology.scripts {
				steps = []string{"renamenx", "set", "setex"}
			}
			begin := func(t *testing.T) (s *twoProcesses, id string) {
				s = &twoProcesses{site: &site{T: t, raw: raw, config: `{"outage_time":"0s","hash_ids":"accept","user_key":"uid"}`}, network: new(network), log: captureLog(t)}
				s.other = s.open(connect, nil)
				id = newID()
				store := s.read(s.other, id)
				set(t, store, "uid", "ann", "n", 1)
				store.SessionRelease(ctx, nil)
				s.config = strings.Replace(s.config, `"accept"`, "true", 1)
				s.Provider = s.open(connect, s.network)
				return s, id
			}
			holds := func(s *twoProcesses, id string, n any) {
				s.Helper()
				for _, p := range []*redis.Provider{s.other, s.Provider} {
					p := &site{T: s.T, raw: raw, Provider: p}
					if got := p.visit(id).Get(ctx, "n"); got != n {
						s.Errorf("n = %v, want %v", got, n)
					}
				}
				s.oneForm("", id, hashed(id))
			}
			for _, step := range steps {
				t.Run(step+" is sent again", func(t *testing.T) {
					s, id := begin(t)
					held := s.read(s.other, id)
					s.network.lose(step, 1, func() {
						set(t, held, "n", 2)
						held.SessionRelease(ctx, nil)
					})
					s.visit(id)
					if len(s.network.lost) != 1 {
						t.Fatalf("lost %v", s.network.lost)
					}
					holds(s, id, 2)
					s.destroyed(id)
					s.network.late(t, raw)
					s.gone(id, hashed(id))
				})
				t.Run(step+" is not heard of again", func(t *testing.T) {
					s, id := begin(t)
					s.network.lose(step, 1000, nil)
					if ok, err := s.SessionExist(ctx, id); ok && err != nil || !ok && err == nil {
						t.Errorf("SessionExist = %v, %v", ok, err)
					}
					s.network.lose("nothing", 0, nil)
					holds(s, id, 1)
				})
				t.Run("the process ends at "+step, func(t *testing.T) {
					s, id := begin(t)
					s.network.lose(step, 1000, nil)
					_, _ = s.SessionExist(ctx, id)
					if err := s.other.SessionDestroy(ctx, id); err != nil {
						t.Error(err)
					}
					s.network.lose("nothing", 0, nil)
					s.network.late(t, raw)
					if ok, err := s.SessionExist(ctx, id); ok || err != nil {
						t.Errorf("SessionExist of a session that was destroyed = %v, %v", ok, err)
					}
					s.oneForm("", id, "")
				})
			}
		})
	}
}

// BenchmarkHashedIDs makes requests that read, with hash_ids and without, and looks at ids of which there is no session.
func BenchmarkHashedIDs(b *testing.B) {
	s := redistest.Start(b)
	for _, mode := range hashModes {
		p := open(b, fmt.Sprintf(`{"save_path":%q,"key_prefix":"%s:","hash_ids":%s}`, s.Addr(), strings.Trim(mode, `"`), mode), life)
		id := newID()
		store, err := p.SessionRead(ctx, id)
		if err != nil {
			b.Fatal(err)
		}
		set(b, store, "uid", "ann", "n", 1)
		store.SessionRelease(ctx, nil)
		b.Run("read/"+strings.Trim(mode, `"`), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if ok, err := p.SessionExist(ctx, id); !ok || err != nil {
					b.Fatal(ok, err)
				}
				store, err := p.SessionRead(ctx, id)
				if err != nil {
					b.Fatal(err)
				}
				store.SessionRelease(ctx, nil)
			}
		})
		b.Run("absent/"+strings.Trim(mode, `"`), func(b *testing.B) {
			b.ReportAllocs()
			absent := newID()
			for range b.N {
				if ok, err := p.SessionExist(ctx, absent); ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}

// A session that another process moves to its hash, when it was found under its id to be regenerated.
func TestASessionThatMovesToItsHashRightBeforeItIsRegenerated(t *testing.T) {
	server := redistest.Start(t)
	s := &site{T: t, config: fmt.Sprintf(`{"save_path":%q}`, server.Addr()), raw: server.Client()}
	s.Provider = s.with(`"hash_ids":true`, life)
	id, next := newID(), newID()
	s.use(open(t, s.config, life), id, "n", 1)

	own := goredis.NewClient(&goredis.Options{Addr: server.Addr()})
	t.Cleanup(func() { own.Close() })
	accept := redis.NewProvider(own)
	s.ok(accept.SessionInit(ctx, life, `{"hash_ids":"accept"}`))
	own.AddHook(&between{command: "get", do: sync.OnceFunc(func() { s.visit(id) })})
	store, err := accept.SessionRegenerate(ctx, id, next)
	s.ok(err)
	if got := store.Get(ctx, "n"); got != 1 {
		t.Errorf("n = %v under the new id", got)
	}
	s.gone(id, hashed(id))
}

// Under a hash of which a log-out has left its tombstone nothing comes, and what is under the id is left to that log-out.
func TestNothingMovesToAHashThatIsBeingDestroyed(t *testing.T) {
	s, _ := onMiniredis(t, "")
	id := s.create("n", 1)
	all := s.on(s.with(`"hash_ids":true`, life))
	s.ok(s.raw.Set("gone:{"+hashed(id)+"}", "destroyed", time.Minute).Err())
	if got := all.visit(id).Get(ctx, "n"); got != 1 {
		t.Errorf("n = %v", got)
	}
	s.holds(id, "n", 1)
	s.gone(hashed(id))
}
