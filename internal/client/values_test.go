// This file owns the tests of what is known of a stream.

package client

import "testing"

func TestValuesAreCountedHoweverTheyAreCut(t *testing.T) {
	for stream, want := range map[string]int{
		"+OK\r\n":                                                1,
		"-ERR 1-2 no\r\n:-5\r\n:10\r\n":                          3,
		"$0\r\n\r\n$-1\r\n*0\r\n*-1\r\n":                         4,
		"$12\r\n+a\r\n$3\r\n*2\r\n\r\n":                          1,
		"*2\r\n$3\r\nget\r\n$1\r\nk\r\n*1\r\n$4\r\nping\r\n":     2,
		"*3\r\n*2\r\n:1\r\n*0\r\n$-1\r\n*1\r\n*1\r\n+x\r\n+\r\n": 2,
	} {
		for cut := range len(stream) {
			var v values
			v.pass([]byte(stream[:cut]))
			if v.whole == want || cut == 0 && v.within() {
				t.Errorf("%q: %d after %q, within %v", stream, v.whole, stream[:cut], v.within())
			}
			v.pass([]byte(stream[cut:]))
			if v.whole != want || v.within() {
				t.Errorf("%q, cut after %d: %d, within %v", stream, cut, v.whole, v.within())
			}
			if v.pass([]byte("$1\r\n")); v.whole != want || !v.within() {
				t.Errorf("%q and a part of a reply: %d, within %v", stream, v.whole, v.within())
			}
		}
	}
}
