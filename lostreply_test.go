// What becomes of a session when commands are executed and their replies are lost, or when they come late. Two providers
// that share nothing but the server stand for two processes.

package redis_test

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	goredis "github.com/go-redis/redis/v7"
)

// scripts are the names of the Lua files by their digests.
var scripts = func() map[string]string {
	files, _ := filepath.Glob("*.lua")
	names := map[string]string{}
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			panic(err)
		}
		digest := sha1.Sum(source)
		names[hex.EncodeToString(digest[:])] = file
		names[string(source)] = file
	}
	return names
}()

// nameOf is the name of a command, or of the script that it runs. A SET that compares is "swap", and one that only asks
// whether the server knows it is "ask".
func nameOf(cmd goredis.Cmder) string {
	switch name, args := cmd.Name(), cmd.Args(); {
	case name == "eval" || name == "evalsha":
		return scripts[args[1].(string)]
	case name != "set" || args[3] != "ifeq":
		return name
	case args[4] == "?":
		return "ask"
	}
	return "swap"
}

// comesLate tells of a command that does nothing when it comes late: a script, or a SET that compares.
func comesLate(cmd goredis.Cmder) bool {
	return strings.HasPrefix(cmd.Name(), "eval") || nameOf(cmd) == "swap"
}

// hook is one that does nothing.
type hook struct{}

func (hook) BeforeProcess(ctx context.Context, _ goredis.Cmder) (context.Context, error) {
	return ctx, nil
}

func (hook) AfterProcess(context.Context, goredis.Cmder) error { return nil }

func (hook) BeforeProcessPipeline(ctx context.Context, _ []goredis.Cmder) (context.Context, error) {
	return ctx, nil
}

func (hook) AfterProcessPipeline(context.Context, []goredis.Cmder) error { return nil }

// network is a hook that loses replies: the commands are executed, and the client sees a connection that failed. With
// requests set it loses those instead, so that nothing is executed.
type network struct {
	mu        sync.Mutex
	requests  bool
	loses     func(name string) bool // asked of each command that was executed
	meanwhile func()                 // happens between a loss and the repeat, once
	lost      []string
	sent      [][]any // scripts, and SET that compares, that were executed
	held      [][]any // those that were not
}

// lose loses the replies to commands of the name, or to all if it is empty, so many times. A server may save by a swap
// instead. Something may happen after the first loss.
func (n *network) lose(name string, times int, meanwhile func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.meanwhile, n.lost, n.requests = meanwhile, nil, false
	n.loses = func(executed string) bool {
		if executed == name || name == "" || executed == "swap" && (name == "save.lua" || name == "set") {
			times--
			return times >= 0
		}
		return false
	}
}

// always is more often than any command is repeated.
const always = 1 << 20

func (n *network) heal() { n.lose("", 0, nil) }

func (n *network) before(cmds []goredis.Cmder) error {
	n.mu.Lock()
	lose := n.requests
	n.mu.Unlock()
	if !lose {
		return nil
	}
	return n.pass(cmds, false)
}

func (n *network) after(cmds []goredis.Cmder) error {
	n.mu.Lock()
	lose := !n.requests
	for _, cmd := range cmds {
		if comesLate(cmd) && (cmd.Err() == nil || cmd.Err() == goredis.Nil) {
			n.sent = append(n.sent, cmd.Args())
		}
	}
	n.mu.Unlock()
	if !lose {
		return nil
	}
	return n.pass(cmds, true)
}

// pass loses commands, or lets them pass.
func (n *network) pass(cmds []goredis.Cmder, executed bool) error {
	n.mu.Lock()
	var lost bool
	for _, cmd := range cmds {
		if err := cmd.Err(); executed && err != nil && err != goredis.Nil {
			continue
		}
		if n.loses != nil && n.loses(nameOf(cmd)) {
			n.lost, lost = append(n.lost, nameOf(cmd)), true
			if !executed && comesLate(cmd) {
				n.held = append(n.held, cmd.Args())
			}
		}
	}
	meanwhile := n.meanwhile
	if lost {
		n.meanwhile = nil
	}
	n.mu.Unlock()
	if !lost {
		return nil
	}
	if meanwhile != nil {
		meanwhile()
	}
	return io.EOF
}

