// The price of the safe save: the script that compares before it writes, against a plain SETEX; and what a large session
// costs the others of its server.

package bench

import (
	"context"
	"crypto/sha1"
	_ "embed"
	"encoding/hex"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/beego-session/redis/internal/record"
	goredisv7 "github.com/go-redis/redis/v7"
)

// saveRow is a size of session that is saved, by so many goroutines, or so many at a time in one pipeline.
type saveRow struct {
	name           string
	bytes          int
	request        *payload // of whole requests that save about as much, if they are measured
	workers, batch int
}

var saveRows = slices.Concat(
	saveLoads("0.2 KB", 200, payloads[0]),
	saveLoads("1 KB", 1<<10, payloads[1]),
	saveLoads("5 KB", 5<<10, payloads[2]),
	saveLoads("16 KB", 16<<10, nil),
	saveLoads("64 KB", 64<<10, nil),
	[]saveRow{{"5 MB", 5 << 20, nil, 1, 1}},
)

// pipelined is how many saves are sent in one pipeline.
const pipelined = 32

func saveLoads(name string, bytes int, request *payload) []saveRow {
	return []saveRow{{name, bytes, request, 1, 1}, {name, bytes, request, 16, 1}, {name, bytes, request, 1, pipelined}}
}

func (r saveRow) load() string {
	if r.batch > 1 {
		return fmt.Sprintf("%d in one pipeline", r.batch)
	}
	return row{workers: r.workers}.load()
}

// requests is how many whole requests are under way that are compared with the saves: with this provider as many that
// its pipelines become about as large.
func (r saveRow) requests() int {
	if r.batch > 1 {
		return 128
	}
	return r.workers
}

func (r saveRow) String() string { return "saving " + r.name + ", " + r.load() }

// A saver writes a session in one way.
type saver struct {
	name string
	// commands that save; the reply to the last one tells whether they did. old is what was written before.
	commands func(id string, old, value record.Value) []goredisv7.Cmder
	counted  []string // the commands whose time the server counts: not those that a script calls
	from     int      // bytes of a session, below which it is not measured
}

// oldBytes is the comparison that save.lua does without versions: of all that is stored with all that was read.
const oldBytes = `
local stored = redis.call('GET', KEYS[1])
if not stored then
  return 0
elseif stored ~= ARGV[1] and stored ~= ARGV[3] then
  return stored
end
redis.call('SETEX', KEYS[1], ARGV[2], ARGV[1])
return 1`

func digest(source string) string {
	sum := sha1.Sum([]byte(source))
	return hex.EncodeToString(sum[:])
}

// beforeLua is the script as it was before saves were SET ... IFEQ where the server has it.
//
//go:embed before.lua
var beforeLua string

// largeValue is from how many bytes on the provider sends a value under a temporary key, for the script to rename.
const largeValue = 4 << 10

// renamedFrom is from how many bytes on that is measured.
const renamedFrom = 1 << 10

const (
	setex          = "SETEX"
	setIfEq        = "SET … IFEQ"
	script         = "save.lua"
	scriptRenames  = "save.lua, renaming"
	before         = "before"
	beforeRenames  = "before, renaming"
	comparingBytes = "comparing the old bytes"
)

var saverNames = []string{setex, setIfEq, script, scriptRenames, before, beforeRenames, comparingBytes}

