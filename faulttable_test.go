// What a caller gets while something is wrong with the server or the way to it: each fault is a row of the table below, and of
// that in docs/faults.md.

package redis_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

// timeouts are those of a provider. The sum of the first three bounds an operation.
type timeouts struct{ dial, read, write, outage time.Duration }

func (t timeouts) limit() time.Duration { return t.dial + t.read + t.write }

const (
	brief   = 300 * time.Millisecond
	lengthy = 2 * time.Second
	outage  = brief / 3
)

// What does not end by a timeout has long ones, so that none is over because the machine is busy.
var (
	long  = timeouts{lengthy, lengthy, lengthy, outage}
	short = timeouts{brief, brief, brief, outage}
	once  = timeouts{lengthy, time.Second, lengthy, lengthy} // a reply is waited for in vain, and all is served

	// served is for what is served in spite of the fault: a stall is no outage.
	served = timeouts{lengthy, lengthy, lengthy, lengthy}
)

// slack is how much longer an operation may take where other tests run as well.
const slack = 5 * time.Second

// outcomes are what the operations end with, as patterns: "" is success.
type outcomes struct{ exist, read, change, create, regenerate, destroy string }

func all(pattern string) outcomes {
	return outcomes{pattern, pattern, pattern, pattern, pattern, pattern}
}

func writes(pattern string) outcomes { return outcomes{"", "", pattern, pattern, pattern, pattern} }

const timedOut = "i/o timeout|deadline exceeded"

// faulty is a server that has trouble, or one behind a proxy that has.
type faulty struct {
	*site  // its provider has to do with the trouble; its plain client, and others, have not
	others *site
	server *redistest.Server
	proxy  *redistest.ProxyT
	addr   string // of the one or the other
	log    *lockedBuffer

	keys   []string        // of the sessions that meet the fault
	stores []session.Store // of those that are to be saved meanwhile
	ended  func()          // awaits what begin has begun beside the test
}

type fault struct {
	name       string
	server     []string // its configuration
	timeouts   timeouts // long, if zero
	config     string   // further keys of the provider's
	direct     bool     // without the proxy
	answered   bool     // by the server, on every connection: it is known that nothing was executed
	lasting    bool     // what it has done to saves lasts longer than itself
	begin, end func(f *faulty)
	want       outcomes
}

