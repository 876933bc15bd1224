// Contexts as beego passes them and as a session needs them: nil, not to be cancelled, limited in time; and what time it is.

package redis

import (
	"context"
	"time"

	"github.com/beego-session/redis/internal/client"
)

// start is when sinceStart began to count.
var start = time.Now()

// sinceStart is a time in ns that is never 0 and that only moves forward, whatever becomes of the machine's clock.
func sinceStart() int64 { return int64(time.Since(start)) + 1 }

// background is ctx, or context.Background for nil: beego passes nil to many methods.
func background(ctx context.Context) context.Context {
	if ctx == nil {
		return context.Background()
	}
	return ctx
}

// detached keeps the values of ctx and drops its cancellation: since v2.3.10 beego passes the request's context to
// SessionRelease, and a client that hung up must not lose its session.
func detached(ctx context.Context) context.Context { return context.WithoutCancel(background(ctx)) }

// A limited context has a deadline but no timer: go-redis puts the deadline on the connection, and the waits of this
// package ask for it.
type limited struct {
	context.Context
	deadline time.Time
}

func (l *limited) Deadline() (time.Time, bool) { return l.deadline, true }

// limit gives ctx until the deadline, unless its own is earlier.
func limit(ctx context.Context, deadline time.Time) context.Context {
	return new(limited).limit(ctx, deadline)
}

// within is a context that lasts so long.
func within(d time.Duration) context.Context { return limit(context.Background(), time.Now().Add(d)) }

// limit is the function limit, and makes l what it returns, unless that is ctx.
func (l *limited) limit(ctx context.Context, deadline time.Time) context.Context {
	if own, ok := ctx.Deadline(); ok && own.Before(deadline) {
		return ctx
	}
	l.Context, l.deadline = ctx, client.Uninterrupted(deadline)
	return l
}

// over tells whether the deadline of ctx has passed.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

// sleep waits, unless ctx ends before that.
func sleep(ctx context.Context, d time.Duration) error {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return context.DeadlineExceeded
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