func (n *network) BeforeProcess(ctx context.Context, cmd goredis.Cmder) (context.Context, error) {
	return ctx, n.before([]goredis.Cmder{cmd})
}

func (n *network) AfterProcess(_ context.Context, cmd goredis.Cmder) error {
	return n.after([]goredis.Cmder{cmd})
}

func (n *network) BeforeProcessPipeline(ctx context.Context, cmds []goredis.Cmder) (context.Context, error) {
	return ctx, n.before(cmds)
}

func (n *network) AfterProcessPipeline(_ context.Context, cmds []goredis.Cmder) error {
	return n.after(cmds)
}

// late executes the scripts that were sent so far once more, as a network does that has held a copy of them back, and
// those that it has held back altogether.
func (n *network) late(t testing.TB, raw goredis.UniversalClient) {
	t.Helper()
	n.mu.Lock()
	sent := append(n.sent[:len(n.sent):len(n.sent)], n.held...)
	n.mu.Unlock()
	for _, args := range sent {
		if err := raw.Do(args...).Err(); err != nil && err != goredis.Nil && !strings.HasPrefix(err.Error(), "NOSCRIPT") {
			t.Errorf("%v: %v", args[:2], err)
		}
	}
}

// twoProcesses are two providers on one server, of which the first has a network that loses replies.
type twoProcesses struct {
	*site
	network *network
	other   *redis.Provider
	log     *lockedBuffer
}

type lossyTopology struct {
	name      string
	scripts   bool
	oneServer bool
	start     func(t *testing.T) (raw goredis.UniversalClient, connect func() goredis.UniversalClient)
}

var lossyTopologies = []lossyTopology{
	{"standalone", true, true, func(t *testing.T) (goredis.UniversalClient, func() goredis.UniversalClient) {
		s := redistest.Start(t)
		return s.Client(), func() goredis.UniversalClient { return goredis.NewClient(&goredis.Options{Addr: s.Addr()}) }
	}},
	{"with IFEQ", true, true, func(t *testing.T) (goredis.UniversalClient, func() goredis.UniversalClient) {
		m := miniredis.RunT(t)
		m.Server().SetPreHook(redistest.IFEQ(m))
		connect := func() goredis.UniversalClient { return goredis.NewClient(&goredis.Options{Addr: m.Addr()}) }
		raw := connect()
		t.Cleanup(func() { _ = raw.Close() })
		return raw, connect
	}},
	{"without scripts", false, true, func(t *testing.T) (goredis.UniversalClient, func() goredis.UniversalClient) {
		s := redistest.Start(t, "--user", "app on >secret ~* +@all -@scripting")
		return s.Client(), func() goredis.UniversalClient {
			return goredis.NewClient(&goredis.Options{Addr: s.Addr(), Username: "app", Password: "secret"})
		}
	}},
	{"cluster", true, false, func(t *testing.T) (goredis.UniversalClient, func() goredis.UniversalClient) {
		c := redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true})
		connect := func() goredis.UniversalClient {
			return client.New(client.Options{Mode: client.Cluster, Addrs: c.Addrs()})
		}
		raw := connect()
		t.Cleanup(func() { _ = raw.Close() })
		return raw, connect
	}},
}

func (s *twoProcesses) open(connect func() goredis.UniversalClient, hook goredis.Hook) *redis.Provider {
	own := connect()
	s.Cleanup(func() { _ = own.Close() })
	if hook != nil {
		own.(interface{ AddHook(goredis.Hook) }).AddHook(hook)
	}
	p := redis.NewProvider(own)
	if err := p.SessionInit(ctx, life, s.config); err != nil {
		s.Fatal(err)
	}
	return p
}

