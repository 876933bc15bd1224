package redistest

import (
	"fmt"
	"net"
	"testing"
)

// Port returns a port of 127.0.0.1 on which nobody listens. Until the test ends no server or proxy of this package is started on it, by
// any process, and nobody is given it who asks the system for a free one.
func Port(tb testing.TB) int {
	tb.Helper()
	for range 20 {
		port := leasePort(tb)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	tb.Fatal("redistest: no port that nobody listens on")
	return 0
}
