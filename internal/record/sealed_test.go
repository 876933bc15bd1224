package record_test

import (
	"strings"
	"testing"

	"github.com/beego-session/redis/internal/record"
)

// TestASealedValueKeepsItsEntries shows that all but the values is known of a sealed session as of any other, whatever its length.
func TestASealedValueKeepsItsEntries(t *testing.T) {
	reverse := func(s []byte) {
		for i, j := 0, len(s)-1; i < j; i, j = i+1, j-1 {
			s[i], s[j] = s[j], s[i]
		}
	}
	for size := range 400 {
		if size >= 300 {
			size *= size // around 2^16, where the length takes a byte more, and beyond
		}
		earlier, version := record.NewVersion(), record.NewVersion()
		value := encode(t, map[any]any{"a": strings.Repeat("x", size)}, encode(t, nil, "", earlier), version)
		sealed := value.Seal(4, func(dst []byte, stream record.Value) []byte {
			begin := len(dst) + 2
			dst = append(append(append(dst, "<<"...), stream...), ">>"...)
			reverse(dst[begin : len(dst)-2])
			return dst
		})
		if sealed.Version() != version || !sealed.Holds(earlier) || sealed.Created() != value.Created() || !sealed.Complete() {
			t.Fatalf("size %d: the entries are not found", size)
		}
		inside, ok := sealed.Sealed()
		if !ok || !strings.HasPrefix(inside, "<<") || !strings.HasSuffix(inside, ">>") {
			t.Fatalf("size %d: in the envelope is %.20q, %v", size, inside, ok)
		}
		if _, _, err := sealed.Decode(); err == nil {
			t.Fatalf("size %d: it is taken for a stream", size)
		}
		stream := []byte(inside[2 : len(inside)-2])
		reverse(stream)
		if sealed.Unseal(stream) != value {
			t.Fatalf("size %d: it does not come back", size)
		}
		if _, ok := value.Sealed(); ok || value.Blank() || sealed.Blank() {
			t.Fatalf("size %d: what is plain, sealed or blank is not told from each other", size)
		}
	}
}
