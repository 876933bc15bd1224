// How commands reach the server: in one round trip, within a time limit, repeated where the connection failed.

package redis

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/coalesce"
	"github.com/go-redis/redis/v7"
)

// roundTrips sends commands through a client. Every command may be executed twice, when the reply to the first was lost
// with its connection: nothing may be sent here that does harm when repeated.
type roundTrips struct {
	client     redis.UniversalClient
	maxRetries int
	minBackoff time.Duration
	maxBackoff time.Duration
	limit      time.Duration // how long one call may take, with all its retries

	lanes *coalesce.Group[*call] // concurrent calls share pipelines

	scriptless atomic.Bool // the server refuses scripts
	onRefusal  func(error) // is told so, once
}

// cluster is the client of a cluster, or nil.
func (r *roundTrips) cluster() interface {
	ForEachMaster(func(*redis.Client) error) error
} {
	cluster, _ := r.client.(interface {
		ForEachMaster(func(*redis.Client) error) error
	})
	return cluster
}

// do sends commands in one round trip and returns the first error, where redis.Nil is none.
func (r *roundTrips) do(ctx context.Context, cmds ...redis.Cmder) error {
	return r.retry(ctx, func(ctx context.Context) error {
		for _, cmd := range cmds {
			cmd.SetErr(nil) // go-redis keeps the error of an earlier attempt
		}
		if err := r.travel(&call{ctx, cmds}); err != nil {
			return err // and the call may still be under way
		}
		for _, cmd := range cmds {
			if err := cmd.Err(); err != nil && err != redis.Nil {
				return err
			}
		}
		return nil
	})
}

// travel sends a call and returns when its commands have their replies. go-redis does not interrupt a command whose
// context is cancelled; the caller is not kept waiting for it.
func (r *roundTrips) travel(c *call) error {
	if c.ctx.Done() == nil {
		return r.join(c)
	}
	sent := make(chan error, 1)
	go func() { sent <- r.join(c) }()
	select {
	case err := <-sent:
		return err
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// join sends a call, with those of others where that is faster.
func (r *roundTrips) join(c *call) error {
	if c.size() > largeCall {
		r.send([]*call{c})
		return nil
	}
	return r.lanes.Do(c.ctx, c)
}

// call is the commands of one round trip.
type call struct {
	ctx  context.Context
	cmds []redis.Cmder
}

// largeCall is how many bytes a call may have to travel together with others, who would wait for it.
const largeCall = 64 << 10

func (c *call) size() (bytes int) {
	for _, cmd := range c.cmds {
		for _, arg := range cmd.Args() {
			if s, ok := arg.(string); ok {
				bytes += len(s)
			}
		}
	}
	return bytes
}

// send sends calls, several in one pipeline. What comes of them is in their commands.
func (r *roundTrips) send(calls []*call) {
	ctx, cmds := calls[0].ctx, calls[0].cmds
	if len(calls) > 1 {
		// A pipeline of several has the time of the last, and belongs to none: no cancellation, no hook's values.
		deadline, _ := ctx.Deadline()
		cmds = make([]redis.Cmder, 0, 2*len(calls))
		for _, c := range calls {
			if d, _ := c.ctx.Deadline(); d.After(deadline) {
				deadline = d
			}
			cmds = append(cmds, c.cmds...)
		}
		ctx = bounded{context.Background(), deadline}
	}
	if len(cmds) == 1 {
		_ = r.client.ProcessContext(ctx, cmds[0])
		return
	}
	pipe := r.client.Pipeline()
	for _, cmd := range cmds {
		_ = pipe.Process(cmd)
	}
	_, _ = pipe.ExecContext(ctx)
}

// retry repeats a round trip until it succeeds, cannot succeed, or time or retries are used up.
func (r *roundTrips) retry(ctx context.Context, attempt func(context.Context) error) error {
	ctx = r.bounded(ctx)
	for retries := 0; ; retries++ {
		err := attempt(ctx)
		switch {
		case err == nil:
			return nil
		case over(ctx):
			return fmt.Errorf("%w: %w", context.DeadlineExceeded, err) // go-redis calls it an i/o timeout
		case !retryable(err) || retries == r.maxRetries:
			return err
		}
		if ended := sleep(ctx, r.backoff(retries)); ended != nil {
			return fmt.Errorf("%w: %w", ended, err)
		}
	}
}

// A bounded context has a deadline but no timer: go-redis puts the deadline on the connection, and the waits of this
// package ask for it.
type bounded struct {
	context.Context
	deadline time.Time
}

func (b bounded) Deadline() (time.Time, bool) { return b.deadline, true }

// bounded bounds ctx by the time limit.
func (r *roundTrips) bounded(ctx context.Context) context.Context {
	limit := time.Now().Add(r.limit)
	if deadline, ok := ctx.Deadline(); ok && deadline.Before(limit) {
		return ctx
	}
	return bounded{ctx, limit}
}

// over tells whether the deadline of ctx has passed.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ok && !time.Now().Before(deadline)
}

// backoff doubles from one retry to the next, and is drawn from its upper half so that those who failed together do not
// come back together.
func (r *roundTrips) backoff(retries int) time.Duration {
	d := r.minBackoff
	for range retries {
		d = min(2*d, r.maxBackoff)
	}
	return jitter(d)
}

// pause lets the others of a conflict go first, for up to 64 ms. It does so every second time only: after a pause the
// next save finds what has changed during it, and the one after that must be quick.
func (r *roundTrips) pause(ctx context.Context, conflicts int) error {
	if conflicts%2 == 0 {
		return nil
	}
	return sleep(ctx, jitter(time.Millisecond<<min(conflicts/2, 6)))
}

func jitter(d time.Duration) time.Duration { return d/2 + rand.N(d/2+1) }

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

// retryable tells whether a command may succeed when it is sent again: the connection failed, or the server cannot
// serve it yet.
func retryable(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return true
	}
	var netErr net.Error
	if errors.As(err, &netErr) {
		return true
	}
	for _, reply := range []string{"LOADING ", "READONLY ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "ERR max number of clients reached"} {
		if isReply(err, reply) {
			return true
		}
	}
	return false
}