func savers(t *testing.T, s server) []saver {
	t.Helper()
	saveLua, err := os.ReadFile("../save.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{string(saveLua), beforeLua, oldBytes} {
		if err := s.Client().ScriptLoad(source).Err(); err != nil {
			t.Fatal(err)
		}
	}
	one := func(args ...any) []goredisv7.Cmder { return []goredisv7.Cmder{goredisv7.NewCmd(args...)} }
	// arguments are those of save.lua behind the value.
	arguments := func(name string, old record.Value) []any {
		if name == before || name == beforeRenames {
			return []any{life, string(old.Version()), -9}
		}
		return []any{string(old.Version()), -9, "ex", life}
	}
	byVersion := func(name, source string) saver {
		return saver{name, func(id string, old, value record.Value) []goredisv7.Cmder {
			return one(append([]any{"evalsha", digest(source), 1, id, string(value)}, arguments(name, old)...)...)
		}, []string{"evalsha"}, 0}
	}
	renaming := func(name, source string) saver {
		return saver{name, func(id string, old, value record.Value) []goredisv7.Cmder {
			args := append([]any{"evalsha", digest(source), 2, id, "save:" + id, ""}, arguments(name, old)...)
			return []goredisv7.Cmder{goredisv7.NewCmd("setex", "save:"+id, 5, string(value)), goredisv7.NewCmd(args...)}
		}, []string{"setex", "evalsha"}, renamedFrom}
	}
	ways := []saver{
		{setex, func(id string, _, value record.Value) []goredisv7.Cmder {
			return one("setex", id, life, string(value))
		}, []string{"setex"}, 0},
		{setIfEq, func(id string, old, value record.Value) []goredisv7.Cmder {
			return one("set", id, string(value), "ifeq", string(old), "ex", life)
		}, []string{"set"}, 0},
		byVersion(script, string(saveLua)),
		renaming(scriptRenames, string(saveLua)),
		byVersion(before, beforeLua),
		renaming(beforeRenames, beforeLua),
		{comparingBytes, func(id string, old, value record.Value) []goredisv7.Cmder {
			return one("evalsha", digest(oldBytes), 1, id, string(value), life, string(old))
		}, []string{"evalsha"}, 0},
	}
	return slices.DeleteFunc(ways, func(w saver) bool { return w.name == setIfEq && !s.ifeq })
}

// saving returns what saves once, or as often as there are ids, in one pipeline.
func (w saver) saving(ctx context.Context, c *goredisv7.Client, ids []string, values [2]record.Value) func() error {
	n := 0
	return func() error {
		n++
		var all, last []goredisv7.Cmder
		for _, id := range ids {
			all = append(all, w.commands(id, values[(n-1)%2], values[n%2])...)
			last = append(last, all[len(all)-1])
		}
		if len(all) == 1 {
			_ = c.ProcessContext(ctx, all[0])
		} else {
			pipe := c.Pipeline()
			for _, cmd := range all {
				_ = pipe.Process(cmd)
			}
			_, _ = pipe.ExecContext(ctx)
		}
		for _, cmd := range last {
			cmd := cmd.(*goredisv7.Cmd)
			if err := cmd.Err(); err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			if cmd.Val() != int64(1) && cmd.Val() != "OK" {
				return fmt.Errorf("%s did not save: %.100v", w.name, cmd.Val())
			}
		}
		return nil
	}
}

// saveResult is what was measured of a row: of each saver, and of whole writing requests of this provider.
type saveResult struct {
	saveRow
	taken   map[string]series  // by the saver's name; a rate is that of saves, also in pipelines
	server  map[string]float64 // µs of the server for one save, the median of the rounds
	request series
}

// price is what the safe save adds to a SETEX, as a part of a whole request, by the command that the provider sends: of the times as
// they are shown.
func (r saveResult) price() float64 {
	safe, ok := r.taken[setIfEq]
	switch {
	case ok:
	case r.bytes < largeValue:
		safe = r.taken[script]
	default:
		safe = r.taken[scriptRenames]
	}
	return (shown(safe.each()) - shown(r.taken[setex].each())) / shown(r.request.each())
}

// percent writes a price, which is the difference of two figures that differ by as much from round to round, to the nearest 5 %.
func percent(price float64) string {
	if price < .025 {
		return "none"
	}
	return fmt.Sprintf("%.0f %%", 5*math.Round(20*price))
}

// serverTime is how many µs the server has spent so far on some commands.
func (s server) serverTime(t *testing.T, commands []string) (usec float64) {
	t.Helper()
	stats, err := s.Client().Info("commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range commands {
		n, _ := strconv.ParseFloat(submatch(`cmdstat_`+command+`:calls=\d+,usec=(\d+)`, stats), 64) // 0 before the first
		usec += n
	}
	return usec
}

