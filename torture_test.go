// Several processes update one session at the same time, with the server killed and restarted under them.

package redis_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
)

const (
	processes  = 3
	goroutines = 16
)

var updates = redistest.Times(15, 18)

func TestProcessesLoseNothingOfEachOther(t *testing.T) {
	t.Parallel()
	if saved := torture(t, redistest.Start(t), func() {}); saved != processes*goroutines*updates {
		t.Errorf("%d updates were reported as saved", saved)
	}
}

func TestProcessesLoseNothingWhenTheServerIsKilled(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	torture(t, s, func() {
		for range 2 {
			await(t, "updates before the kill", func() bool { return s.Calls()["setex"] > processes*goroutines*updates/5 })
			s.Kill()
			s.Restart()
		}
	})
}

// torture lets processes update one session and, meanwhile, something happen. It returns the number of updates whose
// release told of no loss: they must be there afterwards.
func torture(t *testing.T, s *redistest.Server, meanwhile func()) (reported int) {
	id := newID()
	var wg sync.WaitGroup
	saved := make([][]string, processes)
	for i := range saved {
		worker := exec.Command(os.Args[0], "-test.run=^TestTortureWorker$", "-test.v")
		worker.Env = append(os.Environ(), "TORTURE_ADDR="+s.Addr(), "TORTURE_ID="+id, fmt.Sprint("TORTURE_WORKER=", i))
		var out bytes.Buffer
		worker.Stdout, worker.Stderr = &out, &out
		if err := worker.Start(); err != nil {
			t.Fatal(err)
		}
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := worker.Wait(); err != nil {
				t.Errorf("worker %d: %v\n%s", i, err, out.String())
			}
			for lines := bufio.NewScanner(&out); lines.Scan(); {
				if key, ok := strings.CutPrefix(lines.Text(), "saved "); ok {
					saved[i] = append(saved[i], key)
				}
			}
		}()
	}
	meanwhile()
	wg.Wait()

	p := open(t, s.Addr(), life)
	store, err := p.SessionRead(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	missing := 0
	for _, keys := range saved {
		for _, key := range keys {
			if reported++; store.Get(ctx, key) != true {
				missing++
			}
		}
	}
	t.Logf("%d of %d updates were reported as saved, %d of these are missing", reported, processes*goroutines*updates, missing)
	if missing > 0 {
		t.Errorf("%d updates are missing", missing)
	}
	return reported
}

func TestTortureWorker(t *testing.T) {
	addr, id, worker := os.Getenv("TORTURE_ADDR"), os.Getenv("TORTURE_ID"), os.Getenv("TORTURE_WORKER")
	if addr == "" {
		t.Skip("is run by the tests of this file, in processes of its own")
	}
	p := open(t, fmt.Sprintf(`{"save_path":%q,"read_timeout":"1m"}`, addr), life) // how slow this machine is decides nothing
	p.OnError(noteLoss)
	var wg sync.WaitGroup
	for g := range goroutines {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for u := range updates {
				key := fmt.Sprint(worker, ".", g, ".", u)
				store, err := p.SessionRead(ctx, id)
				for deadline := time.Now().Add(time.Minute); err != nil && time.Now().Before(deadline); {
					store, err = p.SessionRead(ctx, id) // the server is down
				}
				if err != nil {
					t.Error(err)
					return
				}
				set(t, store, key, true)
				if !loses(store) {
					fmt.Println("saved", key)
				}
			}
		}()
	}
	wg.Wait()
}

// loses releases a store, and tells whether its provider's OnError was told of a loss.
func loses(store session.Store) bool { return lossOf(store) != "" }

// lossOf is loses, and returns what was told.
func lossOf(store session.Store) (told string) {
	store.SessionRelease(context.WithValue(ctx, lossKey{}, &told), nil)
	return told
}

// noteLoss is the OnError of such a provider.
func noteLoss(ctx context.Context, f redis.Failure) {
	if told, ok := ctx.Value(lossKey{}).(*string); ok {
		*told = f.Err.Error()
	}
}

type lossKey struct{}
