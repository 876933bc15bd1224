package gobmap_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/beego/beego/v2/server/web/session"

	"github.com/beego-session/redis/internal/gobmap"
)

func benchmarkSessions() []struct {
	name string
	m    map[any]any
} {
	small := map[any]any{
		"user_id":    int64(4_711_001),
		"user_name":  "Ada Lovelace",
		"csrf_token": strings.Repeat("k7Jq", 11),
		"logged_in":  true,
		"language":   "en-GB",
	}
	large := make(map[any]any)
	for i := range 70 {
		key := fmt.Sprintf("key_number_%02d", i)
		switch i % 5 {
		case 0:
			large[key] = i * 1_000_003
		case 1:
			large[key] = i%2 == 0
		default:
			large[key] = strings.Repeat("value", 12+i%5)
		}
	}
	withStruct := map[any]any{"user": user{ID: 1, Name: "Ada", Roles: []string{"admin", "editor"}, Joined: time.Unix(1_700_000_000, 0)}}
	for k, v := range small {
		withStruct[k] = v
	}
	withMember := map[any]any{"member": member{
		ID: 4_711_001, Name: "Ada Lovelace", Email: "ada@example.org", Roles: []string{"admin", "editor"},
		Since: time.Unix(1_700_000_000, 0), Visits: 12,
	}}
	for k, v := range small {
		if k != "user_name" {
			withMember[k] = v
		}
	}
	return []struct {
		name string
		m    map[any]any
	}{{"small", small}, {"large", large}, {"struct", withStruct}, {"member", withMember}}
}

func BenchmarkEncode(b *testing.B) {
	for _, s := range benchmarkSessions() {
		b.Run(s.name+"/ours", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if _, err := gobmap.Encode(s.m); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(s.name+"/gob", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if _, err := session.EncodeGob(s.m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, s := range benchmarkSessions() {
		data, err := session.EncodeGob(s.m)
		if err != nil {
			b.Fatal(err)
		}
		stored := string(data)
		b.Run(fmt.Sprintf("%s/ours", s.name), func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for range b.N {
				if _, err := gobmap.Decode(stored); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(s.name+"/gob", func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for range b.N {
				if _, err := session.DecodeGob(data); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A stream that gobmap left to encoding/gob without need would show here.
func TestAllocations(t *testing.T) {
	for _, s := range benchmarkSessions() {
		data, err := session.EncodeGob(s.m)
		if err != nil {
			t.Fatal(err)
		}
		stored := string(data)
		part := 8.0
		if s.name == "large" {
			part = 2
		}
		ours := testing.AllocsPerRun(100, func() { gobmap.Encode(s.m) })
		gobs := testing.AllocsPerRun(100, func() { session.EncodeGob(s.m) })
		if ours > gobs/part {
			t.Errorf("%s: encoding makes %.0f allocations, gob %.0f", s.name, ours, gobs)
		}
		ours = testing.AllocsPerRun(100, func() { gobmap.Decode(stored) })
		gobs = testing.AllocsPerRun(100, func() { session.DecodeGob(data) })
		if ours > gobs/part {
			t.Errorf("%s: decoding makes %.0f allocations, gob %.0f", s.name, ours, gobs)
		}
	}
}

// BenchmarkCarry shows what a session costs that has a struct of a type which this program does not know.
func BenchmarkCarry(b *testing.B) {
	for _, s := range benchmarkSessions()[2:] {
		data, err := session.EncodeGob(s.m)
		if err != nil {
			b.Fatal(err)
		}
		stored := strings.ReplaceAll(string(data), "gobmap_test.", "gobmap_tes~.")
		m, _, err := gobmap.Carry(stored)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(s.name+"/decode", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if _, _, err := gobmap.Carry(stored); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(s.name+"/encode", func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				if _, err := gobmap.Encode(m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
