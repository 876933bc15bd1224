//go:build unix

// What encryption costs.

package redis_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/internal/record"
	"github.com/beego-session/redis/internal/redistest"
)

// inTurn runs b.N rounds, in which each of some functions has its turn for so many calls, and reports the median time of one call:
// what disturbs one disturbs the others as well.
func inTurn(b *testing.B, chunk int, spent func() time.Duration, unit string, names []string, calls ...func() error) {
	took := make([][]float64, len(calls))
	for range b.N {
		for i, call := range calls {
			begun := spent()
			for range chunk {
				if err := call(); err != nil {
					b.Fatal(err)
				}
			}
			took[i] = append(took[i], float64((spent()-begun).Nanoseconds())/float64(chunk)/1000)
		}
	}
	for i, name := range names {
		slices.Sort(took[i])
		b.ReportMetric(took[i][len(took[i])/2], name+"-"+unit)
	}
}

// entries makes a session of about so many bytes.
func entries(size int) map[any]any {
	values := map[any]any{
		"user_id": int64(4711), "name": "Augusta Ada King", "email": "ada.king@example.org", "visits": 0,
	}
	for i := 0; i < (size-130)/90; i++ {
		values[fmt.Sprint("key ", i)] = strings.Repeat("x", 64)
	}
	return values
}

// BenchmarkEncryption pairs what a session costs in plain with what it costs encrypted: encoding and decoding, and whole requests
// that change a value, one at a time, by the clock and by the processor time of this process.
func BenchmarkEncryption(b *testing.B) {
	s := redistest.Start(b)
	config := fmt.Sprintf(`{"save_path":%q}`, s.Addr())
	plain, encrypted := open(b, config, life), open(b, encrypting(config, keysFile(b, newKey())), life)
	begun := time.Now()
	wall := func() time.Duration { return time.Since(begun) }
	for _, size := range []int{200, 1000, 5000, 64 << 10, 1 << 20} {
		values, id, version := entries(size), newID(), record.NewVersion()
		stored := must(record.Encode(values, "", record.Meta{}, version))
		sealed := must(redis.Sealed(encrypted, id, string(stored)))
		chunk := max(2, min(200, 2_000_000/size))
		b.Run(fmt.Sprintf("codec/%d", size), func(b *testing.B) {
			inTurn(b, chunk, wall, "µs/op", []string{"encode", "encode+seal", "decode", "open+decode"}, func() error {
				_, err := record.Encode(values, stored, record.Meta{}, version)
				return err
			}, func() error {
				value, err := record.Encode(values, stored, record.Meta{}, version)
				if err == nil {
					_, err = redis.Sealed(encrypted, id, string(value))
				}
				return err
			}, func() error {
				_, _, err := stored.Decode()
				return err
			}, func() error {
				opened, err := redis.Opened(encrypted, id, sealed)
				if err == nil {
					_, _, err = record.Value(opened).Decode()
				}
				return err
			})
		})
		request := func(p *redis.Provider, write bool) func() error {
			id := newID()
			store := must(p.SessionRead(ctx, id))
			for key, value := range values {
				if err := store.Set(ctx, key, value); err != nil {
					b.Fatal(err)
				}
			}
			store.SessionRelease(ctx, nil)
			return func() error { return oneRequest(ctx, p, id, write) }
		}
		for _, write := range []bool{false, true} {
			for unit, spent := range map[string]func() time.Duration{"µs/op": wall, "cpu-µs/op": func() time.Duration { return processorTime(b) }} {
				b.Run(fmt.Sprintf("%s/%d/%s", kindOfRequest[write], size, unit), func(b *testing.B) {
					inTurn(b, chunk, spent, unit, []string{"plain", "encrypted"}, request(plain, write), request(encrypted, write))
				})
			}
		}
	}
	b.Run("regenerate", func(b *testing.B) {
		move := func(p *redis.Provider) func() error {
			id := newID()
			store := must(p.SessionRead(ctx, id))
			set(b, store, "user", "ann")
			store.SessionRelease(ctx, nil)
			return func() error {
				next := newID()
				_, err := p.SessionRegenerate(ctx, id, next)
				id = next
				return err
			}
		}
		inTurn(b, 100, wall, "µs/op", []string{"plain", "encrypted"}, move(plain), move(encrypted))
	})
}