// saving is the name of what saves and creates, and moving that of what takes the old id away.
func saving(scripts bool) (save, create string) {
	if scripts {
		return "save.lua", "create.lua"
	}
	return "set", "set"
}

func moving(scripts, oneServer bool) string {
	switch {
	case !scripts:
		return "expire" // is sent along with the RENAME
	case oneServer:
		return "regenerate.lua"
	}
	return "remove.lua"
}

func TestWhenAReplyIsLost(t *testing.T) { whenAReplyIsLost(t, lossyTopologies, `{"outage_time":"0s"}`) }

func whenAReplyIsLost(t *testing.T, topologies []lossyTopology, config string) {
	for _, topology := range topologies {
		t.Run(topology.name, func(t *testing.T) {
			raw, connect := topology.start(t)
			save, create := saving(topology.scripts)
			move := moving(topology.scripts, topology.oneServer && !strings.Contains(config, "encryption_keys_file"))
			for _, row := range []struct {
				behaviour string
				shown     func(s *twoProcesses)
			}{
				{"a save is not done again over what came after it", func(s *twoProcesses) { savedOnce(s, save) }},
				{"a flush does not wipe what came after it", func(s *twoProcesses) { flushedOnce(s, save) }},
				{"a save that failed is not done again by the next release", func(s *twoProcesses) { failedAndSaved(s, save) }},
				{"what is added to a number is added once", func(s *twoProcesses) { countedOnce(s, save) }},
				{"what is added by the save before many that fail is added once", func(s *twoProcesses) { countedAfterMany(s, save) }},
				{"an Update is done once", func(s *twoProcesses) { updatedOnce(s, save) }},
				{"a new session that was destroyed is not created again", func(s *twoProcesses) { createdOnce(s, create) }},
				{"a regenerate whose reply is lost keeps the data", func(s *twoProcesses) { movedOnce(s, move) }},
				{"a regenerate that fails leaves the session where it was", func(s *twoProcesses) { movedBack(s, move, topology.scripts) }},
				{"a regenerate of which nothing more is heard loses nothing", func(s *twoProcesses) { movedSomewhere(s, move) }},
				{"two regenerates at once lose nothing", func(s *twoProcesses) { movedTwice(s, move) }},
				{"a regenerate cannot be taken back to an id that was created anew", func(s *twoProcesses) { movedAndReplaced(s, move) }},
				{"a session that is given back is not one that was destroyed", func(s *twoProcesses) { givenBack(s, move) }},
				{"the first save of what beego wrote is merged", func(s *twoProcesses) { beegosMerged(s, save) }},
			} {
				t.Run(row.behaviour, func(t *testing.T) {
					s := &twoProcesses{site: &site{T: t, raw: raw, config: config}, network: new(network), log: captureLog(t)}
					s.Provider, s.other = s.open(connect, s.network), s.open(connect, nil)
					row.shown(s)
				})
			}
		})
	}
}

func (s *twoProcesses) silent() {
	s.Helper()
	for _, line := range strings.Split(s.log.String(), "\n") {
		if line != "" && !strings.Contains(line, "refuses scripts") {
			s.Errorf("log: %s", line)
		}
	}
}

// change does what a request does that sets one value.
func (s *twoProcesses) change(p *redis.Provider, id, key string, value any) {
	s.Helper()
	store := s.read(p, id)
	set(s, store, key, value)
	store.SessionRelease(ctx, nil)
}

