// Keys are shared between maps, and are still those of their own map.

package gobmap_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/beego-session/redis/internal/gobmap"
)

func TestKeysAreThoseOfTheirOwnMapHoweverManyThereAre(t *testing.T) {
	for i := range 20_000 { // many more than are shared
		key, long := fmt.Sprint("key", i), strings.Repeat(fmt.Sprint(i), 20)
		data, err := gobmap.Encode(map[any]any{"visits": i, key: i, long: i, i: key, nil: i})
		if err != nil {
			t.Fatal(err)
		}
		m, err := gobmap.Decode(string(data))
		if err != nil {
			t.Fatal(err)
		}
		if len(m) != 5 || m["visits"] != i || m[key] != i || m[long] != i || m[i] != key || m[nil] != i {
			t.Fatalf("decoded %v", m)
		}
	}
}
