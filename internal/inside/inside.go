// Package inside lets the commands of this module see what a Provider keeps to itself, so that it need not be exported.
package inside

import (
	"context"
	"time"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/record"
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

	// Masters returns the servers that have keys, by their addresses, and with an error those that were found.
	Masters func() ([]Master, error)

	// Spread returns a key of no session for each of them that can have sessions, by its address.
	Spread func() map[string]string

	// Beside returns a key of no session that the server of another key has too.
	Beside func(key string) string

	// SessionID returns which session a key is of, and whether it is of one.
	SessionID func(key string) (sid string, ok bool)

	// Look returns some sessions, one at least, as they are stored, in one round trip. Their life time is not renewed by that.
	Look func(ctx context.Context, sids []string) ([]Stored, error)
}

// Stored is a session as it is stored, but for its encryption.
type Stored struct {
	Value   record.Value // decrypted, unless Sealed
	Bytes   int          // as they are stored
	Sealed  error        // why the value could not be decrypted
	Present bool
	Expires time.Time // zero where it does not expire
}

// Master is a server that has keys.
type Master struct {
	Addr string
	Node
}

// Node is a client of one server.
type Node interface {
	redis.Cmdable
	ProcessContext(ctx context.Context, cmd redis.Cmder) error
}

// Of returns the inside of a *redis.Provider on which SessionInit has succeeded. The package redis sets it.
var Of func(provider any) (Inside, error)
