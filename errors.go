// Errors to program with: what a caller can tell apart with errors.Is, and which error is which.

package redis

import (
	"context"
	"errors"
)

// What a caller can tell apart with errors.Is. The message of an error says more, and so does its cause, which errors.Is and errors.As
// find as well: a net.Error, an error of a context, the server's reply. An error that is none of these, nor one of the caller's
// context, asks for somebody to look at it: the server refuses a command (rights, password, memory), or the configuration is wrong.
var (
	// ErrUnreachable: Redis was not reached, or did not do in time what was asked. The time is that of the configured limits or of
	// the deadline of ctx, and may have passed while waiting for a free connection or for other requests of the session. Redis may
	// also have answered that it cannot serve now: it loads its data, or a failover is under way. What was to be changed may have
	// been changed all the same, unless the method says otherwise. Answer with 503: another try may help.
	ErrUnreachable = errors.New("redis was not reached, or did not answer in time")

	// ErrUndecodable: what is stored under the id is no session, is damaged, or cannot be decrypted with the keys that are
	// configured. It stays as it is, and beego answers 503 to each request with that id (but gives a new one if SessionExist is
	// false, as for a key of another Redis type). Log it, and remove it with SessionDestroy if nobody needs it, so that the visitor
	// gets a new session. With on_undecodable "new", what is no session at all is read as an empty one, and is no error.
	ErrUndecodable = errors.New("what is stored is no session that this program can read")

	// ErrRefusedValue: what was given can never be kept in a session: a key that is not hashable, a value that encoding/gob cannot
	// write, a life time that is out of range. Set and SetLifeTime have changed nothing then, and Update has saved nothing. It is a
	// mistake in the program.
	ErrRefusedValue = errors.New("this cannot be kept in a session")

	// ErrRefusedID: the id cannot be that of a session: it is empty, is longer than 512 bytes, has spaces or control characters, has a
	// form that this package keeps for itself or, in a cluster without a hash tag in key_prefix, has braces. Only SessionRead and
	// SessionRegenerate return it: SessionExist says false of such an id, so that beego draws a new one, and SessionDestroy has nothing
	// to do. Give the visitor a new session.
	ErrRefusedID = errors.New("this cannot be a session id")

	// ErrTooLarge: the session would have grown beyond max_session_bytes. Nothing was saved. Tell the visitor that there is no room
	// for more. Only Update returns it; after a release OnError is told.
	ErrTooLarge = errors.New("the session has grown too large")

	// ErrGone: the session no longer exists, because it was destroyed, has got a new id or has expired, or the request goes on
	// without one (regenerate_grace, on_outage). Nothing was saved. Show the log-in page. Only Update returns it; after a release
	// OnError is told, unless it is known that somebody has destroyed the session or given it a new id.
	ErrGone = errors.New("the session no longer exists")

	// ErrClosed: the provider was closed, before or meanwhile, or the application has closed the client that it brought. Answer with
	// 503: the process is about to end.
	ErrClosed = errors.New("the provider or its client was closed")
)

// errorOf is what callers find an error of a kind to be, where they can do anything about it.
var errorOf = map[Kind]error{
	KindUnreachable: ErrUnreachable,
	KindTimeout:     ErrUnreachable,
	KindCanceled:    context.Canceled,
	KindRefused:     nil, // but see asCallersKnow
	KindUndecodable: ErrUndecodable,
	KindUnencodable: ErrRefusedValue,
	KindVanished:    ErrGone,
	KindTooLarge:    ErrTooLarge,
	KindClosed:      ErrClosed,
	KindOther:       nil,
}

// asCallersKnow has errors.Is find an error to be what callers know. Its text stays as it is.
func asCallersKnow(err error) error {
	kind := kindOf(err)
	known := errorOf[kind]
	if kind == KindRefused && (unreached(err) || isReply(err, "READONLY ", "NOREPLICAS ")) {
		known = ErrUnreachable
	}
	if known == nil || errors.Is(err, known) {
		return err
	}
	return also{known, err}
}

// also is an error that is another one as well, whose text is not in its own.
type also struct {
	known error
	error
}

func (a also) Is(target error) bool { return target == a.known }

func (a also) Unwrap() error { return a.error }