func compareSaves(t *testing.T, s server, sessions int) (results []saveResult) {
	t.Helper()
	bare := goredisv7.NewClient(&goredisv7.Options{Addr: s.Addr(), PoolSize: poolSize})
	defer bare.Close()
	provider, err := openBeego("this", "%s")(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range saveRows {
		if !wanted(t, r.String()) {
			continue
		}
		var versions [2]record.Value
		for i := range versions {
			value, err := record.Encode(map[any]any{"n": strconv.Itoa(i) + strings.Repeat("x", r.bytes)}, "", record.Meta{}, record.NewVersion())
			if err != nil {
				t.Fatal(err)
			}
			versions[i] = value
		}
		ways := slices.DeleteFunc(savers(t, s), func(w saver) bool { return r.bytes < w.from })
		var populated population
		candidates := len(ways)
		if r.request != nil {
			candidates++
			if populated, err = populate(provider, r.request, sessions); err != nil {
				t.Fatal(err)
			}
		}
		server := make([][]float64, len(ways))
		taken, err := interleaved(candidates, *rounds, func(c int) (sample, error) {
			if c == len(ways) {
				return measure(r.requests(), *cell, func(ctx context.Context, worker int) func() error {
					return populated.worker(ctx, provider, r.request, worker, r.requests(), true)
				})
			}
			began := s.serverTime(t, ways[c].counted)
			taken, err := measure(r.workers, *cell, func(ctx context.Context, _ int) func() error {
				ids := make([]string, r.batch)
				for i := range ids {
					ids[i] = newID()
					put := goredisv7.NewStatusCmd("psetex", ids[i], life*1000, string(versions[0])) // no saver sends that
					if err := bare.ProcessContext(ctx, put); err != nil {
						t.Fatal(err)
					}
				}
				return ways[c].saving(ctx, bare, ids, versions)
			})
			spent := s.serverTime(t, ways[c].counted) - began
			server[c] = append(server[c], spent/float64(max(taken.operations, 1)*r.batch))
			taken.rate *= float64(r.batch)
			return taken, err
		})
		if err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		result := saveResult{saveRow: r, taken: map[string]series{}, server: map[string]float64{}}
		for i, way := range ways {
			result.taken[way.name] = taken[i]
			result.server[way.name] = median(server[i])
		}
		if r.request != nil {
			result.request = taken[len(ways)]
		}
		results = append(results, result)
		s.flush(t)
	}
	return results
}

// besideResult is how long 64 users with small sessions take for a writing request, beside what else goes on.
type besideResult struct {
	beside []string
	taken  []series
}

const besideRow = "beside a session of 5 MB"

// compareBeside measures small writing requests beside one user whose session has 5 MB.
func compareBeside(t *testing.T, s server, sessions int) (result besideResult) {
	t.Helper()
	if !wanted(t, besideRow) {
		return result
	}
	provider, err := openBeego("this", "%s")(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	bare := goredisv7.NewClient(&goredisv7.Options{Addr: s.Addr(), PoolSize: poolSize})
	defer bare.Close()
	if err := s.Client().ScriptLoad(oldBytes).Err(); err != nil {
		t.Fatal(err)
	}
	small := payloads[0]
	large := &payload{"5 MB", map[string]any{"blob": strings.Repeat("x", 5<<20)}, "visits", number}
	largeID, err := provider.create(large)
	if err != nil {
		t.Fatal(err)
	}
	plainID := newID()
	old := strings.Repeat("x", 5<<20)
	bare.Set(plainID, old, life*time.Second)
	visits := 0
	neighbours := []struct {
		name string
		do   func() error
	}{
		{"nobody", nil},
		{"one who changes a session of 5 MB through this provider", func() error {
			err := provider.visit(ctx, largeID, large, visits, true)
			visits++
			return err
		}},
		{"one whose 5 MB are compared with the old bytes", func() error {
			if err := bare.ProcessContext(ctx, goredisv7.NewStringCmd("get", plainID)); err != nil {
				return err
			}
			return bare.ProcessContext(ctx, goredisv7.NewCmd("evalsha", digest(oldBytes), 1, plainID, old, life, old))
		}},
		{"one who reads 5 MB by GET and writes them by SETEX", func() error {
			if err := bare.ProcessContext(ctx, goredisv7.NewStringCmd("get", plainID)); err != nil {
				return err
			}
			return bare.ProcessContext(ctx, goredisv7.NewStatusCmd("setex", plainID, life, old))
		}},
	}
	populated, err := populate(provider, small, sessions)
	if err != nil {
		t.Fatal(err)
	}
	result.taken, err = interleaved(len(neighbours), *rounds, func(c int) (sample, error) {
		stop, failed := make(chan struct{}), make(chan error, 1)
		go func() {
			for neighbours[c].do != nil {
				select {
				case <-stop:
					failed <- nil
					return
				default:
				}
				if err := neighbours[c].do(); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
		taken, err := measure(64, *cell, func(ctx context.Context, worker int) func() error {
			return populated.worker(ctx, provider, small, worker, 64, true)
		})
		close(stop)
		if failure := <-failed; err == nil {
			err = failure
		}
		return taken, err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range neighbours {
		result.beside = append(result.beside, n.name)
	}
	s.flush(t)
	return result
}
