// The price of the safe save: the script that compares before it writes, against a plain SETEX; and what a large session
// costs the others of its server.

package bench

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/beego-session/redis/internal/record"
	"github.com/beego-session/redis/internal/redistest"
	goredisv7 "github.com/go-redis/redis/v7"
)

// saveRow is a size of session that is saved, by so many goroutines.
type saveRow struct {
	name    string
	bytes   int
	request *payload // of whole requests that save about as much, if they are measured
	workers int
}

var saveRows = []saveRow{
	{"0.2 KB", 200, payloads[0], 1}, {"0.2 KB", 200, payloads[0], 16},
	{"1 KB", 1 << 10, payloads[1], 1}, {"1 KB", 1 << 10, payloads[1], 16},
	{"5 KB", 5 << 10, payloads[2], 1}, {"5 KB", 5 << 10, payloads[2], 16},
	{"16 KB", 16 << 10, nil, 1}, {"16 KB", 16 << 10, nil, 16},
	{"64 KB", 64 << 10, nil, 1}, {"64 KB", 64 << 10, nil, 16},
	{"5 MB", 5 << 20, nil, 1},
}

func (r saveRow) load() string { return row{workers: r.workers}.load() }

func (r saveRow) String() string { return "saving " + r.name + ", " + r.load() }

// A saver writes a session in one way. It is told the value that was written before.
type saver struct {
	name string
	save func(c *goredisv7.Client, id string, old, value record.Value) error
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

func savers(t *testing.T, s *redistest.Server) []saver {
	t.Helper()
	saveLua, err := os.ReadFile("../save.lua")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{string(saveLua), oldBytes} {
		if err := s.Client().ScriptLoad(source).Err(); err != nil {
			t.Fatal(err)
		}
	}
	saved := func(cmd *goredisv7.Cmd, err error) error {
		if err == nil && cmd.Val() != int64(1) {
			err = fmt.Errorf("the script did not save: %.100v", cmd.Val())
		}
		return err
	}
	byVersion, byBytes := digest(string(saveLua)), digest(oldBytes)
	return []saver{
		{"SETEX", func(c *goredisv7.Client, id string, _, value record.Value) error {
			return c.ProcessContext(ctx, goredisv7.NewStatusCmd("setex", id, life, string(value)))
		}},
		{"save.lua", func(c *goredisv7.Client, id string, old, value record.Value) error {
			cmd := goredisv7.NewCmd("evalsha", byVersion, 1, id, string(value), life, string(old.Version()), -9)
			return saved(cmd, c.ProcessContext(ctx, cmd))
		}},
		{"save.lua, renaming", func(c *goredisv7.Client, id string, old, value record.Value) error {
			cmd := goredisv7.NewCmd("evalsha", byVersion, 2, id, "save:"+id, "", life, string(old.Version()), -9)
			pipe := c.Pipeline()
			_ = pipe.Process(goredisv7.NewStatusCmd("setex", "save:"+id, 5, string(value)))
			_ = pipe.Process(cmd)
			_, err := pipe.ExecContext(ctx)
			return saved(cmd, err)
		}},
		{"comparing the old bytes", func(c *goredisv7.Client, id string, old, value record.Value) error {
			cmd := goredisv7.NewCmd("evalsha", byBytes, 1, id, string(value), life, string(old))
			return saved(cmd, c.ProcessContext(ctx, cmd))
		}},
	}
}

// saveResult is what was measured of a row: of each saver, and of whole writing requests of this provider.
type saveResult struct {
	saveRow
	savers  []string
	taken   []series
	server  []float64 // µs of the server for one save, the median of the rounds
	request series
}

// price is what save.lua adds to a SETEX, as a part of a whole request.
func (r saveResult) price() float64 {
	var prices []float64
	for i, request := range r.request {
		prices = append(prices, (1/r.taken[1][i].rate-1/r.taken[0][i].rate)*request.rate)
	}
	return median(prices)
}

// serverTime is how many µs the server has spent so far on SETEX and on scripts.
func serverTime(t *testing.T, s *redistest.Server) (setex, scripts float64) {
	t.Helper()
	stats, err := s.Client().Info("commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	usec := func(command string) float64 {
		found := regexp.MustCompile(`cmdstat_` + command + `:calls=\d+,usec=(\d+)`).FindStringSubmatch(stats)
		if found == nil {
			return 0
		}
		n, _ := strconv.ParseFloat(found[1], 64)
		return n
	}
	return usec("setex"), usec("evalsha")
}

func compareSaves(t *testing.T, s *redistest.Server, sessions int) (results []saveResult) {
	t.Helper()
	bare := goredisv7.NewClient(&goredisv7.Options{Addr: s.Addr(), PoolSize: poolSize})
	defer bare.Close()
	provider, err := openBeego("this", "%s")(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	ways := savers(t, s)
	for _, r := range saveRows {
		if !wanted(t, r) {
			continue
		}
		var versions [2]record.Value
		for i := range versions {
			value, err := record.Encode(map[any]any{"n": strconv.Itoa(i) + strings.Repeat("x", r.bytes)}, "", record.NewVersion())
			if err != nil {
				t.Fatal(err)
			}
			versions[i] = value
		}
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
				return measure(r.workers, *cell, func(worker int) func() error {
					return populated.worker(provider, r.request, worker, r.workers, true)
				})
			}
			setex, scripts := serverTime(t, s)
			taken, err := measure(r.workers, *cell, func(int) func() error {
				id, n := newID(), 0
				if err := bare.Set(id, string(versions[0]), life*1e9).Err(); err != nil {
					t.Fatal(err)
				}
				return func() error {
					n++
					return ways[c].save(bare, id, versions[(n-1)%2], versions[n%2])
				}
			})
			setexNow, scriptsNow := serverTime(t, s)
			spent := scriptsNow - scripts
			if name := ways[c].name; name == "SETEX" || name == "save.lua, renaming" { // else it is part of the script
				spent += setexNow - setex
			}
			server[c] = append(server[c], spent/float64(max(taken.operations, 1)))
			return taken, err
		})
		if err != nil {
			t.Fatalf("%v: %v", r, err)
		}
		result := saveResult{saveRow: r, taken: taken[:len(ways)]}
		for i, way := range ways {
			result.savers = append(result.savers, way.name)
			result.server = append(result.server, median(server[i]))
		}
		if r.request != nil {
			result.request = taken[len(ways)]
		}
		results = append(results, result)
		if err := s.Client().FlushDB().Err(); err != nil {
			t.Fatal(err)
		}
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
func compareBeside(t *testing.T, s *redistest.Server, sessions int) (result besideResult) {
	t.Helper()
	if matched, err := regexp.MatchString(*only, besideRow); err != nil || !matched {
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
	bare.Set(plainID, old, life*1e9)
	visits := 0
	neighbours := []struct {
		name string
		do   func() error
	}{
		{"nobody", nil},
		{"one who changes a session of 5 MB through this provider", func() error {
			err := provider.visit(largeID, large, visits, true)
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
		taken, err := measure(64, *cell, func(worker int) func() error {
			return populated.worker(provider, small, worker, 64, true)
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
	if err := s.Client().FlushDB().Err(); err != nil {
		t.Fatal(err)
	}
	return result
}
