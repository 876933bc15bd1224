// How commands reach the server: in one round trip, within a time limit, repeated where the connection failed.

package redis

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/coalesce"
	"github.com/go-redis/redis/v7"
)

// roundTrips sends commands through a client. Every command may be executed twice, when the reply to the first was lost
// with its connection: nothing may be sent here that does harm when repeated.
type roundTrips struct {
	link       link
	own        client.Client // what link leads to, unless that is a client of the application
	owner      *owner        // of own
	maxRetries int
	minBackoff time.Duration
	maxBackoff time.Duration
	outageTime time.Duration // how long a call is repeated while the server does not serve, beyond maxRetries
	timeLimit  time.Duration // how long one call may take, with all its retries
	retries    *atomic.Uint64
	gate       *gate

	servers sync.Map // *server by address; "" is the one that has all keys
	swaps   swaps    // of those whose addresses are not known, together
	layout

	refused   atomic.Pointer[refusal] // of scripts; nil: the server runs them, as far as is known
	onRefusal func(error)             // is told so, once
}

// repeatsUnseen tells whether the client sends commands again by itself without a word, so that its last error says nothing of
// the attempts before: that is an application's client of a cluster. One of another make must not.
func (r *roundTrips) repeatsUnseen() bool {
	_, ok := r.link.(*goRedis)
	return ok && r.own == nil && r.link.clustered()
}

// server returns the server of a call. A call for several servers, or for one that is not known, shares nothing.
func (r *roundTrips) server(cmds ...command) *server {
	s := r.serverOf(keyOf(cmds[0]))
	for _, cmd := range cmds[1:] {
		if r.link.clustered() && r.serverOf(keyOf(cmd)) != s {
			return r.unknown()
		}
	}
	return s
}

// serverOf returns the server of a key.
func (r *roundTrips) serverOf(key string) *server {
	addr := ""
	if r.sharded.Load() {
		return r.unknown()
	} else if r.link.clustered() {
		if r.own == nil || key == "" {
			return r.unknown()
		}
		if addr = r.own.Server(key); addr == "" {
			return r.unknown()
		}
	}
	if s, ok := r.servers.Load(addr); ok {
		return s.(*server)
	}
	s, _ := r.servers.LoadOrStore(addr, &server{coalesce.New(r.send, coalesce.Limits{}), new(swaps), new(health)})
	return s.(*server)
}

// queued is how many calls wait for others to travel with.
func (r *roundTrips) queued() (n int) {
	r.servers.Range(func(_, s any) bool {
		n += s.(*server).lanes.Queued()
		return true
	})
	return n
}

func (r *roundTrips) unknown() *server { return &server{swaps: &r.swaps, health: new(health)} }

// keyAt returns where in a command its first key is, and 0 if it has none.
func keyAt(cmd command) int {
	switch cmd.Name() {
	case "evalsha", "eval":
		return 3
	case "ping", "scan":
		return 0
	}
	return 1
}

// keyOf returns the first key of a command.
func keyOf(cmd command) string {
	if at := keyAt(cmd); at > 0 {
		key, _ := cmd.Args()[at].(string)
		return key
	}
	return ""
}

// writes tells whether a server that is read-only would refuse one of the commands.
func writes(cmds []command) bool {
	for _, cmd := range cmds {
		switch cmd.Name() {
		case "get", "pttl", "exists", "ping", "scan", "zrange", "zscore":
		default:
			return true
		}
	}
	return false
}

// do sends commands in one round trip and returns the first error, where redis.Nil is none.
func (r *roundTrips) do(ctx context.Context, cmds ...command) error {
	_, err := r.deliver(ctx, cmds...)
	return err
}

// deliver is do, and tells whether a reply was lost on the way: then the commands may have been executed more than once,
// or even though there is an error.
func (r *roundTrips) deliver(ctx context.Context, cmds ...command) (doubtful bool, err error) {
	return r.deliverCall(ctx, &call{cmds: cmds})
}

