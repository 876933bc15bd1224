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
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/client"
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
	timeLimit  time.Duration // how long one call may take, with all its retries

	lanes *coalesce.Group[*call] // concurrent calls share pipelines

	refused   atomic.Int64 // when the server refused a script last, in ns since 1970; 0: it runs them, as far as is known
	onRefusal func(error)  // is told so, once
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
	_, err := r.deliver(ctx, cmds...)
	return err
}

// deliver is do, and tells whether a reply was lost on the way: then the commands may have been executed more than once,
// or even though there is an error.
func (r *roundTrips) deliver(ctx context.Context, cmds ...redis.Cmder) (doubtful bool, err error) {
	err = r.retry(ctx, func(ctx context.Context) error {
		lost, err := r.attempt(ctx, cmds...)
		doubtful = doubtful || lost
		return err
	})
	return doubtful, err
}

// attempt is deliver without repeats but those of a cluster's client.
func (r *roundTrips) attempt(ctx context.Context, cmds ...redis.Cmder) (doubtful bool, err error) {
	for _, cmd := range cmds {
		cmd.SetErr(nil) // go-redis keeps the error of an earlier attempt
	}
	c := &call{ctx: ctx, cmds: cmds}
	if err := r.travel(c); err != nil {
		return true, err // and the call may still be under way
	}
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && err != redis.Nil {
			return c.lost || !isReply(err, ""), err
		}
	}
	return c.lost, nil
}

// travel sends a call and returns when its commands have their replies. go-redis does not interrupt a command whose
// context is cancelled; the caller is not kept waiting for it. A hook of the application that panics, or ends its
// goroutine, does that to the caller.
func (r *roundTrips) travel(c *call) error {
	if c.ctx.Done() == nil {
		return r.join(c)
	}
	type outcome struct {
		err      error
		panicked any
		returned bool
	}
	sent := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if !o.returned {
				o.panicked = recover()
			}
			sent <- o
		}()
		o.err = r.join(c)
		o.returned = true
	}()
	select {
	case o := <-sent:
		switch {
		case o.panicked != nil:
			panic(o.panicked)
		case !o.returned:
			runtime.Goexit()
		}
		return o.err
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
	lost bool // a cluster's client has sent it again after its reply was lost
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
		ctx = limited{context.Background(), deadline}
	}
	if r.cluster() != nil {
		var lost atomic.Bool
		ctx = client.WithLosses(ctx, &lost)
		defer func() {
			for _, c := range calls {
				c.lost = lost.Load()
			}
		}()
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
	ctx = limit(ctx, time.Now().Add(r.timeLimit))
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

// again is an error that asks for another attempt.
type again string

func (a again) Error() string { return string(a) }

// retryable tells whether a command may succeed when it is sent again: the connection failed, or the server cannot
// serve it yet.
func retryable(err error) bool {
	if _, ok := err.(again); ok {
		return true
	}
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

// run is one run of a script, with plain commands that travel along before and after it.
type run struct {
	script
	keys          []string
	args          []any
	before, after []redis.Cmder
}

// eval runs a script that the server has parsed before, or else has it parsed. doubtful is that of deliver. Where the
// server refuses scripts, scriptless is true from then on.
func (r *roundTrips) eval(ctx context.Context, run run) (reply any, doubtful bool, err error) {
	args := make([]any, 0, 3+len(run.keys)+len(run.args))
	args = append(args, "evalsha", run.sha1, len(run.keys))
	for _, key := range run.keys {
		args = append(args, key)
	}
	args = append(args, run.args...)
	reply, doubtful, err = r.evalOnce(ctx, run, args)
	if err != nil && isReply(err, "NOSCRIPT") {
		args[0], args[1] = "eval", run.source
		var again bool
		reply, again, err = r.evalOnce(ctx, run, args)
		doubtful = doubtful || again
	}
	switch refused := r.refused.Load(); {
	case err == nil && refused != 0:
		r.refused.CompareAndSwap(refused, 0)
	case err != nil && refusesScripts(err):
		if r.refused.Swap(time.Now().UnixNano()) == 0 {
			r.onRefusal(err)
		}
	}
	return reply, doubtful, err
}

func (r *roundTrips) evalOnce(ctx context.Context, run run, args []any) (reply any, doubtful bool, err error) {
	cmd := redis.NewCmd(args...)
	cmds := make([]redis.Cmder, 0, len(run.before)+1+len(run.after))
	cmds = append(append(append(cmds, run.before...), cmd), run.after...)
	doubtful, err = r.deliver(ctx, cmds...)
	return cmd.Val(), doubtful, err
}

// refusalTime is how long no script is tried after the server has refused one. What it is allowed may change.
var refusalTime = time.Minute

// scriptless tells that the server has refused scripts of late.
func (r *roundTrips) scriptless() bool {
	refused := r.refused.Load()
	return refused != 0 && time.Since(time.Unix(0, refused)) < refusalTime
}

// refusesScripts recognises a user who may not run scripts, or not what is in them, and a server or proxy that knows none.
func refusesScripts(err error) bool {
	if isReply(err, "NOPERM") {
		return strings.Contains(err.Error(), "'eval") // not a key that the user may not touch
	}
	return isReply(err, "ERR unknown command") || isReply(err, "ERR The user executing the script can't run this command")
}
