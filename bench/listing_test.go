// What it takes to list a million sessions: time, memory of the process, and what others of the server notice of it.

package bench

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	goredisv7 "github.com/go-redis/redis/v7"
)

var listing = flag.Bool("listing", false, "measure how a million sessions are listed, and print the figures; with -rounds, and -cell of a second or more")

// stepSizes are how many keys a server is asked to look at in one step of a SCAN; the provider's own is 250.
var stepSizes = []int{0, 100, 250, 1000, 10_000}

func TestListing(t *testing.T) {
	sessions, rounds, cell := 1_000_000, *rounds, *cell
	if !*listing {
		sessions, rounds, cell = 2000, 1, time.Millisecond
	}
	s := start(t)
	fill(t, s, sessions)
	var out strings.Builder
	fmt.Fprintf(&out, "\nOn %s.\n\n", machine([]findings{{server: s}}))
	listAll(t, s, &out, sessions, rounds)
	listBeside(t, s, &out, rounds, cell)
	ofAUser(t, s, &out, rounds)
	if *listing {
		t.Log(out.String())
	}
}

// fill stores sessions of about 300 bytes.
func fill(t *testing.T, s server, sessions int) {
	t.Helper()
	value := string(encoded(sized("0.3 KB", 300), 0))
	pipe := s.Client().Pipeline()
	for i := range sessions {
		pipe.Set(newID(), value, life*time.Second)
		if i%1000 == 999 || i == sessions-1 {
			if _, err := pipe.Exec(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// listAll measures the whole listing, and what the heap has at tenths of it.
func listAll(t *testing.T, s server, out *strings.Builder, sessions, rounds int) {
	t.Helper()
	p := new(redis.Provider)
	if err := p.SessionInit(ctx, life, s.Addr()); err != nil {
		t.Fatal(err)
	}
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapInuse) / (1 << 20)
	}
	var took []float64
	for range rounds {
		began, n := time.Now(), 0
		for _, err := range p.Sessions(ctx) {
			if err != nil {
				t.Fatal(err)
			}
			n++
		}
		took = append(took, time.Since(began).Seconds())
		if n != sessions {
			t.Errorf("%d sessions, want %d", n, sessions)
		}
	}
	fmt.Fprintf(out, "%d sessions listed in %s s. Heap in use before %s MB", sessions, rounded(median(took), 2), rounded(heap(), 2))
	n := 0
	for _, err := range p.Sessions(ctx) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == sessions/10 || n == sessions/2 || n == sessions {
			fmt.Fprintf(out, ", at %d %% %s MB", 100*n/sessions, rounded(heap(), 2))
		}
	}
	out.WriteString(".\n\n")
}

// listBeside measures GET and SETEX of others, a thousand a second each, while sessions are listed again and again.
func listBeside(t *testing.T, s server, out *strings.Builder, rounds int, cell time.Duration) {
	t.Helper()
	others := goredisv7.NewClient(&goredisv7.Options{Addr: s.Addr()})
	defer others.Close()
	lister := goredisv7.NewClient(&goredisv7.Options{Addr: s.Addr()})
	defer lister.Close()
	id, value := newID(), string(encoded(sized("0.3 KB", 300), 0))
	commands := []func(){
		func() { others.Get(id) },
		func() { others.Set(id, value, life*time.Second) },
	}

	type figures struct{ getP50, getP99, setP50, setP99, step []float64 }
	taken := make([]figures, len(stepSizes))
	for range rounds {
		for i, size := range stepSizes {
			stop, stopped, steps := make(chan struct{}), make(chan struct{}), 0
			before := s.serverTime(t, []string{"scan"})
			go func() {
				defer close(stopped)
				for cursor := uint64(0); size > 0; {
					_, cursor, _ = lister.Scan(cursor, "*", int64(size)).Result()
					steps++ // also where the others have ended before this has begun
					select {
					case <-stop:
						return
					default:
					}
				}
			}()
			latencies := make([][]time.Duration, len(commands))
			var wg sync.WaitGroup
			for c, command := range commands {
				wg.Add(1)
				go func() {
					defer wg.Done()
					latencies[c] = paced(cell, time.Millisecond, command)
				}()
			}
			wg.Wait()
			close(stop)
			<-stopped
			f := &taken[i]
			f.getP50, f.getP99 = append(f.getP50, quantile(latencies[0], 50)), append(f.getP99, quantile(latencies[0], 99))
			f.setP50, f.setP99 = append(f.setP50, quantile(latencies[1], 50)), append(f.setP99, quantile(latencies[1], 99))
			if size > 0 {
				f.step = append(f.step, (s.serverTime(t, []string{"scan"})-before)/float64(steps))
			}
		}
	}
	out.WriteString("| beside | a step takes the server | GET p50 | GET p99 | SETEX p50 | SETEX p99 |\n|---|---|---|---|---|---|\n")
	for i, size := range stepSizes {
		name, step := "nobody", ""
		if size > 0 {
			name, step = fmt.Sprintf("SCAN … COUNT %d", size), rounded(median(taken[i].step), 2)+" µs"
		}
		fmt.Fprintf(out, "| %s | %s |", name, step)
		for _, f := range [][]float64{taken[i].getP50, taken[i].getP99, taken[i].setP50, taken[i].setP99} {
			fmt.Fprintf(out, " %s ms |", rounded(median(f)/1000, 2))
		}
		out.WriteString("\n")
	}
}

// ofAUser measures what the index of users costs a save, and what it saves who looks for the sessions of one.
func ofAUser(t *testing.T, s server, out *strings.Builder, rounds int) {
	t.Helper()
	const devices = 5
	provider := func(config string) *redis.Provider {
		p := new(redis.Provider)
		if err := p.SessionInit(ctx, life, fmt.Sprintf(`{"save_path":%q%s}`, s.Addr(), config)); err != nil {
			t.Fatal(err)
		}
		return p
	}
	with := provider(`,"user_key":"uid"`)
	providers := []*redis.Provider{provider(""), with}
	var first, again [2][]float64
	var found, ended []float64
	for range 20 * rounds {
		user := newID()
		for range devices {
			for i, p := range providers {
				store, err := p.SessionRead(ctx, newID())
				if err != nil {
					t.Fatal(err)
				}
				save := func(n int) float64 {
					if err := errors.Join(store.Set(ctx, "uid", user), store.Set(ctx, "n", n)); err != nil {
						t.Fatal(err)
					}
					began := time.Now()
					store.SessionRelease(ctx, nil)
					return microseconds(time.Since(began))
				}
				first[i], again[i] = append(first[i], save(1)), append(again[i], save(2))
			}
		}
		began := time.Now()
		if sessions, err := with.SessionsOf(ctx, user); err != nil || len(sessions) != devices {
			t.Fatalf("%d sessions of a user, %v", len(sessions), err)
		}
		found, began = append(found, microseconds(time.Since(began))), time.Now()
		if n, err := with.DestroyAll(ctx, user); err != nil || n != devices {
			t.Fatalf("%d sessions destroyed, %v", n, err)
		}
		ended = append(ended, microseconds(time.Since(began)))
	}
	fmt.Fprintf(out, "\n| beside a million others | without user_key | with |\n|---|---|---|\n")
	fmt.Fprintf(out, "| the first save of a session | %s µs | %s µs |\n", rounded(median(first[0]), 2), rounded(median(first[1]), 2))
	fmt.Fprintf(out, "| the next save | %s µs | %s µs |\n", rounded(median(again[0]), 2), rounded(median(again[1]), 2))
	fmt.Fprintf(out, "| SessionsOf a user with %d | | %s µs |\n| DestroyAll of these | | %s µs |\n", devices, rounded(median(found), 2), rounded(median(ended), 2))
}

// paced runs an operation again and again, with a pause after each, and returns how long each took.
func paced(d, pause time.Duration, operation func()) (took []time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	for first := true; first || ctx.Err() == nil; first = false {
		began := time.Now()
		operation()
		took = append(took, time.Since(began))
		time.Sleep(pause)
	}
	return took
}

// quantile is in µs.
func quantile(latencies []time.Duration, percent int) float64 {
	slices.Sort(latencies)
	return microseconds(latencies[len(latencies)*percent/100])
}
