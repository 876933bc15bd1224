// Random interleavings of requests, checked step by step against a plain model of what a release must do.

package redis_test

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

// seed is random, or that of the environment variable SEED so that a failure can be repeated.
func seed(t testing.TB) *rand.Rand {
	n := rand.Uint64()
	if s := os.Getenv("SEED"); s != "" {
		n, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("repeat with SEED=%d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// A value is a number, or a map that is changed in place: of that number, and of others if they are not 0.
type value struct {
	inMap   bool
	n       int
	entries [2]int
}

func (v value) real() any {
	if !v.inMap {
		return v.n
	}
	all := map[string]any{"n": v.n}
	for i, n := range v.entries {
		if n != 0 {
			all[fmt.Sprint(i)] = n
		}
	}
	return all
}

func modelled(real any) value {
	m, ok := real.(map[string]any)
	if !ok {
		return value{n: real.(int)}
	}
	v := value{inMap: true, n: m["n"].(int)}
	for i := range v.entries {
		v.entries[i], _ = m[fmt.Sprint(i)].(int)
	}
	return v
}

// A modelSession is what Redis is to hold.
type modelSession struct {
	values map[string]value
	ttl    time.Duration
	own    time.Duration // its own life time; 0: that of the provider
}

// A modelStore is a store, and what it is to know.
type modelStore struct {
	session.Store
	id         string
	base       *modelSession // nil: absent when it was read
	mine       map[string]value
	edited     map[string]bool
	flushed    bool
	gone       bool // a release has found no session any more
	afterwards bool // its id was removed after it was read
	doubtful   bool // the last release was done, and said that it was not

	maxAge  time.Duration // of the model
	own     time.Duration // its life time, and
	ownSet  bool          // whether this store has set it
	passive bool          // it is no activity
	sums    bool          // of the model
}

func (s *modelStore) mineWins(key string) bool {
	if s.edited[key] || s.flushed {
		return true
	}
	mine, have := s.mine[key]
	base, had := value{}, false
	if s.base != nil {
		base, had = s.base.values[key]
	}
	return have != had || mine != base
}

// summed is the key that is merged by Sum, where that is drawn.
const summed = "e"

// both is what becomes of a value of mine that wins, and that the others may have changed too.
func (s *modelStore) both(key string, theirs map[string]value) value {
	mine, was, had := s.mine[key], value{}, false
	if s.base != nil {
		was, had = s.base.values[key]
	}
	now, have := theirs[key]
	switch {
	case s.flushed:
	case s.sums && key == summed:
		if have != had || now != was {
			mine.n += now.n - was.n
		}
	case mine.inMap && have && now.inMap && was.inMap == had && (!had || now != was):
		if had && mine.n == was.n {
			mine.n = now.n
		}
		for i := range mine.entries {
			if mine.entries[i] == was.entries[i] {
				mine.entries[i] = now.entries[i]
			}
		}
	}
	return mine
}

// merged is what becomes of a store and of what the others have saved.
func (s *modelStore) merged(now *modelSession) map[string]value {
	if now == nil {
		return maps.Clone(s.mine)
	}
	merged := map[string]value{}
	for key, theirs := range now.values {
		if !s.mineWins(key) {
			merged[key] = theirs
		}
	}
	for key := range s.mine {
		if s.mineWins(key) {
			merged[key] = s.both(key, now.values)
		}
	}
	return merged
}

func (s *modelStore) changed() bool {
	for key := range s.mine {
		if s.mineWins(key) {
			return true
		}
	}
	return len(s.edited) > 0 || s.flushed || s.ownSet
}

// full is how long a session with a life time of its own lives from now on, if that is not 0. The age is that of the whole run.
func full(own, maxAge time.Duration) time.Duration {
	all := cmp.Or(own, life*time.Second)
	if maxAge > 0 {
		all = min(all, maxAge)
	}
	return all
}

// as is what the session is for a store that has just found or saved it.
func (s *modelStore) as(now *modelSession) *modelSession {
	s.base, s.mine, s.own = now.clone(), maps.Clone(now.values), now.own
	return now
}

// takeOver is as of what another has saved, which was a moment ago as far as the store knows.
func (s *modelStore) takeOver(now *modelSession) *modelSession {
	s.as(now)
	s.base.ttl = full(now.own, s.maxAge)
	return now
}

func (m *modelSession) clone() *modelSession {
	return &modelSession{maps.Clone(m.values), m.ttl, m.own}
}

// renewedAfter is the touch_interval of the model's providers. The model has no clock: between the read of a store and its release there
// must pass much less than this.
const renewedAfter = life * time.Second / 10

// release is the contract.
func (s *modelStore) release(now *modelSession, create bool) *modelSession {
	switch {
	case s.gone:
		return now
	case s.doubtful && now == nil:
		s.gone = true
		return nil
	case s.doubtful && !s.changed(): // it finds out, and takes over what others have saved since
		s.doubtful = false
		return s.takeOver(now)
	case s.base != nil && !s.changed():
		all, after := full(s.base.own, s.maxAge), renewedAfter
		if all == s.maxAge {
			after = min(after, all/100)
		}
		if (s.base.ttl <= all-after || s.base.ttl > all) && !s.passive {
			if s.base.ttl = all; now != nil { // which may have another life time by now
				s.base.ttl = full(now.own, s.maxAge)
				return &modelSession{now.values, s.base.ttl, now.own}
			}
		}
		return now
	case now == nil && s.base != nil:
		s.gone = true
		return nil
	case s.base == nil && (s.afterwards || !create && !s.changed()), now == nil && !create:
		return now
	case now != nil && !s.changed(): // new, and another request has created it
		return s.takeOver(now)
	}
	return s.save(now, s.merged(now))
}

// save is what is stored by a release, or an Update.
func (s *modelStore) save(now *modelSession, values map[string]value) *modelSession {
	written := &modelSession{values: values, own: s.own}
	if now != nil && !s.ownSet {
		written.own = now.own
	}
	if written.ttl = full(written.own, s.maxAge); now != nil && s.passive && !s.ownSet {
		written.ttl = now.ttl
	}
	s.edited, s.flushed, s.ownSet, s.doubtful = map[string]bool{}, false, false, false
	return s.as(written)
}

// update is the contract of an Update, up to what its function does: it tells whether that is called.
func (s *modelStore) update(now *modelSession) bool {
	switch {
	case s.gone, now == nil && s.base != nil, s.base == nil && s.afterwards:
		s.gone = true
		return false
	case now == nil:
		return true
	}
	s.mine, s.base = s.merged(now), now.clone()
	if !s.ownSet {
		s.own = now.own
	}
	return true
}

func TestAnyInterleavingKeepsTheContract(t *testing.T) {
	t.Parallel()
	for _, topology := range topologies[:3] {
		t.Run(topology.name, func(t *testing.T) {
			t.Parallel()
			config, raw := topology.start(t)
			m := newModel(t, raw)
			m.p = open(t, m.configure(config), life)
			m.merges(m.p)
			for range 6 {
				m.ids = append(m.ids, newID())
			}
			for m.step = range redistest.Times(600, 3000) {
				m.act()
				if m.check(); t.Failed() {
					t.Fatalf("after step %d: %s", m.step, m.last)
				}
			}
		})
	}
}

type model struct {
	*testing.T
	random   *rand.Rand
	p        *redis.Provider
	raw      goredis.UniversalClient
	ids      []string
	sessions map[string]*modelSession
	stores   []*modelStore
	step     int
	last     string
	anyTTL   bool

	// What is drawn for a run.
	indexed bool   // by the user under the key a
	hashed  bool   // the ids
	keys    string // a file of them, if values are encrypted
	sums    bool   // a key is merged by Sum
	maxAge  time.Duration
	grace   map[string]bool // ids that exist as empty sessions which are never saved, if there is such a time
}

func newModel(t *testing.T, raw goredis.UniversalClient) *model {
	m := &model{T: t, random: seed(t), raw: raw, sessions: map[string]*modelSession{}}
	m.indexed, m.hashed = m.random.IntN(2) == 0, m.random.IntN(2) == 0
	m.sums = m.random.IntN(2) == 0
	m.maxAge = []time.Duration{0, 700 * time.Second, 15 * life * time.Second}[m.random.IntN(3)]
	if m.random.IntN(2) == 0 {
		m.keys = keysFile(t, newKey())
	}
	if m.random.IntN(2) == 0 {
		m.grace = map[string]bool{}
	}
	t.Logf("index %v, hashed ids %v, encrypted %v, sums %v, max_age %v, grace %v", m.indexed, m.hashed, m.keys != "", m.sums, m.maxAge, m.grace != nil)
	return m
}

func (m *model) configure(config string) string {
	more := fmt.Sprintf(`{"touch_interval":"%v","max_age":"%v","hash_ids":%v,`, renewedAfter, m.maxAge, m.hashed)
	if m.indexed {
		more += `"user_key":"a",`
	}
	if m.keys != "" {
		more += fmt.Sprintf(`"encryption_keys_file":%q,`, m.keys)
	}
	if m.grace != nil {
		more += `"regenerate_grace":"1h",`
	}
	return strings.Replace(config, "{", more, 1)
}

// merges gives a provider the merge functions.
func (m *model) merges(p *redis.Provider) {
	if m.sums {
		p.MergeKey(summed, redis.Sum)
	}
}

// name is what stands for an id in Redis.
func (m *model) name(id string) string {
	if !m.hashed {
		return id
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(id)))
}

// enteredInTheIndex checks that a session is found by its user, and that the index does not end before it.
func (m *model) enteredInTheIndex(id string, user value) {
	index := fmt.Sprintf("user:{%v}", user.real())
	ends, err := m.raw.ZScore(index, m.name(id)).Result()
	if err != nil {
		m.Errorf("the session %s of %v is not in the index: %v", id[:4], user.real(), err)
	} else if left := m.raw.PTTL(m.name(id)).Val(); ends < float64(time.Now().Add(left).Unix()) || m.raw.PTTL(index).Val() < left {
		m.Errorf("the session %s of %v lives for %v, its entry until %v and the index for %v", id[:4], user.real(), left,
			time.Unix(int64(ends), 0), m.raw.PTTL(index).Val())
	}
}

func (m *model) did(format string, args ...any) { m.last = fmt.Sprintf(format, args...) }

func (m *model) act() {
	if len(m.stores) > 12 {
		i := m.random.IntN(len(m.stores))
		m.stores = append(m.stores[:i], m.stores[i+1:]...)
	}
	i := m.random.IntN(len(m.ids))
	id := m.ids[i]
	if len(m.stores) == 0 || m.random.IntN(8) == 0 {
		m.did("read %d", i)
		if m.random.IntN(2) == 0 {
			found, err := m.p.SessionExist(ctx, id)
			if want := m.sessions[id] != nil || m.grace[id]; found != want || err != nil {
				m.Errorf("SessionExist of %d = %v, %v; want %v", i, found, err, want)
			}
		}
		store, err := m.p.SessionRead(ctx, id)
		if err != nil {
			m.Fatal(err)
		}
		m.add(id, store)
		return
	}
	s := m.stores[m.random.IntN(len(m.stores))]
	switch action := m.random.IntN(100); {
	case action < 34:
		m.edit(s, action)
	case action < 38:
		m.update(s)
	case action < 62:
		m.did("release")
		s.SessionRelease(ctx, nil)
		m.sessions[s.id] = s.release(m.sessions[s.id], true)
	case action < 70:
		m.did("release if present")
		releaseIfPresent(ctx, s.Store)
		m.sessions[s.id] = s.release(m.sessions[s.id], false)
	case action < 75:
		m.did("destroy %d", i)
		if err := m.p.SessionDestroy(ctx, id); err != nil {
			m.Fatal(err)
		}
		m.remove(id)
		delete(m.grace, id)
	case action < 79:
		next := m.random.IntN(len(m.ids))
		for next == i || m.sessions[m.ids[next]] != nil {
			if next = m.random.IntN(len(m.ids)); m.random.IntN(20) == 0 {
				return
			}
		}
		m.did("regenerate %d to %d", i, next)
		store, err := m.p.SessionRegenerate(ctx, id, m.ids[next])
		if err != nil {
			m.Fatal(err)
		}
		moved := m.moved(id)
		m.remove(id)
		if m.grace != nil {
			m.grace[id] = true
		}
		m.sessions[m.ids[next]] = moved
		m.add(m.ids[next], store)
	case action < 87:
		m.did("%d expires", i)
		m.raw.Del(m.name(id))
		m.sessions[id] = nil
		if m.random.IntN(2) == 0 {
			m.raw.Del("grace:{" + m.name(id) + "}")
			delete(m.grace, id)
		}
	default:
		if now := m.sessions[id]; now != nil {
			all := full(now.own, m.maxAge)
			left := []time.Duration{all, all - renewedAfter/2, all / 2, all / 2}[m.random.IntN(4)]
			m.did("%d has %v to live", i, left)
			m.raw.PExpire(m.name(id), left)
			m.sessions[id] = &modelSession{now.values, left, now.own}
		}
	}
}

// edit changes a store; action is below 34.
func (m *model) edit(s *modelStore, action int) {
	key := modelKeys[m.random.IntN(len(modelKeys))]
	switch {
	case action < 18:
		v := m.value(key)
		m.did("set %s = %v", key, v)
		if err := s.Set(ctx, key, v.real()); err != nil {
			m.Fatal(err)
		}
		s.mine[key], s.edited[key] = v, true
	case action < 24:
		m.did("delete %s", key)
		if err := s.Delete(ctx, key); err != nil {
			m.Fatal(err)
		}
		if _, ok := s.mine[key]; ok {
			delete(s.mine, key)
			s.edited[key] = true
		}
	case action < 25:
		own := time.Duration(m.random.IntN(3)) * 10 * life * time.Second
		m.did("life time %v", own)
		if err := s.Store.(*redis.SessionStore).SetLifeTime(ctx, own); err != nil {
			m.Fatal(err)
		}
		s.own, s.ownSet = own, s.ownSet || own != s.own
	case action < 26:
		m.did("no activity")
		s.Store.(*redis.SessionStore).NoActivity(ctx)
		s.passive = true
	case action < 27:
		m.did("flush")
		if err := s.Flush(ctx); err != nil {
			m.Fatal(err)
		}
		s.mine, s.edited, s.flushed = map[string]value{}, map[string]bool{}, true
	default:
		m.did("change %s in place", key)
		if v := s.mine[key]; v.inMap {
			v = m.value(key)
			v.inMap = true
			held := s.Get(ctx, key).(map[string]any)
			clear(held)
			maps.Copy(held, v.real().(map[string]any))
			s.mine[key] = v
		}
	}
}

// value draws what a key may have.
func (m *model) value(key string) value {
	v := value{inMap: m.random.IntN(2) == 0, n: m.random.IntN(3)}
	if m.sums && key == summed {
		v.inMap = false
	}
	for i := range v.entries {
		if v.inMap {
			v.entries[i] = m.random.IntN(3)
		}
	}
	return v
}

// update adds to a number, while another request may change the session, and the store.
func (m *model) update(s *modelStore) {
	key, runs, conflicts := modelKeys[m.random.IntN(len(modelKeys))], 0, m.random.IntN(3)
	var view map[string]value
	err := s.Store.(*redis.SessionStore).Update(ctx, func(store session.Store) error {
		if !s.update(m.sessions[s.id]) {
			m.Error("the function of an Update is called though the session is gone")
		}
		view = maps.Clone(s.mine)
		for _, key := range modelKeys {
			got, want := store.Get(ctx, key), view[key]
			if _, ok := view[key]; ok != (got != nil) || ok && modelled(got) != want {
				m.Errorf("in an Update Get(%s) = %v, want %v", key, got, want)
			}
		}
		if view[key].inMap {
			delete(view, key)
			if err := store.Delete(ctx, key); err != nil {
				return err
			}
		} else {
			view[key] = value{n: view[key].n + 1}
			if err := store.Set(ctx, key, view[key].n); err != nil {
				return err
			}
		}
		if runs++; runs <= conflicts && m.sessions[s.id] != nil {
			m.anotherRequest(m.p, s.id)
		}
		return nil
	})
	m.did("update %s of %s after %d runs: %v", key, s.id[:4], runs, err)
	if view == nil {
		if s.update(m.sessions[s.id]) || !errors.Is(err, redis.ErrGone) {
			m.Errorf("Update = %v", err)
		}
		return
	}
	if err != nil {
		m.Error(err)
	}
	m.sessions[s.id] = s.save(m.sessions[s.id], view)
}

// anotherRequest is a whole one of a session that exists.
func (m *model) anotherRequest(p *redis.Provider, id string) {
	store, err := p.SessionRead(ctx, id)
	if err != nil {
		m.Fatal(err)
	}
	m.add(id, store)
	s := m.stores[len(m.stores)-1]
	m.stores = m.stores[:len(m.stores)-1]
	for range 2 {
		m.edit(s, m.random.IntN(34))
	}
	s.SessionRelease(ctx, nil)
	m.sessions[id] = s.release(m.sessions[id], true)
}

// moved is what becomes of a session by a regenerate.
func (m *model) moved(id string) *modelSession {
	moved := &modelSession{values: map[string]value{}}
	if old := m.sessions[id]; old != nil {
		moved = old.clone()
	}
	moved.ttl = full(moved.own, m.maxAge)
	return moved
}

func (m *model) add(id string, store session.Store) {
	s := &modelStore{Store: store, id: id, maxAge: m.maxAge, sums: m.sums, mine: map[string]value{}, edited: map[string]bool{}}
	if now := m.sessions[id]; now != nil {
		s.as(now)
	} else {
		s.gone = m.grace[id]
	}
	m.stores = append(m.stores, s)
}

func (m *model) remove(id string) {
	m.sessions[id] = nil
	for _, s := range m.stores {
		if s.id == id {
			s.afterwards = s.afterwards || s.base == nil
		}
	}
}

// stored is what Redis holds.
func (m *model) stored(id string) (values map[string]value, present bool) {
	data, err := m.raw.Get(m.name(id)).Result()
	if err == goredis.Nil {
		return nil, false
	} else if err != nil {
		m.Fatal(err)
	}
	if data, err = redis.Opened(m.p, m.name(id), data); err != nil {
		m.Fatal(err)
	}
	values = map[string]value{}
	if data != "" {
		decoded, err := session.DecodeGob([]byte(data))
		if err != nil {
			m.Fatal(err)
		}
		for key, v := range decoded {
			values[key.(string)] = modelled(v)
		}
	}
	return values, true
}

var modelKeys = []string{"a", "b", "c", "d", "e"}

func (m *model) check() {
	for i, id := range m.ids {
		want := m.sessions[id]
		got, present := m.stored(id)
		if !present || want == nil {
			if present != (want != nil) {
				m.Errorf("session %d: present %v, want %v", i, present, want != nil)
			}
			continue
		}
		if !maps.Equal(got, want.values) {
			m.Errorf("session %d is %v, want %v", i, got, want.values)
		}
		if user, ok := got["a"]; ok && !user.inMap && m.indexed { // a map is no user
			m.enteredInTheIndex(id, user)
		}
		if m.anyTTL {
			continue
		}
		ttl := m.raw.PTTL(m.name(id)).Val()
		if ttl > want.ttl || ttl < want.ttl-renewedAfter/3 { // a real server's clock runs
			m.Errorf("session %d lives for %v, want %v", i, ttl, want.ttl)
		}
	}
	for _, s := range m.stores {
		for _, key := range modelKeys {
			got, want := s.Get(ctx, key), s.mine[key]
			if _, ok := s.mine[key]; ok != (got != nil) || ok && modelled(got) != want {
				m.Errorf("Get(%s) = %v, want %v", key, got, want)
			}
		}
	}
}
