// What is known of a server while it has trouble: nobody shares a server's trouble but those who need it, and in a long
// outage nobody waits for it.

package redis

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/coalesce"
)

// server is what calls for one server share.
type server struct {
	lanes *coalesce.Group[*call] // concurrent calls share pipelines; nil where each goes alone
	swaps *swaps
	*health
}

// health is whether a server serves.
type health struct {
	served            atomic.Int64 // when it did last, to a millisecond, by sinceStart
	failing, refusing trouble      // in everything, and in writes alone

	probing atomic.Bool
	down    atomic.Pointer[outage]
}

// trouble is a run of attempts that failed and between which none succeeded. Its times are by sinceStart, and 0 is none.
type trouble struct{ since, last atomic.Int64 }

// outage is why the server is known not to serve.
type outage struct {
	since time.Time
	cause error
	asked int64 // when the probe began that found it, by sinceStart
}

func (o *outage) Error() string {
	return fmt.Sprintf("the server does not serve since %s: %v", o.since.Format(time.TimeOnly), o.cause)
}

func (o *outage) Unwrap() error { return o.cause }

// outage is why the server does not serve, or nil. What a probe finds may come later than an answer to somebody who asked
// after it.
func (h *health) outage() *outage {
	if o := h.down.Load(); o != nil && o.asked >= h.served.Load() {
		return o
	}
	return nil
}

// serves says that an attempt succeeded.
func (h *health) serves(write bool) {
	if now := sinceStart(); now-h.served.Load() > int64(time.Millisecond) {
		h.served.Store(now)
	}
	if h.failing.since.Load() != 0 {
		h.failing.since.Store(0)
	}
	if write && h.refusing.since.Load() != 0 {
		h.refusing.since.Store(0)
	}
	if h.down.Load() != nil {
		h.down.Store(nil)
	}
}

// fails says that an attempt failed, and returns since when all have. What was before a quiet time of the length given does
// not count.
func (h *health) fails(begun time.Time, writesAlone bool, quiet time.Duration) (since time.Time) {
	t, first := &h.failing, int64(begun.Sub(start))+1
	if writesAlone {
		t = &h.refusing
	} else {
		first = max(first, h.served.Load())
	}
	now := sinceStart()
	if last := t.last.Swap(now); now-last > int64(quiet) {
		t.since.Store(first)
	} else if !t.since.CompareAndSwap(0, first) {
		if earlier := t.since.Load(); earlier != 0 {
			first = earlier
		}
	}
	return start.Add(time.Duration(first))
}

const (
	probeTime     = time.Second // how long a probe may take before the server is taken to be down
	probeInterval = 50 * time.Millisecond
)

// probe asks a server, which has not served since a time for a cause, for a key until it serves, each time within the limit. Until
// then it is down, and requests fail at once. It ends when the provider is closed or the client is, and does not keep it from being
// so.
func (h *health) probe(l link, gate *gate, key string, since time.Time, cause error, limit time.Duration) {
	if !h.probing.CompareAndSwap(false, true) {
		return
	}
	answer := make(chan error, 1)
	look := func() {
		var err error
		defer func() {
			_ = recover() // a client of the application that panics, or ends its goroutine, shall do so in its callers
			answer <- err
		}()
		err = ask(within(limit), l, newInt("exists", key))
	}
	go func() {
		defer h.probing.Store(false)
		defer h.serves(false)
		for {
			asked := sinceStart()
			go look()
			var err error
			select {
			case err = <-answer:
			case <-time.After(probeTime):
				h.down.Store(&outage{since, cause, asked})
				err = <-answer
			}
			if err == nil || gate.isShut() || closedClient(err) || isReply(err, "") && !retryable(err) {
				return
			}
			h.down.Store(&outage{since, err, asked})
			time.Sleep(probeInterval)
		}
	}()
}