var faults = []fault{
	// The way to the server.
	{
		name: "nothing listens at the address", server: []string{"--appendonly", "yes", "--appendfsync", "always"}, direct: true,
		begin: func(f *faulty) { f.server.Kill() },
		end:   func(f *faulty) { f.server.Restart() },
		want:  all("connection refused"),
	},
	{
		name:  "connections are reset as soon as they are open",
		begin: func(f *faulty) { f.proxy.Refuse(true); f.proxy.CutAll() },
		end:   func(f *faulty) { f.proxy.Refuse(false) },
		want:  all("connection reset|EOF|broken pipe"),
	},
	{
		name: "connections are opened, and nothing answers", timeouts: short,
		begin: func(f *faulty) { f.proxy.Hold(true); f.proxy.CutAll() },
		end:   func(f *faulty) { f.proxy.Hold(false) },
		want:  all(timedOut),
	},
	{
		name: "a connection is reset within a reply", timeouts: served,
		begin: func(f *faulty) { f.proxy.Meddle(f.first(redistest.Fault{Part: 0.5})) },
		end:   (*faulty).mend,
	},
	{
		name:  "every connection is reset within a reply",
		begin: func(f *faulty) { f.proxy.Meddle(every(redistest.Fault{Part: 0.5})) },
		end:   (*faulty).mend,
		want:  all("connection reset|EOF"),
	},
	{
		name:  "every request is executed, and its connection reset before the reply",
		begin: func(f *faulty) { f.proxy.Meddle(every(redistest.Fault{})) },
		end:   (*faulty).mend,
		want:  all("connection reset|EOF"),
	},
	{
		name: "half a reply, and then silence", timeouts: once,
		begin: func(f *faulty) { f.proxy.Meddle(f.first(redistest.Fault{Part: 0.5, Silent: true})) },
		end:   (*faulty).mend,
	},
	{
		name: "half of every reply, and then silence", timeouts: short,
		begin: func(f *faulty) { f.proxy.Meddle(every(redistest.Fault{Part: 0.5, Silent: true})) },
		end:   (*faulty).mend,
		want:  all(timedOut),
	},
	{
		name: "all open connections go silent", timeouts: once,
		begin: func(f *faulty) { f.proxy.Silence() },
		end:   func(*faulty) {},
	},
	{
		name: "every reply comes later than read_timeout", timeouts: short,
		begin: func(f *faulty) { f.proxy.SetDelay(time.Second) }, // each way, so that it is late also for who begins to wait late
		end:   func(f *faulty) { f.proxy.SetDelay(0) },
		want:  all(timedOut),
	},
	{
		name: "a large session is not taken within write_timeout", timeouts: timeouts{lengthy, lengthy, time.Second, lengthy}, config: `,"max_retries":1`,
		begin: func(f *faulty) {
			for _, store := range f.stores {
				set(f, store, "large", strings.Repeat("x", 8<<20)) // more than the system holds for a connection
			}
			resume := make(chan struct{})
			f.proxy.Meddle(func(request []byte) *redistest.Fault {
				if bytes.Contains(request, []byte("save:{")) {
					<-resume
				}
				return nil
			})
			f.ended = func() { close(resume) }
		},
		end: func(f *faulty) {
			f.mend()
			f.ended()
			for _, store := range f.stores {
				if err := store.Delete(ctx, "large"); err != nil {
					f.Error(err)
				}
			}
		},
		want: outcomes{change: "write tcp.*i/o timeout", create: "write tcp.*i/o timeout"},
	},
	{
		name: "no connection becomes free within pool_timeout", timeouts: timeouts{lengthy, time.Minute, lengthy, outage}, config: `,"poolsize":1,"pool_timeout":"300ms"`,
		begin: func(f *faulty) {
			id, asked := newID(), make(chan struct{})
			var store session.Store
			await(f, "a session", func() bool {
				var err error
				store, err = f.SessionRead(ctx, id)
				return err == nil
			})
			set(f, store, "large", strings.Repeat("x", 100_000)) // goes alone
			var first sync.Once
			f.proxy.Meddle(func(request []byte) (silent *redistest.Fault) {
				if bytes.Contains(request, []byte(id)) {
					first.Do(func() {
						silent = &redistest.Fault{Silent: true}
						close(asked)
					})
				}
				return silent
			})
			f.ended = f.goes(func() {
				for saving := true; saving; { // it may find no free connection itself
					store.SessionRelease(ctx, nil)
					select {
					case <-asked:
						saving = false
					default:
					}
				}
			})
			<-asked
		},
		end: func(f *faulty) {
			f.proxy.CutAll()
			f.ended()
			f.mend()
		},
		want: all("connection pool timeout"),
	},
	{
		name:  "a proxy answers that it has lost the server",
		begin: func(f *faulty) { f.proxy.Meddle(every(redistest.Fault{Answer: "ERR Connection timed out"})) },
		end:   (*faulty).mend,
		want:  all("ERR Connection timed out"),
	},
	// The server.
	{
		name: "the server hangs", timeouts: short,
		begin: func(f *faulty) { f.server.Pause() },
		end:   func(f *faulty) { f.server.Resume() },
		want:  all(timedOut),
	},
	{
		name: "LOADING", answered: true, server: []string{"--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024"},
		begin: func(f *faulty) {
			f.fill(2000)
			f.do("config", "set", "key-load-delay", 2000) // µs
			f.beside("debug", "reload")
			await(f, "a server that loads", func() bool { return strings.Contains(f.raw.Info("persistence").Val(), "\nloading:1") })
		},
		end: func(f *faulty) {
			f.do("config", "set", "key-load-delay", 0)
			f.ended()
		},
		want: all("LOADING"),
	},
	{
		name: "BUSY", answered: true, server: []string{"--busy-reply-threshold", "10"},
		begin: func(f *faulty) {
			f.beside("eval", "while true do end", 0)
			await(f, "a busy server", func() bool { err := f.raw.Ping().Err(); return err != nil && strings.HasPrefix(err.Error(), "BUSY") })
		},
		end: func(f *faulty) {
			f.do("script", "kill")
			f.ended()
		},
		want: all("BUSY"),
	},
	{
		name: "READONLY: the server is a replica", answered: true,
		begin: func(f *faulty) { f.do("replicaof", "127.0.0.1", 1) },
		end:   func(f *faulty) { f.do("replicaof", "no", "one") },
		want:  writes("READONLY"),
	},
	{
		name: "MASTERDOWN: so it is, and serves nothing without its master", answered: true, server: []string{"--replica-serve-stale-data", "no"},
		begin: func(f *faulty) { f.do("replicaof", "127.0.0.1", 1) },
		end:   func(f *faulty) { f.do("replicaof", "no", "one") },
		want:  all("MASTERDOWN|READONLY"),
	},
	{
		name: "NOREPLICAS", answered: true,
		begin: func(f *faulty) { f.do("config", "set", "min-replicas-to-write", 1) },
		end:   func(f *faulty) { f.do("config", "set", "min-replicas-to-write", 0) },
		want:  writes("NOREPLICAS"),
	},
	{
		name: "OOM: memory is full", answered: true,
		begin: func(f *faulty) { f.do("config", "set", "maxmemory", 1) },
		end:   func(f *faulty) { f.do("config", "set", "maxmemory", 0) },
		want:  writes("OOM"),
	},
	{
		name: "MISCONF: the disk is full", answered: true, server: []string{"--dbfilename", "directory"},
		begin: func(f *faulty) {
			_ = os.Remove(f.file("directory")) // what was saved before
			if err := os.Mkdir(f.file("directory"), 0o700); err != nil {
				f.Fatal(err)
			}
			f.do("config", "set", "save", "3600 1")
			f.save("err")
		},
		end: func(f *faulty) {
			if err := os.Remove(f.file("directory")); err != nil {
				f.Fatal(err)
			}
			f.save("ok")
		},
		want: writes("MISCONF"),
	},
	{
		name: "CLIENT PAUSE … WRITE", timeouts: timeouts{brief, 2 * brief, brief, outage},
		begin: func(f *faulty) { f.do("client", "pause", 60_000, "write") },
		end:   func(f *faulty) { f.do("client", "unpause") },
		// Whoever only reads waits as well where it shares a pipeline with a save.
		want: outcomes{"^$|" + timedOut, "^$|" + timedOut, timedOut, timedOut, timedOut, timedOut},
	},
	{
		name: "max number of clients",
		begin: func(f *faulty) {
			f.do("config", "set", "maxclients", 1)
			f.do("client", "kill", "user", "app")
		},
		end:  func(f *faulty) { f.do("config", "set", "maxclients", 1000) },
		want: all("max number of clients"),
	},
	{
		name: "NOSCRIPT: the scripts are flushed", timeouts: served,
		begin: func(f *faulty) {
			f.do("script", "flush")
			stop := make(chan struct{})
			flushed := f.goes(func() {
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Millisecond):
						f.raw.ScriptFlush()
					}
				}
			})
			f.ended = func() { close(stop); flushed() }
		},
		end: func(f *faulty) { f.ended() },
	},
	{
		name: "NOPERM: the user may do nothing", lasting: true,
		begin: func(f *faulty) { f.do("acl", "setuser", "app", "-@all") },
		end:   func(f *faulty) { f.do("acl", "setuser", "app", "+@all") },
		want:  all("NOPERM"),
	},
	{
		name:  "WRONGPASS: the password is another one",
		begin: func(f *faulty) { f.do("acl", "setuser", "app", "resetpass", ">another"); f.proxy.CutAll() },
		end:   func(f *faulty) { f.do("acl", "setuser", "app", "resetpass", ">secret") },
		want:  all("WRONGPASS"),
	},
	// The session.
	{
		name: "WRONGTYPE: a list has the session's key", answered: true,
		begin: func(f *faulty) {
			for _, key := range f.keys {
				f.raw.Rename(key, "kept:"+key) // there is none of a new session
				f.do("lpush", key, "a list")
			}
		},
		end: func(f *faulty) {
			for _, key := range f.keys {
				if f.raw.Type(key).Val() == "list" {
					f.do("del", key)
					f.raw.Rename("kept:"+key, key)
				}
			}
		},
		want: outcomes{"no session", "WRONGTYPE", "WRONGTYPE", "WRONGTYPE", "WRONGTYPE", ""},
	},
}

