// Package inside lets the commands of this module see what a Provider keeps to itself, so that it need not be exported.
package inside

import (
	"context"
	"time"

	"github.com/beego-session/redis/internal/client"
	"github.com/go-redis/redis/v7"
)

// Inside is what a Provider has set up.
type Inside struct {
	Client  redis.UniversalClient
	Options client.Options // as they were configured; zero where the application brought the client
	Addr    string         // of the servers, for messages
	Prefix  string         // with which all keys begin
	Life    time.Duration  // of a session; 0 is for ever
	UserKey string         // the key of a session that holds whose it is; empty: sessions are not listed by user

	// Masters calls f for each server that has keys, with its address; in a cluster at the same time.
	Masters func(f func(addr string, node Node) error) error
}

// Node is a client of one server.
type Node interface {
	redis.Cmdable
	ProcessContext(ctx context.Context, cmd redis.Cmder) error
}

// Of returns the inside of a *redis.Provider on which SessionInit has succeeded. The package redis sets it.
var Of func(provider any) (Inside, error)