// isReply tells whether err is the server's own, and begins so.
func isReply(err error, prefix string) bool {
	var reply redis.Error
	return errors.As(err, &reply) && strings.HasPrefix(reply.Error(), prefix)
}

// script is a Lua script and its digest.
type script struct{ source, sha1 string }

func newScript(source string) script {
	digest := sha1.Sum([]byte(source))
	return script{source: source, sha1: hex.EncodeToString(digest[:])}
}

// eval runs a script that the server has parsed before, or else has it parsed. Where the server refuses scripts for
// good, scriptless is true from then on.
func (r *roundTrips) eval(ctx context.Context, s script, keys []string, args ...any) (any, error) {
	all := make([]any, 0, 3+len(keys)+len(args))
	all = append(all, "evalsha", s.sha1, len(keys))
	for _, key := range keys {
		all = append(all, key)
	}
	all = append(all, args...)
	cmd := redis.NewCmd(all...)
	err := r.do(ctx, cmd)
	if err != nil && isReply(err, "NOSCRIPT") {
		all[0], all[1] = "eval", s.source
		cmd = redis.NewCmd(all...)
		err = r.do(ctx, cmd)
	}
	if err != nil && refusesScripts(err) && !r.scriptless.Swap(true) {
		r.onRefusal(err)
	}
	return cmd.Val(), err
}

// refusesScripts recognises a user who may not run scripts, and a server or proxy that knows none.
func refusesScripts(err error) bool {
	if isReply(err, "NOPERM") {
		return strings.Contains(err.Error(), "'eval") // not a key that the user may not touch
	}
	return isReply(err, "ERR unknown command")
}
