// This file owns clusters that start before a test asks for them.

package redistest

import (
	"os"
	"runtime"
	"sync"
	"testing"
)

// spares are the next clusters of three masters alone. The two seconds for which the nodes of a new cluster wait would
// else be most of what many tests take. There are some as soon as a package whose TestMain is Main has asked for one.
var spares struct {
	sync.Mutex
	wanted int // 0 but in Main
	next   []*spare
}

type spare struct {
	server string // REDIS_SERVER when it was started
	owner  *owner
	joined chan struct{} // closed once the nodes have been told of each other, or owner has failed
	*Cluster
}

// takeSpare returns a cluster that may not be healthy yet, or nil if there is none.
func takeSpare(tb testing.TB) *Cluster {
	tb.Helper()
	Require(tb)
	server := os.Getenv("REDIS_SERVER")
	spares.Lock()
	var taken *spare
	if len(spares.next) > 0 {
		taken, spares.next = spares.next[0], spares.next[1:]
	}
	for len(spares.next) < spares.wanted {
		spares.next = append(spares.next, startSpare(server))
	}
	spares.Unlock()
	if taken == nil {
		return nil
	}
	<-taken.joined
	tb.Cleanup(taken.owner.end)
	if taken.Cluster == nil || taken.server != server {
		return nil // the test starts its own, which says what is wrong
	}
	taken.tb = tb
	for _, s := range taken.nodes {
		s.tb = tb
	}
	return taken.Cluster
}

func startSpare(server string) *spare {
	c := &spare{server: server, owner: new(owner), joined: make(chan struct{})}
	go func() {
		defer close(c.joined)
		c.Cluster = join(c.owner, ClusterOptions{NoReplicas: true})
	}()
	return c
}

// keepSpares lets there be spares until the function that it returns is called.
func keepSpares() (end func()) {
	spares.Lock()
	defer spares.Unlock()
	spares.wanted = 2
	return func() {
		spares.Lock()
		defer spares.Unlock()
		spares.wanted = 0
		for _, c := range spares.next {
			<-c.joined
			c.owner.end()
		}
	}
}

// owner stands for the test until there is one. It has what the starters call.
type owner struct {
	testing.TB
	cleanups []func()
}

func (o *owner) Helper()               {}
func (o *owner) Failed() bool          { return false }
func (o *owner) Cleanup(f func())      { o.cleanups = append(o.cleanups, f) }
func (o *owner) Fatal(...any)          { runtime.Goexit() }
func (o *owner) Fatalf(string, ...any) { runtime.Goexit() }

func (o *owner) end() {
	for i := len(o.cleanups) - 1; i >= 0; i-- {
		o.cleanups[i]()
	}
}
