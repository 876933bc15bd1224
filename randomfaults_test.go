// Thousands of requests while one fault after the other comes and goes, and others strike single requests in between.

package redis_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
)

// answers are errors that come and go. (After one that refuses scripts saves can lose each other's changes, for a while.)
var answers = []string{
	"LOADING Redis is loading the dataset in memory",
	"BUSY Redis is busy running a script.",
	"READONLY You can't write against a read only replica.",
	"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
	"NOREPLICAS Not enough good replicas to write.",
	"CLUSTERDOWN The cluster is down",
	"TRYAGAIN Multiple keys request during rehashing of slot",
	"OOM command not allowed when used memory > 'maxmemory'.",
	"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to disk.",
	"NOSCRIPT No matching script.",
	"ERR max number of clients reached",
	"ERR Connection timed out",
	"upstream failure",
}

// marks are what one goroutine has done to one session: a bit for each request.
type marks struct{ tried, saved, lost uint64 }

func TestTenThousandRequestsThroughRandomFaults(t *testing.T) {
	const workers, sessions = 32, 50
	requests := redistest.Times(2000, 10_000)
	random := seed(t)
	said := captureLog(t)

	all := fault{timeouts: timeouts{brief / 3, brief / 3, brief / 3, lengthy}}
	var episodes []fault
	for _, fault := range faults {
		if !fault.direct && !fault.lasting && fault.config == "" {
			episodes = append(episodes, fault)
			all.server = append(all.server, fault.server...)
		}
	}
	f := newFaulty(t, all, said)
	// Two processes, that share nothing but the server.
	processes := []*redis.Provider{f.Provider, f.another(all)}
	for _, p := range processes {
		p.OnError(noteLoss)
	}
	ids := make([]string, sessions)
	for i := range ids {
		ids[i] = f.owned(f.others)
	}

	var mu sync.Mutex // protects what follows
	strike := rand.New(rand.NewPCG(random.Uint64(), 0))
	struck := 0
	meddle := func([]byte) *redistest.Fault {
		mu.Lock()
		defer mu.Unlock()
		if strike.IntN(30) > 0 {
			return nil
		}
		struck++
		switch strike.IntN(4) {
		case 0:
			return new(redistest.Fault)
		case 1:
			return &redistest.Fault{Part: strike.Float64()}
		case 2:
			return &redistest.Fault{Part: strike.Float64(), Silent: true}
		}
		return &redistest.Fault{Answer: answers[strike.IntN(len(answers))]}
	}

	work := make(chan struct{})
	var unread, lost, saved, mixed atomic.Int64
	var done [workers][sessions]marks
	var working sync.WaitGroup
	for w := range workers {
		random := rand.New(rand.NewPCG(random.Uint64(), 0))
		p := processes[w%len(processes)]
		working.Add(1)
		go func() {
			defer working.Done()
			for range work {
				s := random.IntN(sessions)
				key, did := fmt.Sprint(w, " in ", s), &done[w][s]
				found, err := true, error(nil)
				if random.IntN(2) == 0 { // as beego does
					found, err = p.SessionExist(ctx, ids[s])
				}
				var store session.Store
				if err == nil {
					store, err = p.SessionRead(ctx, ids[s])
				}
				if err != nil {
					unread.Add(1)
					continue
				}
				n, _ := store.Get(ctx, key).(uint64)
				if !found || store.Get(ctx, "owner") != owner(ids[s]) || n&^did.tried != 0 || n&did.lost != 0 {
					mixed.Add(1)
					t.Errorf("found %v, owner %v for %s, n = %b of %b", found, store.Get(ctx, "owner"), owner(ids[s]), n, did.tried)
				}
				if n&did.saved != did.saved {
					t.Errorf("n = %b, and %b was said to be saved", n, did.saved)
				}
				next := did.tried + 1 // the lowest bit that is free, as the others are those below it
				did.tried |= next
				set(t, store, key, n|next)
				if told := lossOf(store); told != "" {
					lost.Add(1)
					if strings.Contains(told, "are lost: ") { // and not: may be
						did.lost |= next
					}
					continue
				}
				saved.Add(1)
				did.saved |= next
			}
		}()
	}

	finish := sync.OnceFunc(func() {
		close(work)
		working.Wait()
	})
	defer finish() // where it cannot go on

	// A part of the requests begins during each fault, if that can be, and the others after it.
	const during, after = 40, 40
	next := 0
	for begun := 0; begun < requests; next++ {
		if next%len(episodes) == 0 {
			random.Shuffle(len(episodes), func(i, j int) { episodes[i], episodes[j] = episodes[j], episodes[i] })
		}
		fault := episodes[next%len(episodes)]
		f.proxy.Meddle(meddle)
		fault.begin(f)
		end := time.After(time.Duration(random.IntN(20)) * time.Millisecond)
		for lasts, n := true, 0; lasts; {
			var begin chan<- struct{}
			if n < during && begun < requests {
				begin = work
			}
			select {
			case begin <- struct{}{}:
				n++
				begun++
			case <-end:
				lasts = false
			}
		}
		fault.end(f)
		for range min(after, requests-begun) {
			work <- struct{}{}
			begun++
		}
	}
	f.mend()
	finish()
	await(t, "everything to work after the faults", f.works)

	missing := 0
	for s, id := range ids {
		values := f.stored(id)
		if values["owner"] != owner(id) || values["n"] != 0 || !near(f.ttl(id)) {
			t.Errorf("session %d is of %v", s, values["owner"])
		}
		for w := range workers {
			key, did := fmt.Sprint(w, " in ", s), done[w][s]
			n, _ := values[key].(uint64)
			if n&^did.tried != 0 || n&did.lost != 0 {
				t.Errorf("%s holds %b of %b, and %b was said to be lost", key, n, did.tried, did.lost)
			}
			if gone := did.saved &^ n; gone != 0 {
				missing++
				t.Errorf("%s holds %b, and %b was said to be saved", key, n, did.saved)
			}
			delete(values, key)
		}
		if len(values) != 2 {
			mixed.Add(1)
			t.Errorf("session %d holds values of others: %v", s, values)
		}
	}
	t.Logf("%d requests: %d could not read, %d were said to be lost, and %d saved; %d faults came and went, and %d struck single round trips",
		requests, unread.Load(), lost.Load(), saved.Load(), next, struck)
	t.Logf("%d mixed up, %d lost unsaid", mixed.Load(), missing)
	if strings.Contains(said.String(), "refuses scripts") {
		t.Error("scripts were taken to be refused, so that saves could lose others'")
	}
	if saved.Load() < int64(requests)/10 { // of a part that depends on how busy the machine is
		t.Errorf("only %d were saved", saved.Load())
	}
}
