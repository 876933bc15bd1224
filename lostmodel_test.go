// Random interleavings of two processes whose requests and replies are lost, checked step by step against the model.

package redis_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	goredis "github.com/go-redis/redis/v7"
)

func TestAnyInterleavingWithLossesKeepsTheContract(t *testing.T) {
	for _, topology := range lossyTopologies {
		if !topology.scripts {
			continue // a plain SET that comes late overwrites what came before it
		}
		t.Run(topology.name, func(t *testing.T) {
			raw, connect := topology.start(t)
			m := &lossModel{
				model: newModel(t, raw), log: captureLog(t), of: map[*modelStore]int{},
			}
			m.anyTTL = true
			two := &twoProcesses{site: &site{T: t, config: m.configure(`{"max_retries":2,"outage_time":"0s"}`)}}
			for range 2 {
				n := new(network)
				m.networks = append(m.networks, n)
				m.processes = append(m.processes, two.open(connect, n))
				m.merges(m.processes[len(m.processes)-1])
			}
			m.p = m.processes[0]
			for range 6 {
				m.ids = append(m.ids, newID())
			}
			for m.step = range redistest.Times(200, 2000) {
				m.act()
				m.check()
				for range min(2, len(m.removed)) {
					m.absent(m.removed[m.random.IntN(len(m.removed))])
				}
				if t.Failed() {
					t.Fatalf("after step %d: %s", m.step, m.last)
				}
			}
			for _, id := range m.removed {
				m.absent(id)
			}
			t.Logf("lost and repeated %d, failed %d, of which done %d, came late %d, removed ids %d",
				m.repeated, m.failed, m.done, m.late, len(m.removed))
			if m.step > 1500 && min(m.repeated, m.failed, m.done, m.late) == 0 {
				t.Error("the losses were too few to show anything")
			}
		})
	}
}

// lossModel is the model of two processes. An id that was removed does not come back: another one takes its place.
type lossModel struct {
	*model
	processes []*redis.Provider
	networks  []*network
	of        map[*modelStore]int // its process
	log       *lockedBuffer
	removed   []string

	repeated, failed, done, late int
}

func (m *lossModel) absent(id string) {
	if n := m.raw.Exists(m.name(id)).Val(); n != 0 {
		m.Errorf("the removed session %s is back", id[:4])
	}
}

// trouble has the network of a process lose something of the next operation, now and then. meanwhile happens when it does.
func (m *lossModel) trouble(process int, meanwhile func()) {
	if m.random.IntN(4) == 0 {
		n := m.networks[process]
		n.lose("", []int{1, 1, 1, 3, 3, always}[m.random.IntN(6)], func() {
			last := m.last
			meanwhile()
			m.last = last
		})
		n.requests = m.random.IntN(4) == 0
	}
}

// over ends the trouble and returns what was logged since the last.
func (m *lossModel) over(process int) string {
	m.networks[process].heal()
	m.networks[process].requests = false
	return m.log.take()
}

func (m *lossModel) act() {
	if len(m.stores) > 12 {
		m.forget(m.stores[m.random.IntN(len(m.stores))])
	}
	process, i := m.random.IntN(2), m.random.IntN(len(m.ids))
	if len(m.stores) == 0 || m.random.IntN(8) == 0 {
		m.did("read %d", i)
		m.trouble(process, func() {})
		store, err := m.processes[process].SessionRead(ctx, m.ids[i])
		m.over(process)
		if err == nil {
			m.add(m.ids[i], store)
			last := m.stores[len(m.stores)-1]
			// A regenerate that failed, or comes late, may have begun it.
			last.gone = last.base == nil && m.raw.Exists("grace:{"+m.name(m.ids[i])+"}").Val() != 0
			m.of[last] = process
		}
		return
	}
	s := m.stores[m.random.IntN(len(m.stores))]
	switch action := m.random.IntN(100); {
	case action < 34:
		m.edit(s, action)
	case action < 38:
		m.update(s)
	case action < 66:
		m.release(s, true)
	case action < 76:
		m.release(s, false)
	case action < 80:
		m.destroy(process, i)
	case action < 86:
		m.regenerate(process, i)
	case action < 88:
		m.did("%d expires", i)
		m.raw.Del(m.name(m.ids[i]))
		m.sessions[m.ids[i]] = nil
		for _, n := range m.networks {
			n.sent = nil // without a tombstone nothing tells that what comes late has been done before
		}
	default:
		m.comeLate()
	}
}

// forget drops stores of which the model does not know what they know.
func (m *lossModel) forget(stores ...*modelStore) {
	m.stores = slices.DeleteFunc(m.stores, func(s *modelStore) bool { return slices.Contains(stores, s) })
}

// new are the stores of an id that found no session.
func (m *lossModel) new(id string) (stores []*modelStore) {
	for _, s := range m.stores {
		if s.id == id && s.base == nil {
			stores = append(stores, s)
		}
	}
	return stores
}

