// How a provider ends: what is under way is finished, what comes later is refused.

package redis

import (
	"context"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-redis/redis/v7"
)

// Close waits for the operations under way, and then closes the connections; a client of the application stays open. Stop the HTTP
// server first ([net/http.Server.Shutdown]), so that each request has released its session.
//
// It waits until ctx ends, and for one time limit at the most, the longest of the configurations that were in use. Then it cuts off
// what is still under way, and returns an error that says how many operations that were. Of two calls at once each waits, and the
// first that ends cuts off for both. Whatever is called later, and a SessionInit that is under way, gets ErrClosed. A later
// SessionInit starts anew. Before the first SessionInit there is nothing to close.
func (p *Provider) Close(ctx context.Context) error {
	b := p.backend.Load()
	if b == nil {
		return nil
	}
	b.gate.shut()
	patience, cancel := context.WithTimeout(background(ctx), b.gate.limit())
	defer cancel()
	var err error
	select {
	case <-b.gate.empty:
	case <-patience.Done():
		if !b.gate.isEmpty() { // both may be
			err = fmt.Errorf("%d operations were still under way: %w", b.gate.inside(), patience.Err())
			b.count(err)
			err = b.wrap("close", "", err) // what of Redis it tells is told by those operations
		}
	}
	b.gate.closeClients()
	p.failures.flush()
	return err
}

// gate lets operations in until it is shut. It knows the clients of those inside, which may be of several configurations.
type gate struct {
	n     atomic.Int64 // of those inside, from closed on once it is shut
	once  sync.Once
	empty chan struct{} // closed when it is shut and the last has left

	mu      sync.Mutex // protects what follows
	clients map[redis.UniversalClient]struct{}
	longest time.Duration // time limit of an operation
}

// own takes a client that is to be closed at last, or nil, and the time limit of operations.
func (g *gate) own(c redis.UniversalClient, limit time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.longest = max(g.longest, limit)
	if c != nil {
		g.clients[c] = struct{}{}
	}
}

func (g *gate) limit() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.longest
}

// disown closes a client that nobody uses any more.
func (g *gate) disown(c redis.UniversalClient) {
	g.mu.Lock()
	delete(g.clients, c)
	g.mu.Unlock()
	_ = c.Close()
}

func (g *gate) closeClients() {
	g.mu.Lock()
	clients := g.clients
	g.clients = make(map[redis.UniversalClient]struct{})
	g.mu.Unlock()
	for c := range clients {
		_ = c.Close()
	}
}

func newGate() *gate {
	return &gate{empty: make(chan struct{}), clients: make(map[redis.UniversalClient]struct{})}
}

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

func (g *gate) shut() {
	for n := g.n.Load(); n >= 0; n = g.n.Load() {
		if g.n.CompareAndSwap(n, n+closed+1) { // as one who has yet to leave
			g.leave()
		}
	}
}

func (g *gate) isShut() bool { return g.n.Load() < 0 }

func (g *gate) isEmpty() bool {
	select {
	case <-g.empty:
		return true
	default:
		return false
	}
}

func (g *gate) inside() int {
	n := g.n.Load()
	if n < 0 {
		n -= closed
	}
	return int(max(n, 0))
}