// do sends a command to the server itself.
func (f *faulty) do(args ...any) {
	f.Helper()
	if err := f.raw.Do(args...).Err(); err != nil {
		f.Fatalf("%v: %v", args, err)
	}
}

// goes does something beside the test, and returns what waits for its end.
func (f *faulty) goes(do func()) (ended func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		do()
	}()
	return func() { <-done }
}

// beside sends a command that takes as long as the fault does.
func (f *faulty) beside(args ...any) {
	options := *f.server.Client().Options()
	options.ReadTimeout, options.MaxRetries = -1, 0
	client := goredis.NewClient(&options)
	f.ended = f.goes(func() {
		defer client.Close()
		client.Do(args...)
	})
}

func (f *faulty) mend() { f.proxy.Meddle(nil) }

func (f *faulty) fill(keys int) {
	pipe := f.raw.Pipeline()
	for i := range keys {
		pipe.Set(fmt.Sprint("filler", i), strings.Repeat("x", 1000), 0)
	}
	if _, err := pipe.Exec(); err != nil {
		f.Fatal(err)
	}
}

// file is the path of a file in the server's directory.
func (f *faulty) file(name string) string {
	return filepath.Join(filepath.Dir(f.server.Socket()), name)
}

// save has the server save in the background until that has ended as it should, and does no more.
func (f *faulty) save(status string) {
	await(f, "a save to end with "+status, func() bool {
		info := f.raw.Info("persistence").Val()
		switch {
		case !strings.Contains(info, "rdb_bgsave_in_progress:0"):
			return false
		case strings.Contains(info, "rdb_last_bgsave_status:"+status):
			return true
		}
		f.raw.BgSave()
		return false
	})
}

