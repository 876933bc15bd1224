// What a site's users notice while servers fail over and slots migrate: whole requests, all the time.

package redis_test

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
)

// failovers are events, each on servers of its own, of which it tells where they are.
var failovers = []struct {
	name  string
	kind  string // of the servers
	start func(t *testing.T) (addrs []string, happens func())
}{
	{"the Sentinels swap master and replica", "sentinel", func(t *testing.T) ([]string, func()) {
		s := redistest.StartSentinel(t, redistest.SentinelOptions{})
		return s.Addrs(), func() {
			s.Master().AwaitReplica()
			s.Failover()
		}
	}},
	{"a cluster's master is killed", "cluster", func(t *testing.T) ([]string, func()) {
		c := redistest.StartCluster(t, redistest.ClusterOptions{})
		return c.Addrs(), func() {
			master := c.Masters()[0]
			master.AwaitReplica()
			master.Kill()
			c.AwaitHealthy()
		}
	}},
	{"a Sentinel's master is killed", "sentinel", func(t *testing.T) ([]string, func()) {
		s := redistest.StartSentinel(t, redistest.SentinelOptions{})
		return s.Addrs(), func() {
			s.Master().AwaitReplica()
			s.Master().Kill()
			s.AwaitMaster(s.Replica())
		}
	}},
	{"a cluster's slot migrates", "cluster", func(t *testing.T) ([]string, func()) {
		c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
		slot := c.Slot("{shop}")
		from := c.MasterOf(slot)
		to := c.Masters()[0]
		if to == from {
			to = c.Masters()[1]
		}
		return c.Addrs(), func() {
			m := c.MigrateSlot(slot, from, to)
			for range 20 {
				m.MoveKeys(2)
			}
			m.Finish()
		}
	}},
}

func TestRequestsGoOnWhile(t *testing.T) {
	for _, event := range failovers[:redistest.Times(2, len(failovers))] {
		t.Run(event.name, func(t *testing.T) {
			addrs, happens := event.start(t)
			migrates := strings.Contains(event.name, "migrates")
			prefix := ""
			if migrates {
				prefix = "{shop}:"
			}
			config := fmt.Sprintf(`{"mode":%q,"save_path":%q,"key_prefix":%q}`, event.kind, strings.Join(addrs, ";"), prefix)
			l := &load{T: t, p: open(t, config, life), regenerates: migrates}
			l.run(happens)
		})
	}
}

// A script of two keys is refused as long as only one of them has moved, or neither is there.
func TestWhileASlotMigratesSessionsAreCreatedAndSaved(t *testing.T) {
	c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
	slot := c.Slot("{shop}")
	from, to := c.MasterOf(slot), c.Masters()[0]
	if to == from {
		to = c.Masters()[1]
	}
	raw := client.New(client.Options{Mode: client.Cluster, Addrs: c.Addrs()})
	defer raw.Close()
	log := captureLog(t)
	p := open(t, clusterConfig(c, "{shop}:"), life)
	site := &site{T: t, raw: raw, Provider: p}
	change := func(id string, value string) {
		store := site.read(p, id)
		set(t, store, "v", value)
		store.SessionRelease(ctx, nil)
	}
	kept, destroyed := newID(), newID()
	change(kept, "small")
	change(destroyed, "small")
	late := site.read(p, "late")
	set(t, late, "v", 1)
	m := c.MigrateSlot(slot, from, to)

	large := strings.Repeat("x", 100_000)
	created, createdLarge := newID(), newID()
	change(created, "small")
	change(createdLarge, large)
	change(kept, large)
	if err := errors.Join(p.SessionDestroy(ctx, destroyed), p.SessionDestroy(ctx, "late")); err != nil {
		t.Error(err)
	}
	late.SessionRelease(ctx, nil)
	check := func(when string) {
		t.Helper()
		for id, want := range map[string]any{created: "small", createdLarge: large, kept: large, destroyed: nil, "late": nil} {
			if got := site.read(p, id).Get(ctx, "v"); got != want {
				t.Errorf("%s: v is %.20v, want %.20v", when, got, want)
			}
		}
	}
	check("while it migrates")
	for range 20 {
		m.MoveKeys(2)
	}
	m.Finish()
	check("after that")
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

func TestAMasterThatHangsHoldsUpNoSessionOfAnother(t *testing.T) {
	c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true, Args: []string{"--cluster-node-timeout", "60000"}})
	config := `{"mode":"cluster","save_path":%q,"dial_timeout":"1m","read_timeout":"1m"}`
	p := open(t, fmt.Sprintf(config, strings.Join(c.Addrs(), ";")), life)
	hanging := c.MasterOf(0)
	idOn := func(hangs bool) string {
		for {
			if id := newID(); (c.MasterOf(c.Slot(id)) == hanging) == hangs {
				return id
			}
		}
	}
	const workers = 32 // more than there are lanes
	ids := make([]string, workers)
	for i := range ids {
		ids[i] = idOn(false)
	}
	hung := idOn(true)
	exist := func(id string) {
		if ok, err := p.SessionExist(ctx, id); ok || err != nil {
			t.Errorf("SessionExist = %v, %v", ok, err)
		}
	}
	exist(hung)
	exist(ids[0]) // the slots are known

	hanging.Pause()
	t.Cleanup(hanging.Resume)
	var stuck sync.WaitGroup
	var returned atomic.Int64
	await(t, "all lanes to wait for the master that hangs", func() bool {
		stuck.Add(1)
		go func() {
			defer stuck.Done()
			exist(hung)
			returned.Add(1)
		}()
		stacks := make([]byte, 1<<20)
		sent := strings.Count(string(stacks[:runtime.Stack(stacks, true)]), "redis.(*roundTrips).send(")
		return sent >= 2*runtime.GOMAXPROCS(0)+16 // alone, and in lanes
	})
	var others sync.WaitGroup
	for _, id := range ids {
		others.Add(1)
		go func() {
			defer others.Done()
			for range 20 {
				exist(id)
			}
		}()
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		others.Wait()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Error("the others wait as well")
	}
	if n := returned.Load(); n > 0 {
		t.Errorf("%d calls for the master that hangs have returned", n)
	}
	hanging.Resume()
	stuck.Wait()
	<-done
}

