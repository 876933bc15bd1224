// One request at a time may save or remove a session of one id, within this process.

package redis

import (
	"hash/maphash"
	"sync"
	"time"
)

// idLocks are locks by session id. Requests of one session that end together would otherwise overtake each other in
// Redis, where each has to merge and try again. A lock exists only while somebody holds it.
type idLocks struct {
	seed   maphash.Seed
	shards [64]struct {
		sync.Mutex
		held map[string]*idLock
	}
}

// idLock is a held lock; its shard's mutex protects it.
type idLock struct {
	waiting int
	turn    chan struct{} // passes the lock on to one of those who wait; nil before the first
}

func newIDLocks() *idLocks {
	l := &idLocks{seed: maphash.MakeSeed()}
	for i := range l.shards {
		l.shards[i].held = make(map[string]*idLock)
	}
	return l
}

// lock waits until nobody else holds the id, for as long as limit. It reports whether the lock was had.
func (l *idLocks) lock(id string, limit time.Duration) bool {
	shard := &l.shards[maphash.String(l.seed, id)%uint64(len(l.shards))]
	shard.Lock()
	held, busy := shard.held[id]
	if !busy {
		shard.held[id] = &idLock{}
		shard.Unlock()
		return true
	}
	if held.turn == nil {
		held.turn = make(chan struct{}, 1)
	}
	held.waiting++
	shard.Unlock()

	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-held.turn:
		return true
	case <-timer.C:
	}
	shard.Lock()
	defer shard.Unlock()
	if held.waiting > 0 {
		held.waiting--
		return false
	}
	<-held.turn // the last turn that was passed on is this one's
	return true
}

func (l *idLocks) unlock(id string) {
	shard := &l.shards[maphash.String(l.seed, id)%uint64(len(l.shards))]
	shard.Lock()
	defer shard.Unlock()
	held := shard.held[id]
	if held.waiting == 0 {
		delete(shard.held, id)
		return
	}
	held.waiting--
	held.turn <- struct{}{}
}