// every is a fault of each request but that by which a connection is opened.
func every(fault redistest.Fault) func([]byte) *redistest.Fault {
	return func(request []byte) *redistest.Fault {
		if bytes.Contains(request, []byte("AUTH")) {
			return nil
		}
		return &fault
	}
}

// first is a fault of the first request for each session.
func (f *faulty) first(fault redistest.Fault) func([]byte) *redistest.Fault {
	var met sync.Map
	return func(request []byte) (meets *redistest.Fault) {
		for _, key := range f.keys {
			if !bytes.Contains(request, []byte(key)) {
				continue
			}
			if _, before := met.LoadOrStore(key, true); !before {
				meets = &fault
			}
		}
		return meets
	}
}

// visits are one of each operation, on a session each.
type visits struct {
	*faulty
	ids            struct{ exist, read, change, create, regenerate, destroy, next string }
	change, create session.Store
	got            outcomes
}

// owner is what a session holds that nobody else's does.
func owner(id string) string { return "of " + id }

// visits prepares them. It is nil where that fails.
func (f *faulty) visits() *visits {
	f.Helper()
	v := &visits{faulty: f}
	ids := &v.ids
	for _, id := range []*string{&ids.exist, &ids.read, &ids.change, &ids.regenerate, &ids.destroy} {
		*id = f.owned(f.others)
	}
	ids.create, ids.next = newID(), newID()
	var err, createErr error
	v.change, err = f.SessionRead(ctx, ids.change)
	v.create, createErr = f.SessionRead(ctx, ids.create)
	if err != nil || createErr != nil {
		return nil
	}
	set(f, v.change, "n", 1)
	set(f, v.create, "owner", owner(ids.create), "n", 1)
	f.keys = []string{ids.exist, ids.read, ids.change, ids.create, ids.regenerate, ids.destroy}
	f.stores = []session.Store{v.change, v.create}
	return v
}

// owned stores a session.
func (f *faulty) owned(by session.Provider) (id string) {
	f.Helper()
	id = newID()
	store := f.read(by, id)
	set(f, store, "owner", owner(id), "n", 0)
	store.SessionRelease(ctx, nil)
	return id
}

// handsOut checks the session that an operation returns.
func (f *faulty) handsOut(id string) func(session.Store, error) error {
	return func(store session.Store, err error) error {
		if err != nil {
			if store != nil {
				f.Errorf("both a session and %v", err)
			}
			return err
		}
		if got := store.Get(ctx, "owner"); got != owner(id) {
			f.Errorf("the session %v is handed out for that %s", got, owner(id))
		}
		return nil
	}
}

var errNoSession = errors.New("no session")

