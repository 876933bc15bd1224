// Where requests wait for each other, so that what a trial shows is no matter of luck.

package trials

import (
	"sync"
	"time"
)

// patience is how long a request waits for another.
const patience = 5 * time.Second

// waiting has those who wait, by the name of their meeting. Whoever comes second takes the first out, and closes its channel.
var (
	mu      sync.Mutex
	waiting = make(map[string]chan struct{})
)

// meet returns true when another call has the same name, and false when none has come in time.
func meet(name string) bool {
	mu.Lock()
	if first, ok := waiting[name]; ok {
		delete(waiting, name)
		mu.Unlock()
		close(first)
		return true
	}
	met := make(chan struct{})
	waiting[name] = met
	mu.Unlock()

	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-met:
		return true
	case <-timer.C:
	}
	mu.Lock()
	defer mu.Unlock()
	if waiting[name] != met {
		return true // it came at this very moment
	}
	delete(waiting, name)
	return false
}