func savedOnce(s *twoProcesses, save string) {
	id := s.create("n", 0)
	store := s.read(s, id)
	set(s, store, "n", 1)
	s.network.lose(save, 1, func() {
		if got := s.read(s.other, id).Get(ctx, "n"); got != 1 {
			s.Errorf("the save was not executed: %v", got)
		}
		s.change(s.other, id, "n", 2)
	})
	store.SessionRelease(ctx, nil)
	if len(s.network.lost) != 1 {
		s.Fatalf("lost %v", s.network.lost)
	}
	s.holds(id, "n", 2)

	// Also when as many others have saved as a browser has requests under way.
	store = s.read(s, id)
	set(s, store, "n", 3)
	s.network.lose(save, 1, func() {
		for i := range 5 {
			s.change(s.other, id, fmt.Sprint("other ", i), i)
		}
		s.change(s.other, id, "n", 4)
	})
	store.SessionRelease(ctx, nil)
	s.holds(id, "n", 4, "other 0", 0, "other 1", 1, "other 2", 2, "other 3", 3, "other 4", 4)
	s.silent()

	// And if it comes again when all is over.
	s.network.late(s, s.raw)
	s.holds(id, "n", 4, "other 0", 0, "other 1", 1, "other 2", 2, "other 3", 3, "other 4", 4)

	// After that many that nobody can tell, it is not done again, and that is said.
	store = s.read(s, id)
	set(s, store, "n", 5)
	s.network.lose(save, 1, func() {
		for i := range 10 {
			s.change(s.other, id, "n", 100+i)
		}
	})
	store.SessionRelease(ctx, nil)
	if got := s.read(s, id).Get(ctx, "n"); got != 109 || !strings.Contains(s.log.String(), "nobody can tell") {
		s.Errorf("n = %v, log %s", got, s.log)
	}
}

func flushedOnce(s *twoProcesses, save string) {
	id := s.create("basket", 1)
	store := s.read(s, id)
	_ = store.Flush(ctx)
	set(s, store, "notice", "empty")
	s.network.lose(save, 1, func() { s.change(s.other, id, "user", "ann") })
	store.SessionRelease(ctx, nil)
	s.holds(id, "notice", "empty", "user", "ann")
	s.silent()
}

func failedAndSaved(s *twoProcesses, save string) {
	id := s.create("n", 0, "m", map[string]any{"n": 0})
	store := s.read(s, id)
	_ = store.Flush(ctx)
	m := map[string]any{"n": 1}
	set(s, store, "n", 1, "m", m)
	s.network.lose(save, always, func() {
		s.change(s.other, id, "n", 2)
		s.change(s.other, id, "m", map[string]any{"n": 2})
	})
	store.SessionRelease(ctx, nil)
	if told := strings.Contains(s.log.String(), "may be lost"); told != (save == "save.lua" || slices.Contains(s.network.lost, "swap")) { // else it looks first
		s.Errorf("log: %s", s.log)
	}
	s.network.heal()
	store.SessionRelease(ctx, nil) // it finds out that all is saved
	s.holds(id, "n", 2, "m", map[string]any{"n": 2})

	set(s, store, "more", 1)
	store.SessionRelease(ctx, nil)
	s.holds(id, "n", 2, "m", map[string]any{"n": 2}, "more", 1)

	// After so many others that nobody can tell, it is not done again either, and that is said.
	store = s.read(s, id)
	set(s, store, "n", 3)
	s.network.lose(save, always, func() {
		for i := range 10 {
			s.change(s.other, id, "n", 100+i)
		}
	})
	store.SessionRelease(ctx, nil)
	s.network.heal()
	before := len(s.log.String())
	store.SessionRelease(ctx, nil)
	if got := s.read(s, id).Get(ctx, "n"); got != 109 || !strings.Contains(s.log.String()[before:], "nobody can tell") {
		s.Errorf("n = %v, log %s", got, s.log)
	}
}