// run does all operations at once, and returns how long the slowest takes.
func (v *visits) run() (slowest time.Duration) {
	ids, got, start := &v.ids, &v.got, time.Now()
	var all sync.WaitGroup
	for _, operation := range []struct {
		outcome *string
		id      string
		do      func() error
	}{
		{&got.exist, ids.exist, func() error {
			found, err := v.SessionExist(ctx, ids.exist)
			if !found && err == nil {
				return errNoSession
			}
			return err
		}},
		{&got.read, ids.read, func() error { return v.handsOut(ids.read)(v.SessionRead(ctx, ids.read)) }},
		{&got.change, ids.change, func() error { v.change.SessionRelease(ctx, nil); return nil }},
		{&got.create, ids.create, func() error { v.create.SessionRelease(ctx, nil); return nil }},
		{&got.regenerate, ids.regenerate, func() error {
			return v.handsOut(ids.regenerate)(v.SessionRegenerate(ctx, ids.regenerate, ids.next))
		}},
		{&got.destroy, ids.destroy, func() error { return v.SessionDestroy(ctx, ids.destroy) }},
	} {
		all.Add(1)
		go func() {
			defer all.Done()
			err := operation.do()
			text := v.logged(operation.id)
			if err != nil {
				text += err.Error()
			}
			*operation.outcome = text
			if strings.Contains(text, operation.id) || strings.Contains(text, "secret") {
				v.Errorf("the error holds a secret: %s", text)
			}
		}()
	}
	all.Wait()
	return time.Since(start)
}

// logged is what was logged of a session.
func (f *faulty) logged(id string) (lines string) {
	for _, line := range strings.SplitAfter(f.log.String(), "\n") {
		if strings.Contains(line, fmt.Sprintf("%.6q…", id)) {
			lines += line
		}
	}
	return lines
}

// works tells whether every operation succeeds, of which nothing has been spoilt before.
func (f *faulty) works() bool {
	v := f.visits()
	if v == nil {
		return false
	}
	v.run()
	return v.got == outcomes{}
}

// undamaged checks what has become of the sessions.
func (v *visits) undamaged() {
	v.Helper()
	ids, got := &v.ids, &v.got
	v.is(ids.exist, ids.exist, 0)
	v.is(ids.read, ids.read, 0)
	if n := v.n(ids.change); n != 1 && (n != 0 || got.change == "") {
		v.Errorf("the session that was changed holds n = %d: %s", n, got.change)
	}
	if n := v.n(ids.create); n != 1 && (n != absent || got.create == "") {
		v.Errorf("the session that was created holds n = %d: %s", n, got.create)
	}
	for id, store := range map[string]session.Store{ids.change: v.change, ids.create: v.create} {
		await(v, "a later release to save", func() bool { store.SessionRelease(ctx, nil); return v.n(id) == 1 })
		v.is(id, id, 1)
	}
	switch old, next := v.n(ids.regenerate), v.n(ids.next); {
	case got.regenerate == "":
		v.is(ids.next, ids.regenerate, 0)
		if old != absent {
			v.Error("the old id is there after a regenerate")
		}
	case strings.Contains(got.regenerate, "may be under the new id"), strings.Contains(got.regenerate, "is not known"):
		if old != 0 && next != 0 {
			v.Errorf("no session after %s", got.regenerate)
		}
	case next != absent:
		v.Errorf("the new id is there after %s", got.regenerate)
	default:
		v.is(ids.regenerate, ids.regenerate, 0)
	}
	if n := v.n(ids.destroy); n != absent && (n != 0 || got.destroy == "") {
		v.Errorf("the session that was destroyed holds n = %d: %s", n, got.destroy)
	}
}

// absent is the n of a session that is not there.
const absent = -1

func (f *faulty) n(id string) int {
	f.Helper()
	if f.raw.Exists(id).Val() == 0 {
		return absent
	}
	n, _ := f.stored(id)["n"].(int)
	return n
}

// is checks that a session is that of an owner, for beego's decoder too.
func (f *faulty) is(id, of string, n int) {
	f.Helper()
	f.others.holds(id, "owner", owner(of), "n", n)
	if left := f.ttl(id); !near(left) {
		f.Errorf("it lives for %v", left)
	}
}

// newFaulty starts a server in which nothing is wrong yet.
func newFaulty(t *testing.T, fault fault, log *lockedBuffer) *faulty {
	t.Helper()
	args := append([]string{"--user", "app on >secret ~* +@all"}, fault.server...)
	f := &faulty{server: redistest.Start(t, args...), log: log}
	f.addr = f.server.Addr()
	if !fault.direct {
		f.proxy = redistest.Proxy(t, f.addr)
		f.addr = f.proxy.Addr()
	}
	f.site = &site{T: t, raw: f.server.Client()}
	f.Provider = f.another(fault)
	f.others = &site{T: t, raw: f.raw, Provider: redis.NewProvider(f.raw)}
	if err := f.others.SessionInit(ctx, life, ""); err != nil {
		t.Fatal(err)
	}
	return f
}