// deliverCall is deliver of a call of which nothing but its commands is set.
func (r *roundTrips) deliverCall(ctx context.Context, c *call) (doubtful bool, err error) {
	err = r.retry(ctx, func(ctx context.Context) error {
		lost, err := r.attemptCall(ctx, c)
		doubtful = doubtful || lost
		return err
	})
	return doubtful, err
}

// attempt is deliver without repeats but those of a cluster's client.
func (r *roundTrips) attempt(ctx context.Context, cmds ...command) (doubtful bool, err error) {
	return r.attemptCall(ctx, &call{cmds: cmds})
}

func (r *roundTrips) attemptCall(ctx context.Context, c *call) (doubtful bool, err error) {
	cmds := c.cmds
	for _, cmd := range cmds {
		cmd.SetErr(nil) // go-redis keeps the error of an earlier attempt
	}
	s, begun := r.server(cmds...), time.Now()
	if outage := s.outage(); outage != nil {
		failed(cmds, outage)
		return false, outage
	}
	c.ctx, c.lanes, c.lost = ctx, s.lanes, false
	if err := r.travel(c); err != nil { // and the call may still be under way
		if errors.Is(err, context.DeadlineExceeded) {
			err = r.unserved(ctx, s, begun, cmds[0], err)
		}
		return true, err
	}
	var failed command
	doubtful = c.lost
	for _, cmd := range cmds {
		if err := unwrap(cmd.Err()); err != nil && err != redis.Nil {
			doubtful = doubtful || !client.Unsent(err) && (!isReply(err, "") || isLoss(err) || r.repeatsUnseen())
			if failed == nil {
				failed = cmd
			}
		}
	}
	if failed == nil {
		s.serves(writes(cmds))
		return doubtful, nil
	}
	if err = unwrap(failed.Err()); retryable(err) && !isReply(err, "TRYAGAIN ") {
		err = r.unserved(ctx, s, begun, failed, err)
	} else if isReply(err, "") {
		s.serves(false)
	}
	return doubtful, err
}

// unserved is the error of an attempt that the server did not serve, and when the first such attempt began.
type unserved struct {
	error
	since time.Time
}

func (u unserved) Unwrap() error { return u.error }

// hasty is how soon a caller's own deadline may end an attempt without that telling anything of the server.
const hasty = 300 * time.Millisecond

// unserved takes note of an attempt that the server did not serve.
func (r *roundTrips) unserved(ctx context.Context, s *server, begun time.Time, cmd command, err error) error {
	if over(ctx) && time.Since(begun) < hasty {
		return err
	}
	if isReply(err, "READONLY ", "MASTERDOWN ") {
		if r.own != nil {
			r.own.Renew() // the address may have become that of another server
		}
	}
	writesAlone := isReply(err, "READONLY ", "NOREPLICAS ")
	since := s.fails(begun, writesAlone, r.outageTime)
	// Of a server that refuses writes, and of one that a proxy has lost, a probe tells nothing: the address answers.
	if s.lanes != nil && r.outageTime > 0 && time.Since(since) >= r.outageTime && !writesAlone && !isLoss(err) {
		s.probe(r.link, r.gate, keyOf(cmd), since, err, r.timeLimit)
	}
	return unserved{err, since}
}

// travel sends a call, with those of others where that is faster, and returns when its commands have their replies. If its
// context ends before that, travel returns the error of the context, and the call may still be under way.
func (r *roundTrips) travel(c *call) error {
	if c.lanes == nil || c.size() > largeCall {
		r.alone(c)
	} else if err := c.lanes.Do(c.ctx, c); err != nil {
		return err
	}
	return c.left
}