// otherRequests are whole requests of sessions that exist, in a process whose network is well.
func (m *lossModel) otherRequests(process int) {
	for range m.random.IntN(4) {
		id := m.ids[m.random.IntN(len(m.ids))]
		if m.sessions[id] == nil {
			continue
		}
		m.anotherRequest(m.processes[process], id)
	}
}

func (m *lossModel) release(s *modelStore, create bool) {
	process := m.of[s]
	bytes := func() string { return m.raw.Get(m.name(s.id)).Val() }
	settled, before := false, bytes()
	wasNew := s.base == nil
	settle := func() { m.sessions[s.id], settled = s.release(m.sessions[s.id], create), true }
	m.trouble(process, func() {
		if bytes() != before { // the save was done
			settle()
		}
		m.otherRequests(1 - process)
		before = bytes()
	})
	if create {
		s.SessionRelease(ctx, nil)
	} else {
		releaseIfPresent(ctx, s.Store)
	}
	text := m.over(process)
	m.did("release of %s, log: %s", s.id[:4], text)
	if settled {
		m.repeated++
	}
	if !strings.Contains(text, " lost: ") || strings.Contains(text, "no longer exists") {
		if !settled {
			settle()
		}
		return
	}
	m.failed++
	if bytes() != before {
		settle()
	}
	if settled && strings.Contains(text, "are lost: ") {
		m.Errorf("it is saved, and was said to be lost for certain: %s", text)
	}
	switch {
	case wasNew, !settled && !m.knows(s), !settled && m.sessions[s.id] != nil && !maps.Equal(s.base.values, m.sessions[s.id].values):
		m.forget(s)
	case settled:
		m.done++
		s.doubtful = true
	}
}

// knows tells whether a store has the values that it has in the model.
func (m *lossModel) knows(s *modelStore) bool {
	for _, key := range modelKeys {
		want, have := s.mine[key]
		if got := s.Get(ctx, key); (got != nil) != have || have && modelled(got) != want {
			return false
		}
	}
	return true
}

// replace takes the place of an id that was removed.
func (m *lossModel) replace(i int, id string) {
	m.removed = append(m.removed, m.ids[i])
	m.ids[i] = id
}

func (m *lossModel) destroy(process, i int) {
	id := m.ids[i]
	m.did("destroy %d", i)
	m.trouble(process, func() {})
	err := m.processes[process].SessionDestroy(ctx, id)
	m.over(process)
	if err != nil {
		m.forget(m.new(id)...) // nobody knows whether there is a tombstone
		if _, present := m.stored(id); present || m.sessions[id] == nil {
			return
		}
	}
	m.remove(id)
	m.replace(i, newID())
}

func (m *lossModel) regenerate(process, i int) {
	id, next := m.ids[i], newID()
	moved := false
	move := func() {
		m.sessions[next], moved = m.moved(id), true
		m.remove(id)
	}
	m.trouble(process, func() {
		if _, present := m.stored(id); !present && m.sessions[id] != nil {
			move()
		}
		m.otherRequests(1 - process)
	})
	store, err := m.processes[process].SessionRegenerate(ctx, id, next)
	m.over(process)
	m.did("regenerate %d to %s: %v", i, next[:4], err)
	if err == nil {
		if moved {
			m.repeated++
		} else {
			move()
		}
		m.replace(i, next)
		m.add(next, store)
		m.of[m.stores[len(m.stores)-1]] = process
		return
	}
	m.failed++
	m.forget(m.new(id)...)
	want := m.sessions[id]
	if moved {
		want = m.sessions[next]
		m.done++
	}
	delete(m.sessions, next)
	old, under := m.stored(id)
	if copied, there := m.stored(next); want != nil && !under {
		if !there || !maps.Equal(copied, want.values) {
			m.Errorf("a regenerate that failed has lost the session: %v", err)
		}
		m.sessions[id] = nil
		m.replace(i, newID())
		return
	}
	if m.sessions[id] = want; want != nil && !maps.Equal(old, want.values) {
		m.Errorf("a regenerate that failed has changed the session to %v, want %v", old, want.values)
	}
	if moved {
		for _, s := range m.stores { // they were told that it was gone, and it is not
			if s.id == id {
				s.afterwards = false
			}
		}
	}
}

// comeLate executes a script once more that has been executed before.
func (m *lossModel) comeLate() {
	n := m.networks[m.random.IntN(2)]
	if len(n.sent) == 0 {
		return
	}
	if len(n.sent) > 500 {
		n.sent = slices.Clone(n.sent[250:])
	}
	args := n.sent[m.random.IntN(len(n.sent))]
	m.did("%s comes late", nameOf(goredis.NewCmd(args...)))
	if err := m.raw.Do(args...).Err(); err != nil && err != goredis.Nil && !strings.HasPrefix(err.Error(), "NOSCRIPT") {
		m.Error(err)
	}
	m.late++
}
