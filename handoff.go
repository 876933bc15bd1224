// beego asks SessionExist and then SessionRead of the same id: one look at Redis serves both.

package redis

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	// handoffTime is how long a value may wait for its SessionRead. beego's Manager calls it at once; any other caller
	// that comes later asks Redis.
	handoffTime = 20 * time.Millisecond
	// handoffMax is the length in bytes of the longest value that may wait. With the number of slots it bounds the memory
	// of values that nobody comes for, to 16 MB at worst.
	handoffMax = 64 << 10
)

// handoff holds what SessionExist has just read for the SessionRead of the same id that follows. Each value is taken
// once, and none that was read before this process saved or removed a session of its slot.
type handoff struct {
	seed  maphash.Seed
	slots [256]struct {
		sync.Mutex
		changes uint64 // saves and removals of sessions of this slot
		sid     string
		found   stored
		until   time.Time
	}
}

func newHandoff() *handoff { return &handoff{seed: maphash.MakeSeed()} }

func (h *handoff) slot(sid string) int {
	return int(maphash.String(h.seed, sid) % uint64(len(h.slots)))
}

// changes is asked before a value is read, for offer.
func (h *handoff) changes(sid string) uint64 {
	slot := &h.slots[h.slot(sid)]
	slot.Lock()
	defer slot.Unlock()
	return slot.changes
}

// offer leaves a value that was read after changes was asked.
func (h *handoff) offer(sid string, found stored, changes uint64) {
	if len(found.data) > handoffMax {
		return
	}
	slot := &h.slots[h.slot(sid)]
	slot.Lock()
	defer slot.Unlock()
	if slot.changes == changes {
		slot.sid, slot.found, slot.until = sid, found, time.Now().Add(handoffTime)
	}
}

// take returns a value that was left for the id a moment ago.
func (h *handoff) take(sid string) (found stored, ok bool) {
	slot := &h.slots[h.slot(sid)]
	slot.Lock()
	defer slot.Unlock()
	if slot.sid != sid {
		return stored{}, false
	}
	found, slot.sid, slot.found = slot.found, "", stored{}
	now := time.Now()
	return found, now.Before(slot.until) && (found.expires.IsZero() || now.Before(found.expires))
}

// forget is called when this process has saved or removed a session. A value that was left before is not handed on, and
// neither is one that is being read now.
func (h *handoff) forget(sid string) {
	slot := &h.slots[h.slot(sid)]
	slot.Lock()
	defer slot.Unlock()
	slot.changes++
	slot.sid, slot.found = "", stored{}
}
