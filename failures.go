// What goes wrong: its kinds, and what is told of it where no caller can be.

package redis

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego/beego/v2/server/web/session"
	"github.com/go-redis/redis/v7"
)

// Kind is a kind of failure, by which failures are counted ([Stats], the label kind of redisprom). What a program can act on is
// rather an error like [ErrUnreachable].
type Kind string

// The kinds of failures. [Stats] counts each.
const (
	KindUnreachable Kind = "unreachable" // a connection could not be opened, or was lost
	KindTimeout     Kind = "timeout"     // no answer in time, no free connection, or no end of other requests of the session
	KindCanceled    Kind = "canceled"    // the caller's context was cancelled
	KindRefused     Kind = "refused"     // the server answered with an error: it is full, read-only, or denies the user a command
	KindUndecodable Kind = "undecodable" // what is stored is no session, cannot be decrypted, or has a type that this program does not know as that
	KindUnencodable Kind = "unencodable" // an entry could not be encoded: its change is lost, the others are saved
	KindVanished    Kind = "vanished"    // a session that was changed no longer exists, and nobody is known to have destroyed it
	KindTooLarge    Kind = "too_large"   // a session grew beyond max_session_bytes, and was not saved
	KindClosed      Kind = "closed"      // the provider or its client was closed
	KindOther       Kind = "other"       // anything else, like a mistake in the configuration
)

// kinds are all of them, in the order in which they are counted.
var kinds = [...]Kind{KindUnreachable, KindTimeout, KindCanceled, KindRefused, KindUndecodable, KindUnencodable, KindVanished,
	KindTooLarge, KindClosed, KindOther}

// failing is an error whose kind does not show.
type failing struct {
	kind Kind
	error
}

func (f failing) Unwrap() error { return f.error }

func kindOf(err error) Kind {
	var known failing
	var netErr net.Error
	switch {
	case errors.As(err, &known):
		return known.kind
	case errors.Is(err, ErrClosed):
		return KindClosed
	case errors.Is(err, context.Canceled):
		return KindCanceled
	case isLoss(err):
		return KindUnreachable
	case isReply(err, "WRONGTYPE "):
		return KindUndecodable
	case isReply(err, ""):
		return KindRefused
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout(), client.NoneFree(err):
		return KindTimeout
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), netErr != nil, client.Unopened(err):
		return KindUnreachable
	}
	return KindOther
}

// Failure is something that went wrong and that no caller can be told, because SessionRelease returns nothing. See
// [Provider.OnError].
type Failure struct {
	Operation string // like "save"
	Session   string // the first six characters of the session's id, in quotes, which may be shown; empty if it is about none
	Kind      Kind
	Err       error // says all of this, and where, and holds no secret; errors.Is finds ErrUnreachable and the like
}

// LogValue makes a group of the failure for [log/slog]: operation, session, kind and error.
func (f Failure) LogValue() slog.Value {
	return slog.GroupValue(slog.String("operation", f.Operation), slog.String("session", f.Session), slog.String("kind", string(f.Kind)),
		slog.Any("error", f.Err))
}

// OnError has f called for each failure that no caller can be told:
//
//   - a release that could not save, or could not renew the life time: Redis was not reached, the session grew too large or is gone
//   - an entry that could not be encoded, while the others were saved
//   - a session that could not be entered in the index of its user, and sessions that could not be counted ([Provider.SessionAll])
//   - a look at Redis that failed, and without which the request goes on (on_outage)
//   - a stored value that is replaced by an empty session (on_undecodable)
//   - once for each, a type of which entries do not decode in this program
//   - a function of [Provider.MergeKey] that failed, and one of [Provider.LifeTime] that gave what cannot be
//   - a file of encryption keys that is not right any more
//
// ctx has the values of the request's context, and is not cancelled. f runs in the request (for a file of keys, in a goroutine of
// its own), and several calls may be under way at a time. It may do anything with the provider and the session, and Close does not
// wait for it. It may be set at any time. With nil, as at first, failures are logged to session.SLogger: five of a kind in a
// second, and then the number of those beyond.
func (p *Provider) OnError(f func(ctx context.Context, failure Failure)) {
	if f == nil {
		p.failures.hook.Store(nil)
	} else {
		p.failures.hook.Store(&f)
	}
}

// fail counts the error of an operation, and says what was tried on which session, and where. Ids are credentials: it shows
// six characters at most.
func (b *backend) fail(operation, sid string, err error) error {
	if !errors.Is(err, ErrClosed) && (errors.Is(err, redis.ErrClosed) || b.gate.isShut() && errors.Is(err, net.ErrClosed)) {
		err = fmt.Errorf("%w: %w", ErrClosed, err) // it was cut off
	}
	b.count(err)
	return b.wrap(operation, sid, asCallersKnow(err))
}

func (b *backend) count(err error) { b.counters.errors[slices.Index(kinds[:], kindOf(err))].Add(1) }

// tell is fail of an error that cannot be returned.
func (b *backend) tell(ctx context.Context, operation, sid string, err error) {
	f := Failure{Operation: operation, Err: b.fail(operation, sid, err)}
	if f.Kind = kindOf(f.Err); sid != "" {
		f.Session = abridged(sid)
	}
	b.failures.tell(ctx, f)
}

// untold are failures that are told when their operation has left the lock of its session and the gate: the function that they
// are told to may do anything with both.
type untold []struct {
	operation, sid string
	err            error
}

func (u *untold) add(operation, sid string, err error) {
	*u = append(*u, untold{{operation, sid, err}}...)
}

func (b *backend) tellAll(ctx context.Context, failures untold) {
	for _, f := range failures {
		b.tell(ctx, f.operation, f.sid, f.err)
	}
}

// failures is what is told of them.
type failures struct {
	hook      atomic.Pointer[func(context.Context, Failure)]
	undecoded undecodedTypes

	mu   sync.Mutex // protects what follows
	logs [len(kinds)]struct {
		since time.Time    // when the current second began
		lines int          // in it
		left  int          // out, and
		to    *session.Log // where that is to be said
	}
}

func (f *failures) tell(ctx context.Context, failure Failure) {
	if hook := f.hook.Load(); hook != nil {
		(*hook)(detached(ctx), failure)
	} else {
		f.log(failure)
	}
}

// linesPerSecond is how many failures of a kind are logged: in an outage there is one for each request.
var linesPerSecond = 5

// log logs a failure, or counts it for a line that says how many were left out.
func (f *failures) log(failure Failure) {
	f.mu.Lock()
	now, log := time.Now(), &f.logs[slices.Index(kinds[:], failure.Kind)]
	if now.Sub(log.since) >= time.Second {
		log.since, log.lines = now, 0
	}
	log.lines++
	show := log.lines <= linesPerSecond
	if !show {
		if log.left++; log.left == 1 {
			log.to = session.SLogger // the one of now: a program may replace it
			time.AfterFunc(time.Until(log.since.Add(time.Second)), func() { f.sum(failure.Kind) })
		}
	}
	f.mu.Unlock()
	if show {
		session.SLogger.Println(failure.Err)
	}
}

// sum logs how many failures of a kind were left out.
func (f *failures) sum(kind Kind) {
	f.mu.Lock()
	log := &f.logs[slices.Index(kinds[:], kind)]
	left, to := log.left, log.to
	log.left = 0
	f.mu.Unlock()
	if left > 0 {
		to.Printf("session/redis: and %d more of the kind %s within a second", left, kind)
	}
}

// flush logs at once how many were left out.
func (f *failures) flush() {
	for _, kind := range kinds {
		f.sum(kind)
	}
}
