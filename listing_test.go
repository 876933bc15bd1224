// Listing sessions while they come and go, on servers whose tables change, and with errors on the way.

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/redistest"
	goredis "github.com/go-redis/redis/v7"
)

// filled writes sessions of which nothing is read, from one number to before another.
func filled(t *testing.T, s *redistest.Server, from, to int) {
	t.Helper()
	const script = "for i = ARGV[1], ARGV[2] - 1 do redis.call('SETEX', 'session-' .. i, 1000, '') end"
	if err := s.Client().Eval(script, nil, from, to).Err(); err != nil && err != goredis.Nil {
		t.Fatal(err)
	}
}

// resized waits until the table that a server has its keys in fits.
func resized(t *testing.T, s *redistest.Server, fits func(size int) bool) {
	t.Helper()
	size := regexp.MustCompile(`table size: (\d+)`)
	await(t, "a table of another size", func() bool {
		stats, err := s.Client().Do("debug", "htstats", 0).Text()
		if err != nil {
			t.Fatal(err)
		}
		main, _, _ := strings.Cut(stats, "[Expires HT]")
		found := size.FindAllStringSubmatch(main, -1) // two while it changes
		if len(found) != 1 {
			return false
		}
		var n int
		_, _ = fmt.Sscan(found[0][1], &n)
		return fits(n)
	})
}

// listOnce lists all sessions, of which none may come twice, and calls f with each and how many were listed by then.
func listOnce(t *testing.T, p *redis.Provider, f func(id string, listed int)) (met map[string]bool) {
	t.Helper()
	met = map[string]bool{}
	for id, err := range p.Sessions(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if met[id] {
			t.Fatalf("%s was listed before, after %d sessions", id, len(met))
		}
		met[id] = true
		f(id, len(met))
	}
	return met
}

// Where a server's table shrinks, SCAN returns again what it has returned shortly before.
func TestNoSessionIsListedTwiceWhileTheTableShrinks(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--enable-debug-command", "yes", "--hz", "500")
	p := open(t, s.Addr(), life)
	const n, left = 30_000, 100
	filled(t, s, 0, n)
	var last []string
	listOnce(t, p, func(id string, listed int) {
		last = append(last, id)
		if listed == n/2 {
			last = last[n/2-left:]
			script := "for _, id in ipairs(redis.call('KEYS', '*')) do if not string.find(ARGV[1], id .. ' ', 1, true) then redis.call('UNLINK', id) end end"
			if err := s.Client().Eval(script, nil, strings.Join(last, " ")+" ").Err(); err != nil && err != goredis.Nil {
				t.Fatal(err)
			}
			resized(t, s, func(size int) bool { return size <= 1024 })
		}
	})
}

func TestEverySessionIsListedWhileTheTableGrows(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--enable-debug-command", "yes", "--hz", "500")
	p := open(t, s.Addr(), life)
	const n, more = 5000, 60_000
	filled(t, s, 0, n)
	met := listOnce(t, p, func(_ string, listed int) {
		if listed == n/2 {
			filled(t, s, n, more)
			resized(t, s, func(size int) bool { return size > 2*n })
		}
	})
	for i := range n {
		if id := fmt.Sprint("session-", i); !met[id] {
			t.Errorf("%s was not listed", id)
		}
	}
}

// pages starts a server whose SCAN takes as many steps as f answers, each with an answer to it.
func pages(t *testing.T, f func(c *server.Peer, step int)) *redis.Provider {
	t.Helper()
	m := miniredis.RunT(t)
	p := open(t, m.Addr(), life)
	var steps atomic.Int64
	m.Server().SetPreHook(func(c *server.Peer, cmd string, _ ...string) bool {
		if cmd != "SCAN" {
			return false
		}
		f(c, int(steps.Add(1)))
		return true
	})
	return p
}

func page(c *server.Peer, next int, keys ...string) {
	c.Block(func(w *server.Writer) {
		w.WriteLen(2)
		w.WriteBulk(fmt.Sprint(next))
		w.WriteStrings(keys)
	})
}

