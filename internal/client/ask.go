// This file owns asking several servers the same: the Sentinels for the master, the nodes of a cluster for its slots.

package client

import (
	"context"
	"strings"
	"time"
)

// patience is how long a server may be silent before the next one is asked as well, if there is time for that.
const patience = 300 * time.Millisecond

// firstAnswer asks the addresses in turn and returns the first answer, and whose it is. An address that fails, or is silent
// for a while, does not keep the next from being asked. If all fail, the errors are all in the error. What is answered later
// is lost.
func firstAnswer[T any](ctx context.Context, addrs []string, ask func(context.Context, string) (T, error)) (answer T, from string, err error) {
	type reply struct {
		answer T
		addr   string
		err    error
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	replies := make(chan reply, len(addrs))
	asked := 0
	askNext := func() {
		if asked < len(addrs) {
			addr := addrs[asked]
			asked++
			go func() {
				answer, err := ask(ctx, addr)
				replies <- reply{answer, addr, err}
			}()
		}
	}
	limit := patience
	if deadline, ok := ctx.Deadline(); ok {
		limit = max(min(limit, time.Until(deadline)/time.Duration(len(addrs)+1)), time.Millisecond)
	}
	silence := time.NewTicker(limit)
	defer silence.Stop()

	var errs askError
	askNext()
	for len(errs) < len(addrs) {
		select {
		case r := <-replies:
			if r.err == nil {
				return r.answer, r.addr, nil
			}
			errs = append(errs, r.err)
			askNext()
		case <-silence.C:
			askNext()
		}
	}
	return answer, "", errs
}

// askError holds why each server gave no answer.
type askError []error

func (e askError) Error() string {
	var texts []string
	for _, err := range e {
		texts = append(texts, err.Error())
	}
	return strings.Join(texts, "; ")
}

func (e askError) Unwrap() []error { return e }