// alone sends a call by itself. go-redis does not interrupt a command whose context is cancelled; the caller is not kept
// waiting for a reply or a connection. Under Sentinel, in a cluster and with a client of the application, which cannot be
// interrupted, that takes a goroutine; the link to one of another make has one already. A hook of the application that panics, or
// ends its goroutine, does that to the caller.
func (r *roundTrips) alone(c *call) {
	if c.ctx.Done() == nil || !r.link.waits() {
		r.transmit(c.ctx, c.cmds, c)
		return
	}
	if own, ok := r.own.(client.Interrupter); ok {
		if ctx := own.Interruptible(c.ctx); ctx != nil {
			defer ctx.End()
			r.transmit(ctx, c.cmds, c)
			if err := ctx.Err(); err != nil && unanswered(c.cmds) {
				c.left = err
			}
			return
		}
	}
	c.left = apart(c.ctx, func(ctx context.Context) { r.transmit(ctx, c.cmds, c) })
}

// apart runs f in a goroutine of its own, under the deadline of ctx, and returns when it has ended. If ctx ends before that,
// it returns the error of ctx, and f may still be under way.
func apart(ctx context.Context, f func(ctx context.Context)) error {
	inner := ctx
	if deadline, ok := ctx.Deadline(); ok {
		inner = limit(ctx, deadline)
	}
	select {
	case o := <-started(inner, f):
		o.share()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// outcome is how a function has ended.
type outcome struct {
	panicked any
	returned bool
}

// started runs f in a goroutine of its own.
func started(ctx context.Context, f func(ctx context.Context)) <-chan outcome {
	ended := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			if !o.returned {
				o.panicked = recover()
			}
			ended <- o
		}()
		f(ctx)
		o.returned = true
	}()
	return ended
}

// share ends the goroutine of its caller like that of the function, unless that has returned.
func (o outcome) share() {
	switch {
	case o.panicked != nil:
		panic(o.panicked)
	case !o.returned:
		runtime.Goexit()
	}
}

// unanswered tells whether the server has not answered one of the commands.
func unanswered(cmds []command) bool {
	return slices.ContainsFunc(cmds, func(cmd command) bool { return cmd.Err() != nil && !isReply(cmd.Err(), "") })
}

// call is the commands of one round trip.
type call struct {
	ctx   context.Context
	cmds  []command
	lanes *coalesce.Group[*call] // to travel in, with others; nil: alone
	lost  bool                   // a cluster's client has sent it again after its reply was lost
	left  error                  // its context has ended before there was a reply
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
	if len(calls) == 1 {
		r.alone(calls[0])
		return
	}
	// A pipeline of several has the time of the last, and belongs to none: no cancellation, no hook's values.
	var deadline time.Time
	cmds := make([]command, 0, 2*len(calls))
	for _, c := range calls {
		if d, _ := c.ctx.Deadline(); d.After(deadline) {
			deadline = d
		}
		cmds = append(cmds, c.cmds...)
	}
	r.transmit(limit(context.Background(), deadline), cmds, calls...)
}

// transmit sends the commands of some calls.
func (r *roundTrips) transmit(ctx context.Context, cmds []command, calls ...*call) {
	if r.own != nil && r.link.clustered() {
		var lost atomic.Bool
		ctx = client.WithLosses(ctx, &lost)
		defer func() {
			for _, c := range calls {
				c.lost = lost.Load()
			}
		}()
	}
	r.link.send(ctx, cmds...)
}

// retry repeats a round trip until it succeeds, cannot succeed, or time or retries are used up. While the server does not
// serve, it goes on until that is known to be an outage: one that is short costs nobody a request.
func (r *roundTrips) retry(ctx context.Context, attempt func(context.Context) error) error {
	begun := time.Now()
	ctx = limit(ctx, begun.Add(r.timeLimit))
	for retries := 0; ; retries++ {
		err := attempt(ctx)
		switch {
		case err == nil:
			return nil
		case over(ctx):
			return fmt.Errorf("%w: %w", context.DeadlineExceeded, err) // go-redis calls it an i/o timeout
		case !retryable(err):
			return err
		}
		wait := r.backoff(retries)
		if retries >= r.maxRetries {
			left := r.patience(begun, err)
			if left <= 0 {
				return err
			}
			wait = min(wait, left)
		}
		if ended := sleep(ctx, wait); ended != nil {
			return fmt.Errorf("%w: %w", ended, err)
		}
		r.retries.Add(1)
	}
}

