// This file owns how a connection learns that the caller of its command has left.
//
// go-redis does not interrupt a command whose context is cancelled, and of a context it hands nothing on to the connection
// but the deadline. So a caller who may leave takes a seat, and its number is in the last bits of that deadline: a
// connection that has waited a moment for a reply finds its caller by it, and waits for both. What is answered sooner, as
// nearly everything is, costs no more than the seat.

package client

import (
	"context"
	"sync/atomic"
	"time"
)

const (
	// seatMask is for the bits of a deadline, in ns, that are the number of a seat. The last number is that of none.
	seatMask = 63
	noSeat   = seatMask

	// glance is how long a connection waits for a reply before it looks whether its caller has left.
	glance = 10 * time.Millisecond
)

// Interruptible is the context of one call, which its cancellation interrupts.
type Interruptible struct {
	context.Context
	deadline time.Time
	seat     *atomic.Pointer[Interruptible]
}

// Deadline is that of the context to within 64 ns.
func (i *Interruptible) Deadline() (time.Time, bool) { return i.deadline, true }

// End frees the seat. It must be called once the call has returned.
func (i *Interruptible) End() { i.seat.Store(nil) }

// callers are those who may leave, by their seats.
type callers struct {
	next  atomic.Uint32 // to try
	seats [noSeat]atomic.Pointer[Interruptible]
}

// Interruptible returns a context for one call that ends with ctx, also while it waits for a reply. It is nil where there is
// none to be had: ctx has no deadline, or too many have one.
func (c *callers) Interruptible(ctx context.Context) *Interruptible {
	deadline, ok := ctx.Deadline()
	if !ok || time.Until(deadline) >= unlimited {
		return nil
	}
	i := &Interruptible{Context: ctx}
	for range len(c.seats) {
		n := c.next.Add(1) % noSeat
		if c.seats[n].Load() != nil {
			continue
		}
		i.seat, i.deadline = &c.seats[n], withSeat(deadline, n)
		if i.seat.CompareAndSwap(nil, i) {
			return i
		}
	}
	return nil
}

// Uninterrupted returns a deadline that is that of no Interruptible.
func Uninterrupted(deadline time.Time) time.Time {
	if deadline.IsZero() {
		return deadline
	}
	return withSeat(deadline, noSeat)
}

func withSeat(deadline time.Time, n uint32) time.Time {
	return started.Add(deadline.Sub(started)&^seatMask | time.Duration(n))
}

// of returns the caller with that deadline, or nil.
func (c *callers) of(deadline time.Time) *Interruptible {
	n := deadline.Sub(started) & seatMask
	if n == noSeat {
		return nil
	}
	if i := c.seats[n].Load(); i != nil && i.deadline.Equal(deadline) {
		return i
	}
	return nil
}
