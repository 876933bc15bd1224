// Which session ids this process has removed, so that a request still in flight does not create them anew.

package redis

import (
	"sync"
	"sync/atomic"
)

// removedKept is how many removed ids are remembered. A request must outlast this many log-outs and regenerates of its
// process for its session to be forgotten here.
const removedKept = 4096

// removals remembers the ids that were removed last. Redis alone cannot tell a session that was never saved from one
// that was created and removed within the same request, as filter/session does when a handler logs out.
type removals struct {
	count atomic.Uint64 // of all removals so far

	mu    sync.Mutex
	at    map[string]uint64 // the count at which an id was removed last
	order [removedKept]string
}

func newRemovals() *removals { return &removals{at: make(map[string]uint64)} }

// now is a moment to ask about with since.
func (r *removals) now() uint64 { return r.count.Load() }

func (r *removals) add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	count := r.count.Add(1)
	oldest := &r.order[count%removedKept]
	if r.at[*oldest]+removedKept == count {
		delete(r.at, *oldest)
	}
	*oldest = id
	r.at[id] = count
}

// since tells whether id was removed after the moment.
func (r *removals) since(id string, moment uint64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at[id] > moment
}