// patience is how much longer a call that began at begun waits for a server that does not serve.
func (r *roundTrips) patience(begun time.Time, err error) time.Duration {
	var u unserved
	if !errors.As(err, &u) {
		return 0
	}
	if u.since.Before(begun) {
		begun = u.since
	}
	return time.Until(begun.Add(r.outageTime))
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

// script is a Lua script and its digest: strings, as arguments of a command.
type script struct{ source, sha1 any }

func newScript(source string) script {
	digest := sha1.Sum([]byte(source))
	return script{source: source, sha1: hex.EncodeToString(digest[:])}
}

// run is one run of a script, with plain commands that travel along before and after it.
type run struct {
	script
	keys          []string
	args          []any
	before, after []command
	aside         bool // what becomes of it tells nothing of the scripts that save sessions
}

// single is a command, with what it travels in and what may travel along, in one piece: that is one allocation, and not one
// for each part.
type single struct {
	call
	cmd  anyCmd
	args [12]any
	cmds [4]command
}

// eval runs a script that the server has parsed before, or else has it parsed. doubtful is that of deliver. Where the
// server refuses scripts, scriptless is true from then on.
func (r *roundTrips) eval(ctx context.Context, run run) (reply any, doubtful bool, err error) {
	reply, doubtful, err = r.evalOnce(ctx, run, "evalsha", run.sha1)
	if err != nil && isReply(err, "NOSCRIPT") {
		var again bool
		reply, again, err = r.evalOnce(ctx, run, "eval", run.source)
		doubtful = doubtful || again
	}
	return reply, doubtful, err
}

func (r *roundTrips) evalOnce(ctx context.Context, run run, name, script any) (reply any, doubtful bool, err error) {
	e := new(single)
	args := append(e.args[:0], name, script, len(run.keys))
	for _, key := range run.keys {
		args = append(args, key)
	}
	e.cmd.Cmd = *redis.NewCmd(append(args, run.args...)...)
	e.call.cmds = append(append(append(e.cmds[:0], run.before...), &e.cmd), run.after...)
	doubtful, err = r.deliverCall(ctx, &e.call)
	if !run.aside {
		if refused := r.refused.Load(); err == nil && refused != nil {
			r.refused.CompareAndSwap(refused, nil)
		}
		r.noteRefusal(e.cmd.Err())
	}
	return e.cmd.Val(), doubtful || err != nil && e.cmd.Err() == nil, err
}

// refusal is that of scripts by a server.
type refusal struct {
	at   int64         // when it refused one last, by sinceStart
	wait time.Duration // until one is tried again
}

// What a server allows may change, and what it refused for a moment it must not refuse for long: without scripts a save can
// lose an update. So one is tried again soon, and then ever more seldom.
var (
	firstRefusalTime = time.Second
	refusalTime      = time.Minute
)

// noteRefusal takes note of the error of a script that the server refuses.
func (r *roundTrips) noteRefusal(err error) {
	if !refusesScripts(err) || r.scriptless() {
		return
	}
	last, now := r.refused.Load(), &refusal{sinceStart(), firstRefusalTime}
	if last != nil {
		now.wait = min(2*last.wait, refusalTime)
	}
	if r.refused.CompareAndSwap(last, now) && last == nil {
		r.onRefusal(unwrap(err))
	}
}

// askAgain has everything tried and asked again that a server has refused: it may be allowed, or another server, by now.
func (r *roundTrips) askAgain() {
	r.refused.Store(nil)
	r.swaps.asked.Store(0)
	r.servers.Range(func(_, s any) bool {
		s.(*server).swaps.asked.Store(0)
		return true
	})
}

// scriptless tells that the server has refused scripts of late.
func (r *roundTrips) scriptless() bool {
	refused := r.refused.Load()
	return refused != nil && sinceStart()-refused.at < int64(min(refused.wait, refusalTime))
}
