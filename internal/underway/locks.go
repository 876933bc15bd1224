// Package underway is what a process knows of the requests that are under way in it: which sessions are being saved
// (Locks), and which have just been looked at (Looks). All of it is by session id; the zero values are ready for use.
package underway

import (
	"hash/maphash"
	"sync"
	"time"
)

// Locks are locks by id. Requests of one session that end together would otherwise overtake each other in Redis, where
// each has to merge and try again. A lock exists only while somebody holds it.
type Locks struct {
	shards [64]lockShard
}

type lockShard struct {
	sync.Mutex
	held  map[string]*lock
	spare *lock // for reuse, or nil
}

// lock is a held lock; its shard's mutex protects it.
type lock struct {
	waiting int
	turn    chan struct{} // passes the lock on to one of those who wait; nil before the first
}

// seed makes it impossible to choose ids that share a shard.
var seed = maphash.MakeSeed()

func shardOf(id string, shards int) int { return int(maphash.String(seed, id) % uint64(shards)) }

// Lock waits until nobody else holds the id, or until the deadline. It reports whether the lock was had.
func (l *Locks) Lock(id string, deadline time.Time) bool {
	shard := &l.shards[shardOf(id, len(l.shards))]
	shard.Lock()
	held, busy := shard.held[id]
	if !busy {
		if shard.held == nil {
			shard.held = make(map[string]*lock)
		}
		free := shard.spare
		if free == nil {
			free = new(lock)
		}
		shard.held[id], shard.spare = free, nil
		shard.Unlock()
		return true
	}
	if held.turn == nil {
		held.turn = make(chan struct{}, 1)
	}
	held.waiting++
	shard.Unlock()

	timer := time.NewTimer(time.Until(deadline))
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

// Unlock passes the lock on.
func (l *Locks) Unlock(id string) {
	shard := &l.shards[shardOf(id, len(l.shards))]
	shard.Lock()
	defer shard.Unlock()
	held := shard.held[id]
	if held.waiting == 0 {
		delete(shard.held, id)
		shard.spare = held // nobody waits, and nobody has a turn
		return
	}
	held.waiting--
	held.turn <- struct{}{}
}
