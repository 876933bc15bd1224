//go:build unix

// This file owns the look into a socket, where the system has one.

package client

import "syscall"

// openAndEmpty tells whether the other side has neither closed the connection nor sent anything. It neither waits nor
// takes anything away: Go's sockets do not block.
func openAndEmpty(fd uintptr) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
	return err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
}
