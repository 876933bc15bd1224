// What is known of a server while it has trouble: nobody shares a server's trouble but those who need it, and in a long
// outage nobody waits for it.

package redis

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/coalesce"
	"github.com/go-redis/redis/v7"
)

// server is what calls for one server share.
type server struct {
	lanes *coalesce.Group[*call] // concurrent calls share pipelines; nil where each goes alone
	*health
}

// health is whether a server serves.
type health struct {
	// When an attempt began that failed and after which none has succeeded, in ns since 1970; 0: there is none. A server
	// that refuses writes may well serve reads.
	failing, refusing atomic.Int64

	probing atomic.Bool
	down    atomic.Pointer[outage]
}

// outage is why the server is known not to serve.
type outage struct {
	since time.Time
	cause error
}

func (o *outage) Error() string {
	return fmt.Sprintf("the server does not serve since %s: %v", o.since.Format(time.TimeOnly), o.cause)
}

func (o *outage) Unwrap() error { return o.cause }

// serves says that an attempt succeeded.
func (h *health) serves(write bool) {
	for _, since := range []*atomic.Int64{&h.failing, &h.refusing} {
		if since.Load() != 0 && (write || since == &h.failing) {
			since.Store(0)
		}
	}
	if h.down.Load() != nil {
		h.down.Store(nil)
	}
}

// fails says that an attempt failed, and returns when the first of its kind began.
func (h *health) fails(begun time.Time, err error) time.Time {
	since := &h.failing
	if isReply(err, "READONLY ") || isReply(err, "NOREPLICAS ") {
		since = &h.refusing
	}
	if !since.CompareAndSwap(0, begun.UnixNano()) {
		if first := since.Load(); first != 0 {
			return time.Unix(0, first)
		}
	}
	return begun
}

// Times of the probe that finds out whether a server serves again.
const (
	probeTime     = time.Second
	probeInterval = 50 * time.Millisecond
)

// probe asks a server until it serves. Until then it is down, and requests fail at once. It ends when the client is closed, and
// does not keep it from being so.
func (h *health) probe(client redis.UniversalClient, key string, since time.Time) {
	if !h.probing.CompareAndSwap(false, true) {
		return
	}
	go func() {
		defer h.probing.Store(false)
		defer func() { _ = recover() }() // a hook of the application that panics shall do so in its callers
		for {
			err := func() error {
				ctx, cancel := context.WithTimeout(context.Background(), probeTime)
				defer cancel()
				return client.ProcessContext(ctx, redis.NewIntCmd("exists", key))
			}()
			if err == nil || !retryable(err) {
				h.serves(false)
				return
			}
			h.down.Store(&outage{since, err})
			time.Sleep(probeInterval)
		}
	}()
}
