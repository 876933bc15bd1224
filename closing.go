// How a provider ends: what is under way is finished, what comes later is refused.

package redis

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
)

// Close waits for the operations under way, and then closes the connections; a client of the application stays open. It
// waits until ctx ends, for a time limit of one operation at the most, and then returns an error that says how many were cut off.
// What is called later gets an error that wraps ErrClosed; a SessionInit starts anew. Stop the HTTP server first
// (http.Server.Shutdown), so that each request has released its session.
func (p *Provider) Close(ctx context.Context) error {
	p.init.Lock()
	defer p.init.Unlock()
	b := p.backend.Load()
	if b == nil || !b.gate.shut() {
		return nil
	}
	patience, cancel := context.WithTimeout(background(ctx), b.commands.timeLimit)
	defer cancel()
	var err error
	select {
	case <-b.gate.empty:
	case <-patience.Done():
		err = b.fail("close", "", fmt.Errorf("%d operations were still under way: %w", b.gate.inside(), patience.Err()))
	}
	if b.commands.owner != nil {
		_ = b.commands.client.Close()
	}
	return err
}

// gate lets operations in until it is shut.
type gate struct {
	n     atomic.Int64 // of those inside, from closed on once it is shut
	once  sync.Once
	empty chan struct{} // closed when it is shut and the last has left
}

func newGate() *gate { return &gate{empty: make(chan struct{})} }

const closed = math.MinInt64 / 2

// enter is followed by leave where it returns true.
func (g *gate) enter() bool {
	if g.n.Add(1) > 0 {
		return true
	}
	g.leave()
	return false
}

func (g *gate) leave() {
	if g.n.Add(-1) == closed {
		g.once.Do(func() { close(g.empty) })
	}
}

// shut tells whether it was open.
func (g *gate) shut() bool {
	for {
		n := g.n.Load()
		if n < 0 {
			return false
		}
		if g.n.CompareAndSwap(n, n+closed+1) { // as one who has yet to leave
			g.leave()
			return true
		}
	}
}

func (g *gate) isShut() bool { return g.n.Load() < 0 }

func (g *gate) inside() int {
	n := g.n.Load()
	if n < 0 {
		n -= closed
	}
	return int(max(n, 0))
}