func createdOnce(s *twoProcesses, create string) {
	destroy := func(id string) {
		if err := s.other.SessionDestroy(ctx, id); err != nil {
			s.Error(err)
		}
	}
	id := newID()
	store := s.read(s, id)
	set(s, store, "user", "ann")
	s.network.lose(create, 1, func() {
		s.holds(id, "user", "ann")
		destroy(id)
	})
	store.SessionRelease(ctx, nil)
	s.gone(id)

	// Nor when no reply was lost.
	for name, remove := range map[string]func(id string){
		"destroyed": destroy,
		"regenerated": func(id string) {
			if _, err := s.other.SessionRegenerate(ctx, id, newID()); err != nil {
				s.Error(err)
			}
		},
	} {
		id = newID()
		store = s.read(s, id)
		set(s, store, "user", "ann")
		remove(id)
		releaseIfPresent(ctx, store)
		store.SessionRelease(ctx, nil)
		if s.gone(id); s.Failed() {
			s.Fatalf("a session that was %s by another process was created", name)
		}
	}
	s.network.late(s, s.raw)
	s.gone(id)

	// A request that begins after that may create it, and what comes late does not touch that.
	s.change(s.other, id, "user", "bob")
	store.SessionRelease(ctx, nil)
	s.network.late(s, s.raw)
	s.holds(id, "user", "bob")
	s.silent()
}

// past lets as much time pass for other keys than the session's as any call may take: 11 s with the default timeouts.
func (s *twoProcesses) past(id string) {
	s.Helper()
	forget := func(c *goredis.Client) error {
		keys, err := c.Keys("*" + id + "*").Result()
		for _, key := range keys {
			if left := c.PTTL(key).Val(); key != id && left <= 11*time.Second {
				err = c.Del(key).Err()
			}
		}
		return err
	}
	var err error
	switch raw := s.raw.(type) {
	case *goredis.ClusterClient:
		err = raw.ForEachMaster(forget)
	case *goredis.Client:
		err = forget(raw)
	}
	if err != nil {
		s.Error(err)
	}
}

func movedOnce(s *twoProcesses, move string) {
	id, next := s.create("user", "ann"), newID()
	s.network.lose(move, 1, func() { s.past(id) })
	store, err := s.SessionRegenerate(ctx, id, next)
	if err != nil {
		s.Fatal(err)
	}
	if len(s.network.lost) != 1 {
		s.Errorf("lost %v", s.network.lost)
	}
	s.gone(id)
	s.holds(next, "user", "ann")
	for i := range 10 {
		set(s, store, "n", i)
		store.SessionRelease(ctx, nil)
	}
	s.network.late(s, s.raw)
	s.gone(id)
	s.holds(next, "user", "ann", "n", 9)
	if err := s.SessionDestroy(ctx, next); err != nil {
		s.Error(err)
	}
	s.network.late(s, s.raw)
	s.gone(id, next)
	s.silent()
}