func clusterConfig(c *redistest.Cluster, prefix string) string {
	return fmt.Sprintf(`{"mode":"cluster","save_path":%q,"key_prefix":%q}`, strings.Join(c.Addrs(), ";"), prefix)
}

// load is users who make one request after the other, each in a session of their own.
type load struct {
	*testing.T
	p *redis.Provider

	// Redis replicates asynchronously: what was acknowledged just before a failover can be lost. Of an update that is an
	// older state of the session, of a regenerate it would be the session.
	regenerates bool

	loggedIn          atomic.Int64 // users: what a failover loses of them is an update
	succeeded, failed atomic.Int64
	first, last       atomic.Int64 // failure, in ns since start
	stale             atomic.Int64
	over              atomic.Bool
}

const users = 24

func (l *load) run(happens func()) {
	l.p.OnError(noteLoss)
	start := time.Now()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for u := range users {
		wg.Add(1)
		go func() {
			defer wg.Done()
			v, loggedIn := &visitor{load: l, number: u, id: newID()}, false
			for {
				over := l.over.Load()
				if v.request() {
					if l.succeeded.Add(1); !loggedIn {
						loggedIn = true
						l.loggedIn.Add(1)
					}
				} else {
					if l.failed.Add(1); over {
						l.Errorf("a request of user %d fails that began after it was over", u)
					}
					now := int64(time.Since(start))
					l.first.CompareAndSwap(0, now)
					l.last.Store(now)
				}
				select {
				case <-stop:
					v.bye()
					return
				default:
				}
			}
		}()
	}
	requests := func(n int64) func() bool {
		n += l.succeeded.Load()
		return func() bool { return l.succeeded.Load() > n }
	}
	await(l, "all to have logged in", func() bool { return l.loggedIn.Load() == users })
	await(l, "requests before", requests(50*users))
	happens()
	await(l, "requests after", requests(50*users))
	l.over.Store(true)
	await(l, "requests long after", requests(50*users))
	close(stop)
	wg.Wait()
	l.Logf("%d requests, of which %d failed within %v; %d updates that were acknowledged before a failover are not there",
		l.succeeded.Load()+l.failed.Load(), l.failed.Load(), time.Duration(l.last.Load()-l.first.Load()).Round(time.Millisecond), l.stale.Load())
}

// visitor is one user, who knows what the session must hold.
type visitor struct {
	*load
	number int
	id     string
	saved  int // n of the last release that told of no loss
	sent   int // n of the last release
}

// request is what beego does for a request; every tenth may regenerate the session.
func (u *visitor) request() bool {
	exists, err := u.p.SessionExist(ctx, u.id)
	if err != nil {
		return false
	}
	if !exists && u.saved > 0 {
		u.Errorf("user %d has lost the session", u.number)
		u.id, u.saved = newID(), 0
	}
	store, err := u.p.SessionRead(ctx, u.id)
	if err != nil {
		return false
	}
	if owner := store.Get(ctx, "owner"); owner != nil && owner != u.number {
		u.Errorf("user %d sees the session of user %v", u.number, owner)
	}
	n, _ := store.Get(ctx, "n").(int)
	if n < u.saved {
		u.stale.Add(1)
	}
	if n > u.sent {
		u.Errorf("user %d finds %d, but has written %d at most", u.number, n, u.sent)
	}
	u.sent = max(u.sent, n) + 1
	_ = store.Set(ctx, "n", u.sent)
	_ = store.Set(ctx, "owner", u.number)
	if loses(store) {
		return false
	}
	u.saved = u.sent
	if u.regenerates && u.sent%10 == 0 {
		next := newID()
		if _, err := u.p.SessionRegenerate(ctx, u.id, next); err != nil {
			// Whether it happened is not known: the next request logs in again.
			u.id, u.saved = newID(), 0
			return false
		}
		u.id = next
	}
	return true
}

func (u *visitor) bye() {
	if err := u.p.SessionDestroy(ctx, u.id); err != nil {
		u.Error(err)
	}
}

func TestRegeneratesInAClusterKeepTheirData(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
	p := open(t, clusterConfig(c, ""), life)
	site := &site{T: t, raw: c.Masters()[0].Client(), Provider: p}
	for i := range 200 {
		id, next := site.create("n", i), newID()
		if _, err := p.SessionRegenerate(ctx, id, next); err != nil {
			t.Fatal(err)
		}
		if ok, err := p.SessionExist(ctx, id); ok || err != nil {
			t.Errorf("regenerate %d: the old id lives: %v", i, err)
		}
		if got := site.read(p, next).Get(ctx, "n"); got != i {
			t.Errorf("regenerate %d: n = %v", i, got)
		}
	}
}
