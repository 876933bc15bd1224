// What the tests share: types to save, a generator of sessions, beego's codec
// with its panics caught, and a comparison that knows NaN.

package gobmap_test

import (
	"encoding/gob"
	"fmt"
	"math"
	"math/big"
	"net/netip"
	"os"
	"os/exec"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/beego/beego/v2/server/web/session"
)

type (
	user struct {
		ID     int64
		Name   string
		Roles  []string
		Joined time.Time
		Scores map[string]int
		Pair   [2]int8
	}
	account struct { // registered as a pointer
		Owner   *user
		Balance big.Float
		Ratio   complex64
	}
	node struct { // recursive
		Value int
		Next  *node
		Kids  []node
	}
	profile struct { // with interfaces within
		Name  string
		Extra any
		Bag   map[string]any
	}
	tree   []tree // recursive without a struct
	role   string
	blob   []byte
	values map[string]any
	point  struct{ X, Y int } // a key
	sealed struct{ text string }
	pinned struct{ text string }
	hollow struct{ _ int }
	notSet struct{ A int } // never registered
	owner  struct{ Pin pinned }
	hooked struct{ F func() }
)

func (s sealed) GobEncode() ([]byte, error) {
	switch s.text {
	case "error":
		return nil, fmt.Errorf("sealed: no")
	case "panic":
		panic("sealed: panic")
	}
	return []byte(s.text), nil
}

func (s *sealed) GobDecode(b []byte) error {
	switch s.text = string(b); s.text {
	case "bad":
		return fmt.Errorf("sealed: bad")
	case "worse":
		panic("sealed: worse")
	}
	return nil
}

func (p *pinned) GobEncode() ([]byte, error) { return []byte(p.text), nil }

func (p *pinned) GobDecode(b []byte) error {
	p.text = string(b)
	return nil
}

// registered are values of the types that the tests register with gob.
var registered = slices.Concat(structs, versions, []any{
	user{}, &account{}, node{}, tree{}, profile{}, role(""), blob{}, values{}, point{}, sealed{}, &pinned{},
	[]user{}, map[string][]float64{}, [3]int16{}, [2]any{}, netip.Addr{}, time.Time{}, time.Duration(0),
	[][]string{}, map[point]bool{}, big.NewInt(0), struct{}{},
})

// A process that a test starts to do a part of it, see startChild.
const childVariable = "GOBMAP_TEST_CHILD"

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		children[name]()
		return
	}
	for _, v := range registered {
		gob.Register(v)
	}
	os.Exit(m.Run())
}

// startChild runs children[name] in a process of its own and returns what it prints.
func startChild(t *testing.T, name string) string {
	t.Helper()
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), childVariable+"="+name)
	c.Stderr = os.Stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("child %s: %v, having printed %s", name, err, out)
	}
	return string(out)
}

// encodeGob is session.EncodeGob with nil values and without panics.
func encodeGob(m map[any]any) (data []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	for _, v := range m {
		if v == nil {
			var b strings.Builder
			for _, v := range m {
				if v != nil {
					gob.Register(v)
				}
			}
			err := gob.NewEncoder(&b).Encode(m)
			return []byte(b.String()), err
		}
	}
	return session.EncodeGob(m)
}

// decodeGob is session.DecodeGob without panics.
func decodeGob(data []byte) (m map[any]any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return session.DecodeGob(data)
}

// dump prints a value so that equal values print alike: maps sorted, NaN equal to
// itself, nil apart from empty, pointers by what they point to.
func dump(v any) string {
	var b strings.Builder
	dumpTo(&b, reflect.ValueOf(v))
	return b.String()
}

