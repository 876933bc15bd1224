//go:build !unix

// This file stands in for the look into a socket where there is none: a connection that the server closed is noticed
// when a command fails on it.

package client

func openAndEmpty(uintptr) bool { return true }