func TestWhatScanReturnsAgainIsNotListedAgain(t *testing.T) {
	const steps, of = 8, 10_000 // more than the ids that are kept in mind
	p := pages(t, func(c *server.Peer, step int) {
		var keys []string
		for i := range of {
			keys = append(keys, fmt.Sprint("id-", (step-1)*of/2+i)) // half of them again
		}
		page(c, (step+1)%(steps+1), keys...)
	})
	met := listOnce(t, p, func(string, int) {})
	if want := (steps + 1) * of / 2; len(met) != want {
		t.Errorf("%d sessions, want %d", len(met), want)
	}
}

func TestAnErrorEndsAListing(t *testing.T) {
	p := pages(t, func(c *server.Peer, step int) {
		if step == 3 {
			c.WriteError("NOPERM this user has no permissions to run the 'scan' command")
			return
		}
		page(c, step, fmt.Sprint("id-", step))
	})
	var got []string
	var failed []error
	for id, err := range p.Sessions(ctx) {
		got, failed = append(got, id), append(failed, err)
	}
	if fmt.Sprint(got) != "[id-1 id-2 ]" || failed[2] == nil || !strings.Contains(failed[2].Error(), "session/redis: list at ") ||
		!strings.Contains(failed[2].Error(), "without SCAN: NOPERM") {
		t.Errorf("%q, %v", got, failed)
	}
	if n := p.Stats().Errors[redis.KindRefused]; n != 1 {
		t.Errorf("%d errors are counted", n)
	}
}

func TestAListingThatIsLeftLeavesNothingBehind(t *testing.T) {
	var steps atomic.Int64
	p := pages(t, func(c *server.Peer, step int) {
		steps.Add(1)
		page(c, step, "a", "b", "c")
	})
	before := runtime.NumGoroutine()
	for range p.Sessions(ctx) {
		break
	}
	await(t, "its goroutines to end", func() bool { return runtime.NumGoroutine() <= before })
	if n := steps.Load(); n != 1 || p.Stats().InFlight != 0 {
		t.Errorf("%d steps, %d operations under way", n, p.Stats().InFlight)
	}
}

func TestCloseDoesNotWaitForWhoeverLists(t *testing.T) {
	p := pages(t, func(c *server.Peer, step int) { page(c, step, fmt.Sprint("id-", step)) })
	var failed []error
	for _, err := range p.Sessions(ctx) {
		if err != nil {
			failed = append(failed, err)
		} else if err := p.Close(ctx); err != nil {
			t.Error(err)
		}
	}
	if len(failed) != 1 || !errors.Is(failed[0], redis.ErrClosed) {
		t.Error(failed)
	}
	for id, err := range p.Sessions(ctx) {
		if id != "" || !errors.Is(err, redis.ErrClosed) {
			t.Error(id, err)
		}
	}
	for id, err := range new(redis.Provider).Sessions(ctx) {
		if id != "" || err == nil {
			t.Error(id, err)
		}
	}
}

func TestAListingThatIsCancelledDoesNotWaitForTheServer(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	p := open(t, fmt.Sprintf(`{"save_path":%q,"read_timeout":"20s"}`, s.Addr()), life)
	filled(t, s, 0, 1000)
	cancelled, cancel := context.WithCancel(ctx)
	defer cancel()
	var ended time.Time
	var failed []error
	for _, err := range p.Sessions(cancelled) {
		if err != nil {
			failed = append(failed, err)
		} else if ended.IsZero() {
			s.Pause()
			ended = time.Now()
			time.AfterFunc(20*time.Millisecond, cancel)
		}
	}
	if took := time.Since(ended); len(failed) != 1 || !errors.Is(failed[0], context.Canceled) || took > 10*time.Second {
		t.Errorf("%v after %v", failed, took)
	}
	s.Resume()
	for _, err := range p.Sessions(cancelled) {
		if !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
}

func TestAProxyThatKnowsNoScanSaysSo(t *testing.T) {
	t.Parallel()
	addr := redistest.Twemproxy(t, "{}", redistest.Start(t), redistest.Start(t))
	p := open(t, addr, life)
	var told []redis.Failure
	p.OnError(func(_ context.Context, f redis.Failure) { told = append(told, f) })
	for id, err := range p.Sessions(ctx) {
		if id != "" || err == nil || !strings.Contains(err.Error(), "cannot be listed without SCAN") {
			t.Error(id, err)
		}
	}
	if n := p.SessionAll(ctx); n != 0 || len(told) != 1 || told[0].Operation != "count" {
		t.Errorf("SessionAll = %d, %v", n, told)
	}
}
