// The price of the safe save: the script that compares before it writes, against a plain SETEX.

package bench

import (
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/beego-session/redis/internal/redistest"
	goredisv7 "github.com/go-redis/redis/v7"
)

// saveRow is one kind of save: a row of writing requests.
type saveRow struct{ row }

func (r saveRow) String() string { return "saving " + r.title() }

// saveResult is what was measured of it.
type saveResult struct {
	saveRow
	setex, bytes, digest    series // one save: plain, comparing with the old bytes, comparing with their SHA-1
	request, withoutScripts series // whole writing requests of this provider
}

// price is what the script adds to a SETEX, as a part of a whole request.
func (r saveResult) price() float64 {
	var prices []float64
	for i, request := range r.request {
		prices = append(prices, (1/r.bytes[i].rate-1/r.setex[i].rate)*request.rate)
	}
	return median(prices)
}

// saver writes the two versions of a session in turn, and knows what it has to find.
type saver struct {
	bareAPI
	script   string // its digest; without one it is a SETEX
	expected func(old string) string
	versions [2]string
}

func (s saver) create(*payload) (string, error) {
	id := newID()
	return id, s.put(ctx, id, s.versions[0])
}

func (s saver) visit(id string, _ *payload, n int, _ bool) error {
	old, data := s.versions[n%2], s.versions[(n+1)%2]
	if s.script == "" {
		return s.put(ctx, id, data)
	}
	cmd := goredisv7.NewCmd("evalsha", s.script, 1, id, data, life, "present", s.expected(old))
	if err := s.ProcessContext(ctx, cmd); err != nil {
		return err
	}
	if cmd.Val() != int64(1) {
		return fmt.Errorf("save.lua did not save: %.100v", cmd.Val())
	}
	return nil
}

// savers are a plain SETEX, save.lua, and save.lua as it would be with a digest.
func savers(t *testing.T, s *redistest.Server) [3]saver {
	t.Helper()
	source, err := os.ReadFile("../save.lua")
	if err != nil {
		t.Fatal(err)
	}
	const found, hashed = "stored ~= ARGV[4]", "redis.sha1hex(stored) ~= ARGV[4]"
	if strings.Count(string(source), found) != 1 {
		t.Fatalf("save.lua no longer compares by %q", found)
	}
	bare, err := openFloor(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	load := func(source string) string {
		sha, err := s.Client().ScriptLoad(source).Result()
		if err != nil {
			t.Fatal(err)
		}
		return sha
	}
	return [3]saver{
		{bareAPI: bare.(bareAPI)},
		{bareAPI: bare.(bareAPI), script: load(string(source)), expected: func(old string) string { return old }},
		{bareAPI: bare.(bareAPI), script: load(strings.Replace(string(source), found, hashed, 1)), expected: func(old string) string {
			digest := sha1.Sum([]byte(old))
			return hex.EncodeToString(digest[:])
		}},
	}
}

func compareSaves(t *testing.T, s *redistest.Server, sessions int) (results []saveResult) {
	t.Helper()
	var candidates []store
	for _, saver := range savers(t, s) {
		candidates = append(candidates, &saver)
	}
	if err := s.Client().Do("acl", "setuser", "plain", "on", ">secret", "~*", "+@all", "-@scripting").Err(); err != nil {
		t.Fatal(err)
	}
	for _, config := range []string{"%s", `{"save_path":%q,"username":"plain","password":"secret"}`} {
		provider, err := openBeego("this", config)(s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		candidates = append(candidates, provider)
	}
	for _, p := range payloads[:3] {
		for _, workers := range goroutines[:2] {
			r := saveRow{row{payload: p, change: true, workers: workers}}
			if !wanted(t, r) {
				continue
			}
			var populations []population
			versions := [2]string{string(encoded(p, 0)), string(encoded(p, 1))}
			for _, c := range candidates {
				if saver, ok := c.(*saver); ok {
					saver.versions = versions
				}
				populated, err := populate(c, p, sessions)
				if err != nil {
					t.Fatal(err)
				}
				populations = append(populations, populated)
			}
			taken, err := interleaved(len(candidates), *rounds, func(c int) (sample, error) {
				return measure(workers, *cell, func(worker int) func() error {
					return populations[c].worker(candidates[c], p, worker, workers, true)
				})
			})
			if err != nil {
				t.Fatalf("%v: %v", r, err)
			}
			results = append(results, saveResult{r, taken[0], taken[1], taken[2], taken[3], taken[4]})
		}
	}
	return results
}