func dumpTo(b *strings.Builder, v reflect.Value) {
	if !v.IsValid() {
		b.WriteString("nil")
		return
	}
	fmt.Fprintf(b, "%s(", v.Type())
	defer b.WriteByte(')')
	if v.CanInterface() {
		switch x := v.Interface().(type) {
		case time.Time:
			_, offset := x.Zone()
			fmt.Fprint(b, x.UnixNano(), offset, x.Location() == time.UTC, x.Location() == time.Local)
			return
		case *big.Int:
			b.WriteString(x.String())
			return
		case big.Float:
			b.WriteString(x.Text('p', 0))
			return
		case netip.Addr:
			b.WriteString(x.String())
			return
		}
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			b.WriteString("nil")
			return
		}
		dumpTo(b, v.Elem())
	case reflect.Map:
		if v.IsNil() {
			b.WriteString("nil")
			return
		}
		var entries []string
		for it := v.MapRange(); it.Next(); {
			var e strings.Builder
			dumpTo(&e, it.Key())
			e.WriteByte(':')
			dumpTo(&e, it.Value())
			entries = append(entries, e.String())
		}
		slices.Sort(entries)
		b.WriteString(strings.Join(entries, ","))
	case reflect.Slice:
		if v.IsNil() {
			b.WriteString("nil")
			return
		}
		if v.Type().Elem().Kind() == reflect.Uint8 {
			fmt.Fprintf(b, "%q", v.Bytes())
			return
		}
		fallthrough
	case reflect.Array:
		for i := range v.Len() {
			dumpTo(b, v.Index(i))
			b.WriteByte(',')
		}
	case reflect.Struct:
		for i := range v.NumField() {
			dumpTo(b, v.Field(i))
			b.WriteByte(',')
		}
	case reflect.Float32, reflect.Float64:
		dumpFloat(b, v.Float())
	case reflect.Complex64, reflect.Complex128:
		dumpFloat(b, real(v.Complex()))
		dumpFloat(b, imag(v.Complex()))
	case reflect.String:
		fmt.Fprintf(b, "%q", v.String())
	case reflect.Bool:
		fmt.Fprint(b, v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		fmt.Fprint(b, v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		fmt.Fprint(b, v.Uint())
	default:
		b.WriteString("?")
	}
}

func dumpFloat(b *strings.Builder, x float64) {
	if math.IsNaN(x) {
		b.WriteString("NaN;")
		return
	}
	fmt.Fprintf(b, "%x;", math.Float64bits(x))
}

// source makes values out of bytes; when they run out, zero ones.
type source struct{ data []byte }

func (s *source) byte() byte {
	if len(s.data) == 0 {
		return 0
	}
	c := s.data[0]
	s.data = s.data[1:]
	return c
}

func (s *source) uint() (x uint64) {
	for range s.byte() % 9 {
		x = x<<8 | uint64(s.byte())
	}
	return x
}

func (s *source) text() string {
	n := int(s.byte())
	switch {
	case n == 255:
		return strings.Repeat("long", 70<<10/4)
	case n > 200:
		return strings.Repeat(string(rune(n)), n)
	}
	n = min(n%32, len(s.data))
	t := string(s.data[:n])
	s.data = s.data[n:]
	return t
}

func (s *source) float() float64 {
	switch s.byte() % 8 {
	case 0:
		return math.NaN()
	case 1:
		return math.Inf(1)
	case 2:
		return math.Inf(-1)
	case 3:
		return math.Copysign(0, -1)
	case 4:
		return float64(int8(s.byte()))
	}
	return math.Float64frombits(s.uint())
}

func (s *source) time() time.Time {
	t := time.Unix(int64(s.uint())%1e11, int64(s.byte()))
	switch s.byte() % 4 {
	case 0:
		return t
	case 1:
		return t.UTC()
	case 2:
		return time.Time{}
	}
	return t.In(time.FixedZone("", int(int16(s.uint()))))
}

// key makes a value that can be hashed.
func (s *source) key() any {
	switch s.byte() % 26 {
	case 0, 1, 2, 3:
		return s.text()
	case 4:
		return s.byte()%2 == 0
	case 5:
		return int(s.uint())
	case 6:
		return int8(s.uint())
	case 7:
		return int16(s.uint())
	case 8:
		return int32(s.uint())
	case 9:
		return -int64(s.uint())
	case 10:
		return uint(s.uint())
	case 11:
		return uint8(s.uint())
	case 12:
		return uint16(s.uint())
	case 13:
		return uint32(s.uint())
	case 14:
		return s.uint()
	case 15:
		return uintptr(s.uint())
	case 16:
		return float32(s.float())
	case 17:
		return s.float()
	case 18:
		return complex64(complex(s.float(), s.float()))
	case 19:
		return complex(s.float(), s.float())
	case 20:
		return s.time()
	case 21:
		return time.Duration(s.uint())
	case 22:
		return role(s.text())
	case 23:
		return point{int(s.uint()), int(s.byte())}
	case 24:
		return [3]int16{1, int16(s.byte())}
	}
	return netip.AddrFrom4([4]byte{10, 0, 0, s.byte()})
}

func (s *source) count() int { return int(s.byte() % 5) }

func list[T any](s *source, elem func() T) []T {
	var l []T
	for range s.count() {
		l = append(l, elem())
	}
	return l
}

func dict[K comparable, V any](s *source, key func() K, elem func() V) map[K]V {
	m := make(map[K]V)
	for range s.count() {
		m[key()] = elem()
	}
	return m
}

func (s *source) user() user {
	return user{
		ID: int64(s.uint()), Name: s.text(), Roles: list(s, s.text), Joined: s.time(),
		Scores: dict(s, s.text, s.int), Pair: [2]int8{0, int8(s.byte())},
	}
}

func (s *source) int() int { return int(s.uint()) }

func (s *source) node(depth int) node {
	n := node{Value: s.int()}
	if depth > 0 && s.byte()%2 == 1 {
		next := s.node(depth - 1)
		n.Next = &next
		n.Kids = []node{next}
	}
	return n
}

// value makes a value of any kind, also such as cannot be saved.
func (s *source) value(depth int) any {
	if depth == 0 {
		return s.key()
	}
	inner := func() any { return s.value(depth - 1) }
	switch s.byte() % 56 {
	case 0:
		return nil
	case 1:
		return []byte(s.text())
	case 2:
		return list(s, inner)
	case 3:
		return list(s, s.text)
	case 4:
		return dict(s, s.key, inner)
	case 5:
		return dict(s, s.text, inner)
	case 6:
		return dict(s, s.int, inner)
	case 7:
		return dict(s, s.text, s.text)
	case 8:
		return dict(s, s.int, s.text)
	case 9:
		return dict(s, s.int, s.int)
	case 10:
		return dict(s, s.int, func() int64 { return int64(s.uint()) })
	case 11, 12:
		return s.user()
	case 13:
		u := s.user()
		return &account{Owner: &u, Ratio: complex64(complex(s.float(), 1)), Balance: *big.NewFloat(float64(s.int()))}
	case 14:
		return s.node(5)
	case 15:
		return profile{s.text(), inner(), dict(s, s.text, inner)}
	case 16:
		return blob(s.text())
	case 17:
		return values(dict(s, s.text, inner))
	case 18:
		return sealed{s.text()}
	case 19:
		return &pinned{s.text()}
	case 20:
		return list(s, s.user)
	case 21:
		return dict(s, s.text, func() []float64 { return list(s, s.float) })
	case 22:
		return [2]any{inner(), inner()}
	case 23:
		return big.NewInt(int64(s.uint()))
	case 24:
		return list(s, s.int)
	case 25:
		return list(s, s.float)
	case 26:
		return struct{}{}
	case 27:
		return [][]string{list(s, s.text), nil}
	case 28:
		return []any{nil, s.user(), s.user()}
	case 30, 31, 32, 33, 34, 35:
		return s.like(structs[int(s.byte())%len(structs)])
	case 36, 37:
		return s.version()
	case 29:
		switch s.byte() % 12 {
		case 0:
			return make(chan int)
		case 1:
			return func() {}
		case 2:
			return hollow{}
		case 3:
			return (*user)(nil)
		case 4:
			return []any{notSet{1}}
		case 5:
			return pinned{"a value with pointer methods"}
		case 6:
			return owner{}
		case 7:
			return []chan int{}
		case 8:
			return &user{} // user is registered as a value
		case 9:
			return sealed{"error"}
		case 10:
			return sealed{"panic"}
		case 11:
			return hooked{}
		}
	}
	return s.key()
}

func (s *source) session() map[any]any {
	m := make(map[any]any)
	for range s.byte() % 8 {
		m[s.key()] = s.value(3)
	}
	return m
}

// heapOf returns how many bytes are in use after f has run that were not before.
func heapOf(f func()) int64 {
	inUse := func() int64 {
		var s runtime.MemStats
		runtime.GC()
		runtime.GC() // the second one empties the pools
		runtime.ReadMemStats(&s)
		return int64(s.HeapAlloc)
	}
	before := inUse()
	f()
	return inUse() - before
}
