// The changeover from plain values to encrypted ones, and from key to key, while a site is in use.

package redis_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
)

// TestKeysAreChangedUnderLoad has users at three processes while these are changed one after the other. At every request the user
// is logged in, and all that was saved is there.
func TestKeysAreChangedUnderLoad(t *testing.T) {
	for _, topology := range topologies {
		if !slices.Contains([]string{"standalone", "miniredis with IFEQ", "user without scripts", "cluster"}, topology.name) {
			continue
		}
		t.Run(topology.name, func(t *testing.T) {
			random := seed(t)
			config, raw := topology.start(t)
			captureLog(t)
			atOnce := 2
			if topology.name == "user without scripts" {
				atOnce = 1 // a plain SET loses updates of requests that save at the same time, whatever is encrypted
			}
			s := &site{T: t, config: config, raw: raw}
			var processes []*redis.Provider
			var files []string
			for range 3 {
				p := open(t, config, life)
				p.OnError(noteLoss)
				processes, files = append(processes, p), append(files, keysFile(t))
			}
			var requests atomic.Int64
			stop := make(chan struct{})
			var working sync.WaitGroup
			users := make([]*customer, 8)
			for i := range users {
				u := &customer{site: s, processes: processes, id: newID(), name: fmt.Sprint("user ", i), counted: make([]int, atOnce)}
				users[i] = u
				u.logIn()
				for n := range atOnce {
					working.Add(1)
					random := rand.New(rand.NewPCG(random.Uint64(), 0))
					go func() {
						defer working.Done()
						for u.request(n, random) {
							requests.Add(1)
							select {
							case <-stop:
								return
							default:
							}
						}
					}()
				}
			}
			progress := func() {
				t.Helper()
				begun := requests.Load()
				await(t, "requests", func() bool { return requests.Load() > begun+int64(redistest.Times(40, 60)) || t.Failed() })
			}
			each := func(change func(i int)) {
				t.Helper()
				for i := range processes {
					change(i)
					progress()
				}
			}
			first, second := newKey(), newKey()
			last, _ := s.withKeys(second)
			withSecond := (&site{T: t, Provider: last, raw: raw})
			id := withSecond.create("a", 1)
			want := s.sealedWith(id)

			progress()
			each(func(i int) {
				writeKeys(t, files[i], "write plain", first)
				if err := processes[i].SessionInit(ctx, life, encrypting(config, files[i])); err != nil {
					t.Error(err)
				}
			})
			each(func(i int) { writeKeys(t, files[i], first) })
			each(func(i int) { writeKeys(t, files[i], first, second) })
			each(func(i int) { writeKeys(t, files[i], second, first) })
			for _, p := range processes {
				at := &site{T: t, Provider: p, raw: raw}
				await(t, "the second key", func() bool { return s.sealedWith(at.create("a", 1)) == want })
			}
			for _, u := range users {
				await(t, "sessions under the second key", func() bool { return u.sealed() == want || t.Failed() })
			}
			each(func(i int) { writeKeys(t, files[i], "refuse plain", second) })
			close(stop)
			working.Wait()
			t.Logf("%d requests", requests.Load())
		})
	}
}

// customer is a user with requests at several processes.
type customer struct {
	*site
	processes []*redis.Provider
	name      string

	mu      sync.RWMutex // is held for reading by requests: a session that moves has none under way
	id      string
	counted []int // by each of those that make requests at the same time
}

func (u *customer) logIn() {
	store := u.read(u.processes[0], u.id)
	set(u, store, "user", u.name)
	store.SessionRelease(ctx, nil)
}

// request makes the nth count one more, and tells whether all was well.
func (u *customer) request(n int, random *rand.Rand) bool {
	p := u.processes[random.IntN(len(u.processes))]
	if random.IntN(10) == 0 {
		u.mu.Lock()
		defer u.mu.Unlock()
		next := newID()
		if _, err := p.SessionRegenerate(ctx, u.id, next); err != nil {
			u.Errorf("%s: %v", u.name, err)
			return false
		}
		u.id = next
		return true
	}
	u.mu.RLock()
	defer u.mu.RUnlock()
	store, err := p.SessionRead(ctx, u.id)
	if err != nil || store.Get(ctx, "user") != u.name {
		u.Errorf("%s is logged out: %v", u.name, err)
		return false
	}
	key := fmt.Sprint("count ", n)
	if got, _ := store.Get(ctx, key).(int); got != u.counted[n] {
		u.Errorf("%s of %s is %d, want %d", key, u.name, got, u.counted[n])
		return false
	}
	u.counted[n]++
	if err := store.Set(ctx, key, u.counted[n]); err != nil {
		u.Error(err)
	}
	if told := lossOf(store); told != "" {
		u.Errorf("%s: %s", u.name, told)
		return false
	}
	return true
}

func (u *customer) sealed() string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.sealedWith(u.id)
}

// TestABrowserThroughAChangeOfKeys has a browser visit beego applications whose keys are changed one after the other.
func TestABrowserThroughAChangeOfKeys(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := &site{T: t, raw: server.Client()}
	files := []string{keysFile(t), keysFile(t)}
	first, second := newKey(), newKey()
	plain := countingSite(t, fmt.Sprintf(`{"save_path":%q}`, server.Addr()))
	browser, visits := newBrowser(t, ""), 0
	visit := func(urls ...string) {
		t.Helper()
		for _, url := range urls {
			for _, path := range []string{"/", "/", "/login", "/"} {
				visits++
				browser.sees("the next visit", url+path, visits)
			}
		}
	}
	sealed := func() string {
		ids := sessions(s.raw.Keys("*").Val())
		if len(ids) != 1 {
			t.Fatalf("the sessions are %q", ids)
		}
		return s.sealedWith(ids[0])
	}
	visit(plain)
	var apps []string
	for _, file := range files {
		writeKeys(t, file, "write plain", first)
		apps = append(apps, countingSite(t, encrypting(fmt.Sprintf(`{"save_path":%q}`, server.Addr()), file)))
		visit(append(apps, plain)...)
	}
	change := func(lines ...string) {
		t.Helper()
		for _, file := range files {
			writeKeys(t, file, lines...)
			visit(apps...)
		}
	}
	change(first)
	for _, app := range apps {
		await(t, "an encrypted session", func() bool { visit(app); return sealed() != "" })
	}
	withFirst := sealed()
	change(first, second)
	change(second, first)
	for _, app := range apps {
		await(t, "a session under the second key", func() bool { visit(app); return sealed() != withFirst })
	}
	change("refuse plain", second)
	visit(apps...)
}
