//go:build unix

// This file owns the look into a socket, where the system has one.

package client

import "syscall"

// look neither waits nor takes anything away: Go's sockets do not block.
func look(fd uintptr) sight {
	var b [1]byte
	n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
	switch {
	case n > 0:
		return notRead
	case err == syscall.EAGAIN || err == syscall.EWOULDBLOCK:
		return openAndEmpty
	}
	return gone
}
