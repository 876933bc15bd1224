// This file owns what can be known of a stream without understanding it: how many commands or replies it holds, and
// whether it ends within one. The same of TLS, whose records are read ahead.

package client

import (
	"net"
	"os"
)

// values counts the values in a stream of RESP 2: commands, or replies. That takes 50 ns for a GET with its reply.
type values struct {
	whole int   // have ended
	open  []int // the arrays under way, from outside to inside: how many elements have not yet ended
	skip  int   // how many bytes of a string are still to come

	// The line under way: its first byte, 0 if none is, the digits in it, and whether there is a minus before them.
	kind  byte
	n     int
	minus bool
}

func (v *values) reset() { *v = values{open: v.open[:0]} }

// within tells whether a value has begun that has not ended.
func (v *values) within() bool { return v.kind != 0 || v.skip > 0 || len(v.open) > 0 }

// pass takes the next bytes of the stream.
func (v *values) pass(b []byte) {
	for len(b) > 0 {
		if v.skip > 0 {
			n := min(v.skip, len(b))
			b = b[n:]
			if v.skip -= n; v.skip == 0 {
				v.end()
			}
			continue
		}
		if v.kind == 0 {
			v.kind, v.n, v.minus, b = b[0], 0, false, b[1:]
		}
		n, i := v.n, 0
		for i < len(b) && b[i] != '\n' {
			switch c := b[i]; {
			case '0' <= c && c <= '9':
				n = 10*n + int(c-'0')
			case c == '-':
				v.minus = true
			}
			i++
		}
		v.n = n
		if i == len(b) {
			return
		}
		b = b[i+1:]
		v.endLine()
	}
}

func (v *values) endLine() {
	kind := v.kind
	v.kind = 0
	switch {
	case kind == '$' && !v.minus:
		v.skip = v.n + len("\r\n")
	case kind == '*' && !v.minus && v.n > 0:
		v.open = append(v.open, v.n)
	default:
		v.end()
	}
}

// end ends a value, and the arrays whose last element it was.
func (v *values) end() {
	for i := len(v.open) - 1; i >= 0; i-- {
		if v.open[i]--; v.open[i] > 0 {
			return
		}
		v.open = v.open[:i]
	}
	v.whole++
}

// records is the connection below TLS. TLS reads ahead, and does not tell whether it has a part of a record.
type records struct {
	net.Conn
	dry    bool // nothing more is read from Conn
	header int  // how many bytes of a header have come
	length int  // of the record, as far as the header has come
	skip   int  // how many bytes of a record are still to come
}

// recordHeader is the size of a record's header. Its last two bytes are the size of the record.
const recordHeader = 5

func (r *records) Read(b []byte) (int, error) {
	if r.dry {
		return 0, os.ErrDeadlineExceeded
	}
	n, err := r.Conn.Read(b)
	for b = b[:n]; len(b) > 0; {
		if r.skip > 0 {
			k := min(r.skip, len(b))
			r.skip -= k
			b = b[k:]
			continue
		}
		r.length = (r.length<<8 | int(b[0])) & 0xffff
		if r.header++; r.header == recordHeader {
			r.header, r.skip = 0, r.length
		}
		b = b[1:]
	}
	return n, err
}

// whole tells whether what was read ends with a record.
func (r *records) whole() bool { return r.header == 0 && r.skip == 0 }
