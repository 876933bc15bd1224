// Which sessions there are: all of them one after the other, and how many.

package redis

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"iter"
	"strings"
	"time"
)

// Sessions returns the ids of all sessions, in no particular order; with hash_ids, "sha256:" and the hash for those that are
// hashed. It asks for a few hundred at a time, with SCAN on one master after the other, so that neither a server nor this process
// is busy with all of them at once; the time limit holds for each such step. A session that is there all the while is among them;
// one that comes or goes meanwhile may be. Without a key_prefix, keys of other programs are taken for sessions if they look like
// ids.
//
// No id comes twice, with two exceptions: in a cluster, that of a session that moves to another master meanwhile, which may also be
// left out; and any, where more than 99.99 % of several hundred thousand sessions are removed meanwhile. If a server restarts or is
// replaced meanwhile, any may be left out or come twice, because only the old one knew how far it was.
//
// An error comes last, with an empty id: ctx has ended, a step has failed (ErrUnreachable, or the server refuses SCAN), or the
// provider was closed (ErrClosed). The loop may use the provider, remove sessions, take its time, and be left at any time.
func (p *Provider) Sessions(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		b, err := p.begin()
		if err != nil {
			yield("", err)
			return
		}
		b.gate.leave()
		for sid, err := range b.sessions(background(ctx)) {
			if err != nil {
				err = b.fail("list", "", err)
			}
			if !yield(sid, err) {
				return
			}
		}
	}
}

// SessionAll counts the sessions that [Provider.Sessions] lists, in a time in proportion to the number of all keys in the database.
// After an error, of which OnError is told, it returns 0.
func (p *Provider) SessionAll(ctx context.Context) (n int) {
	b, err := p.begin()
	if err != nil {
		p.failures.tell(ctx, Failure{Operation: "count", Kind: kindOf(err), Err: err})
		return 0
	}
	b.gate.leave()
	for _, err := range b.sessions(background(ctx)) {
		if err != nil {
			b.tell(ctx, "count", "", err)
			return 0
		}
		n++
	}
	return n
}

// sessions is Sessions, whose error does not yet say what was tried, and where.
func (b *backend) sessions(ctx context.Context) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		servers, err := b.servers(ctx)
		if err != nil {
			yield("", err)
			return
		}
		met := newMet()
		for _, s := range servers {
			for begun, cursor := false, uint64(0); !begun || cursor != 0; begun = true {
				var keys []string
				if keys, cursor, err = b.scan(ctx, s, cursor); err != nil {
					yield("", err)
					return
				}
				for _, key := range keys {
					if sid, ok := b.sessionID(key); ok && met.add(sid) && !yield(sid, nil) {
						return
					}
				}
			}
		}
	}
}

// step is one step of something that may take long: Close waits for this step, and not for what comes between two. What f sets
// may be looked at only if there is no error: f may be under way else.
func (b *backend) step(ctx context.Context, f func(context.Context) error) error {
	if !b.gate.enter() {
		return ErrClosed
	}
	defer b.gate.leave()
	if err := ctx.Err(); err != nil {
		return err
	}
	var failed error
	if err := apart(ctx, func(ctx context.Context) { failed = f(ctx) }); err != nil {
		return err
	}
	return failed
}

// servers returns all that have keys.
func (b *backend) servers(ctx context.Context) ([]master, error) {
	var found []master
	err := b.step(ctx, func(ctx context.Context) (err error) {
		found, err = b.commands.link.masters(limit(ctx, time.Now().Add(b.commands.timeLimit)), b.addr)
		return err
	})
	if err != nil {
		return nil, err // and found may be about to be set
	}
	return found, nil
}

// scanned is how many keys a server looks at in one step. With 250 it serves nobody else for 0.3 ms or less, and the round trips
// of a million take seconds (docs/operations.md has figures).
const scanned = 250

// scan returns some keys of a server, and where to go on; that is 0 at the end.
func (b *backend) scan(ctx context.Context, on master, cursor uint64) (keys []string, next uint64, err error) {
	scan := newAny("scan", cursor, "match", globEscaper.Replace(b.keyPrefix)+"*", "count", scanned)
	err = b.step(ctx, func(ctx context.Context) error {
		return b.commands.retry(ctx, func(ctx context.Context) error { return ask(ctx, on.link, scan) })
	})
	switch {
	case isReply(err, "") && !retryable(err):
		return nil, 0, fmt.Errorf("sessions cannot be listed without SCAN: %w", err)
	case errors.Is(err, io.EOF): // how twemproxy answers commands that it does not know
		return nil, 0, fmt.Errorf("sessions cannot be listed without SCAN, which a proxy may not have: %w", err)
	case err != nil:
		return nil, 0, err
	}
	return scan.cursor()
}

var globEscaper = strings.NewReplacer(`*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`, `\`, `\\`, `^`, `\^`, `-`, `\-`)

// met knows the ids that were met last: at least metLast of them, and at most twice as many.
//
// That is enough to find those that SCAN returns twice. Its cursor counts the buckets of the server's table with the bits of
// their numbers in reverse. In that order, where the table grows, what becomes of a bucket is buckets that follow each other:
// the cursor stands before all of them or behind. Where it shrinks, buckets that follow each other become one. If the cursor
// stands among them, that one comes as a whole, with what was met since the first of them. So if a table of 2^20 buckets shrinks to
// one of 2^10, what comes again is of the last 2^10 buckets, which have about as many keys. A server shrinks a table to the size
// of what is left in it: only if less than one key in 2^16 is left, or in one of Valkey 8.1, which has 7 keys in a bucket, one in
// some 10,000, are the last metLast too few.
type met struct {
	seed      maphash.Seed
	now, then map[uint64]struct{} // fingerprints; a million ids lose one to another's once in a hundred million listings
}

const metLast = 1 << 16

func newMet() *met {
	return &met{maphash.MakeSeed(), make(map[uint64]struct{}), make(map[uint64]struct{})}
}

// add tells whether the id is new.
func (m *met) add(sid string) bool {
	print := maphash.String(m.seed, sid)
	if _, ok := m.now[print]; ok {
		return false
	}
	if _, ok := m.then[print]; ok {
		return false
	}
	if len(m.now) == metLast {
		m.now, m.then = m.then, m.now
		clear(m.now)
	}
	m.now[print] = struct{}{}
	return true
}