// another is one more provider that meets the fault.
func (f *faulty) another(fault fault) *redis.Provider {
	f.Helper()
	config := fmt.Sprintf(`{"save_path":%q,"username":"app","password":"secret","dial_timeout":"%v","read_timeout":"%v","write_timeout":"%v",`+
		`"outage_time":"%v"%s}`, f.addr, fault.timeouts.dial, fault.timeouts.read, fault.timeouts.write, fault.timeouts.outage, fault.config)
	p, err := new(redis.Provider), error(nil)
	for range 20 { // there may be little time to connect
		if err = p.SessionInit(ctx, life, config); err == nil {
			return p
		}
	}
	f.Fatal(err)
	return nil
}

// readers read sessions of their own until they are stopped, and check that they get these.
func (f *faulty) readers() (stop func()) {
	var all sync.WaitGroup
	var served, not atomic.Int64
	end := make(chan struct{})
	for range 3 {
		id := f.owned(f.others)
		all.Add(1)
		go func() {
			defer all.Done()
			for {
				select {
				case <-end:
					return
				case <-time.After(time.Millisecond):
				}
				if f.handsOut(id)(f.SessionRead(ctx, id)) == nil {
					served.Add(1)
				} else {
					not.Add(1)
				}
			}
		}()
	}
	return func() {
		close(end)
		all.Wait()
		f.Logf("others were served %d times, and %d times not", served.Load(), not.Load())
	}
}

// ends tells whether an operation may end with what it ended with.
func ends(got, want string) bool {
	return got == "" && want == "" || want != "" && regexp.MustCompile(want).MatchString(got)
}

func TestFaults(t *testing.T) {
	log := captureLog(t) // of all: they are told apart by the ids
	for _, fault := range faults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			fault.timeouts = cmp.Or(fault.timeouts, long)
			f := newFaulty(t, fault, log)
			defer f.readers()()
			await(t, "everything to work before the fault", f.works)
			var v *visits
			await(t, "sessions", func() bool { v = f.visits(); return v != nil })

			fault.begin(f)
			slowest := v.run()
			fault.end(f)
			await(t, "everything to work after the fault", f.works)
			v.undamaged()

			if slowest > fault.timeouts.limit()+slack {
				t.Errorf("took %v", slowest)
			}
			t.Logf("took %v at the longest", slowest.Round(time.Millisecond))
			got, want := reflect.ValueOf(v.got), reflect.ValueOf(fault.want)
			for i := range got.NumField() {
				got, want := got.Field(i).String(), want.Field(i).String()
				report := t.Logf
				if !ends(got, want) {
					report = t.Errorf
				}
				report("%s: %q, want %q", reflect.TypeOf(v.got).Field(i).Name, got, want)
			}
			if fault.answered && strings.Contains(v.got.regenerate, "may be under") {
				t.Errorf("nothing was moved, and that is known: %s", v.got.regenerate)
			}
			t.Logf("the session that was to be destroyed is there: %v", v.n(v.ids.destroy) != absent)
		})
	}
}

func TestTheFaultsAreThoseOfTheDocumentation(t *testing.T) {
	page, err := os.ReadFile("docs/faults.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile(`(?m)^\| (.*) \| (.*) \| (.*) \|.*\|$`).FindAllStringSubmatch(string(page), -1)[2:] // after the head
	for i, row := range rows {
		name := strings.ReplaceAll(row[1], "`", "")
		if i >= len(faults) || name != faults[i].name {
			t.Fatalf("row %d is %q", i+1, name)
		}
		want := faults[i].want
		for cell, want := range map[string]string{row[2]: want.read, row[3]: want.change} {
			says := strings.HasPrefix(cell, "served")
			for _, code := range regexp.MustCompile("`(.*?)`").FindAllStringSubmatch(row[2]+cell, -1) { // "the same" is what stands to the left
				says = says || want != "" && ends(code[1], want)
			}
			if !says || strings.HasPrefix(cell, "served") != ends("", want) {
				t.Errorf("%s: %q, and the test wants %q", name, cell, want)
			}
		}
	}
	if len(rows) != len(faults) {
		t.Errorf("%d rows, and %d faults", len(rows), len(faults))
	}
}