func movedBack(s *twoProcesses, move string, scripts bool) {
	for _, values := range [][]any{{"user", "ann"}, {}} {
		id, next := s.create(values...), newID()
		underWay := s.read(s.other, id)
		s.network.lose(move, 4, nil) // all of its repeats, but not of what follows
		store, err := s.SessionRegenerate(ctx, id, next)
		if store != nil || err == nil {
			s.Fatalf("SessionRegenerate = %v, %v", store, err)
		}
		s.network.heal()
		s.holds(id, values...)
		if scripts {
			s.gone(next)
			s.network.late(s, s.raw)
			s.gone(next)
		}
		set(s, underWay, "n", 1)
		underWay.SessionRelease(ctx, nil)
		s.holds(id, append(values, "n", 1)...)
	}
	if scripts { // also when it is the request that does not arrive, until all is over
		id, next := s.create("user", "ann"), newID()
		s.network.lose(move, 4, nil)
		s.network.requests = true
		if store, err := s.SessionRegenerate(ctx, id, next); store != nil || err == nil || len(s.network.held) == 0 {
			s.Fatalf("SessionRegenerate = %v, %v, held back %d", store, err, len(s.network.held))
		}
		s.network.heal()
		s.holds(id, "user", "ann")
		s.network.late(s, s.raw)
		s.holds(id, "user", "ann")
		s.gone(next)
	}
	if !scripts {
		return // the regenerate of nothing does not move
	}
	for _, empty := range []string{"", string(must(session.EncodeGob(map[any]any{})))} { // as beego's provider writes it
		id, next := newID(), newID()
		s.put(id, empty)
		s.network.lose(move, 4, nil)
		if store, err := s.SessionRegenerate(ctx, id, next); store != nil || err == nil {
			s.Fatalf("SessionRegenerate = %v, %v", store, err)
		}
		s.holds(id)
		s.gone(next)
	}
	id, next := newID(), newID()
	s.network.lose("regenerate.lua", 4, nil)
	if _, err := s.SessionRegenerate(ctx, id, next); err != nil { // one server
		s.gone(id, next)
	}
	s.silent()
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func movedSomewhere(s *twoProcesses, move string) {
	id, next := s.create("user", "ann"), newID()
	s.network.lose(move, always, func() {
		s.network.mu.Lock()
		defer s.network.mu.Unlock()
		s.network.loses = func(string) bool { return true } // from now on nothing is heard
	})
	if store, err := s.SessionRegenerate(ctx, id, next); store != nil || err == nil {
		s.Fatalf("SessionRegenerate = %v, %v", store, err)
	} else {
		s.Log(err)
	}
	for _, id := range []string{id, next} {
		if s.read(s.other, id).Get(ctx, "user") == "ann" {
			return
		}
	}
	s.Error("the session is under neither id")
}

func movedTwice(s *twoProcesses, move string) {
	for _, times := range []int{1, 4, always} { // of the first regenerate
		id, next, second := s.create("user", "ann"), newID(), newID()
		s.network.lose(move, times, func() {
			store, err := s.other.SessionRegenerate(ctx, id, second)
			if err != nil || store.Get(ctx, "user") != nil {
				s.Errorf("the second regenerate: %v", err)
			}
			set(s, store, "n", 1)
			store.SessionRelease(ctx, nil)
		})
		_, err := s.SessionRegenerate(ctx, id, next)
		if len(s.network.lost) == 0 || times == 1 && err != nil {
			s.Errorf("lost %v, error %v", s.network.lost, err)
		}
		s.network.heal()
		s.network.late(s, s.raw)
		if err == nil {
			s.holds(next, "user", "ann")
			s.gone(id)
		} else {
			s.holds(id, "user", "ann")
		}
		s.holds(second, "n", 1)
	}
}

func movedAndReplaced(s *twoProcesses, move string) {
	id, next := s.create("user", "ann"), newID()
	s.network.lose(move, 4, func() { s.change(s.other, id, "n", 1) })
	if store, err := s.SessionRegenerate(ctx, id, next); store != nil || err == nil || !strings.Contains(err.Error(), "stays under the new one") {
		s.Fatalf("SessionRegenerate = %v, %v", store, err)
	}
	s.network.heal()
	s.network.late(s, s.raw)
	s.holds(id, "n", 1)
	s.holds(next, "user", "ann")
}

func givenBack(s *twoProcesses, move string) {
	id, next := newID(), newID()
	s.put(id, "\x03abc") // a message of gob's, so that it is moved also where values are encrypted
	destroyed := false
	s.network.loses = func(executed string) bool {
		if executed == move && !destroyed { // between the regenerate and what gives the session back
			destroyed = true
			if err := s.other.SessionDestroy(ctx, id); err != nil {
				s.Error(err)
			}
		}
		return false
	}
	if store, err := s.SessionRegenerate(ctx, id, next); store != nil || err == nil || !destroyed {
		s.Fatalf("SessionRegenerate = %v, %v, destroyed %v", store, err, destroyed)
	}
	s.network.heal()
	if move == "expire" {
		return // without scripts the log-out comes between a look and a write
	}
	if n := s.raw.Exists(id).Val(); n != 0 {
		s.Error("the session that was destroyed is back")
	}
	s.network.late(s, s.raw)
	s.gone(id, next)

	id, next = newID(), newID()
	data := damaged(s)
	s.put(id, data)
	if store, err := s.SessionRegenerate(ctx, id, next); store != nil || err == nil {
		s.Fatalf("SessionRegenerate = %v, %v", store, err)
	}
	s.network.late(s, s.raw)
	if got, err := redis.Opened(s.Provider, id, s.raw.Get(id).Val()); err != nil || !strings.HasPrefix(got, data) {
		s.Errorf("the session is not under its old id, but %q is: %v", got, err)
	}
	s.gone(next)
}

func beegosMerged(s *twoProcesses, save string) {
	id := newID()
	s.put(id, string(must(session.EncodeGob(map[any]any{"n": 0}))))
	store := s.read(s, id)
	set(s, store, "mine", 1)
	s.network.lose(save, 1, nil)
	s.network.requests = true
	s.network.meanwhile = func() { s.change(s.other, id, "theirs", 1) }
	store.SessionRelease(ctx, nil)
	s.holds(id, "n", 0, "mine", 1, "theirs", 1)
	s.silent()
}

// The tombstone of a session outlives all repeats, however long the time limits are.
func TestATombstoneOutlivesEveryRepeat(t *testing.T) {
	s := redistest.Start(t)
	p := open(t, fmt.Sprintf(`{"save_path":%q,"read_timeout":"10m"}`, s.Addr()), life)
	id := newID()
	if err := p.SessionDestroy(ctx, id); err != nil {
		t.Fatal(err)
	}
	keys := s.Client().Keys("*" + id + "*").Val()
	if len(keys) != 1 {
		t.Fatalf("the keys are %q", keys)
	}
	if left := s.Client().PTTL(keys[0]).Val(); left < 30*time.Minute {
		t.Errorf("it lasts for %v, but a call may take 20 minutes", left)
	}
}

// The same on a network: a connection that is reset after the server has executed what was sent.
func TestAConnectionThatIsResetAfterASave(t *testing.T) {
	s := redistest.Start(t)
	proxy := redistest.Proxy(t, s.Addr())
	log := captureLog(t)
	a, b := open(t, proxy.Addr(), life), open(t, s.Addr(), life)
	site := &site{T: t, raw: s.Client(), Provider: b}
	digest := func(file string) string {
		if file == "save.lua" && hasIFEQ(s.Client()) {
			return "ifeq"
		}
		for digest, name := range scripts {
			if name == file && len(digest) == 2*sha1.Size {
				return digest
			}
		}
		t.Fatal("no ", file)
		return ""
	}
	lose := func(file string, do, meanwhile func()) {
		t.Helper()
		happened := false
		proxy.LoseReply(digest(file), func() {
			happened = true
			meanwhile()
		})
		if do(); !happened {
			t.Errorf("no reply to %s was lost", file)
		}
	}
	change := func(p *redis.Provider, id string, n int) {
		store := site.read(p, id)
		set(t, store, "n", n)
		store.SessionRelease(ctx, nil)
	}
	// The scripts are parsed.
	id := newID()
	change(a, id, 0)
	change(a, id, 1)
	if _, err := a.SessionRegenerate(ctx, id, newID()); err != nil {
		t.Fatal(err)
	}

	id = newID()
	lose("create.lua", func() { change(a, id, 1) }, func() { change(b, id, 2) })
	site.holds(id, "n", 2)
	lose("save.lua", func() { change(a, id, 3) }, func() { change(b, id, 4) })
	site.holds(id, "n", 4)
	next := newID()
	lose("regenerate.lua", func() {
		if _, err := a.SessionRegenerate(ctx, id, next); err != nil {
			t.Error(err)
		}
	}, func() { site.gone(id) })
	site.holds(next, "n", 4)
	id = newID()
	lose("create.lua", func() { change(a, id, 1) }, func() {
		if err := b.SessionDestroy(ctx, id); err != nil {
			t.Error(err)
		}
	})
	site.gone(id)
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}
