// Package client builds the go-redis v7 client that sessions are kept through: on a standalone server, on a unix socket,
// on the master that Redis Sentinel names, or on Redis Cluster.
//
// Its connections replace themselves: one that the server closed while it lay idle in the pool, or that has something to
// read, is opened anew before a command is written to it, so that a restarted server costs no command, and no reply reaches
// another caller (conn.go). TLS, AUTH and SELECT are part of
// opening a connection, in every mode (dial.go). Beyond that nothing is retried here, except in a cluster, where
// following a slot means asking another node (cluster.go).
//
// The clients are for commands and plain pipelines. State that a command leaves in its connection does not survive the
// replacement, so neither Pub/Sub nor Watch may be used, and TxPipeline mixes up replies where MULTI is refused.
//
// This file owns the options and the choice of the client.
package client

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/go-redis/redis/v7"
)

// Mode is the topology of a Redis installation.
type Mode int

// The modes.
const (
	Standalone Mode = iota
	Sentinel
	Cluster
)

// Secret returns a password. It is asked for every new connection, so that a changed password needs no restart.
type Secret func() (string, error)

// PasswordFile returns the contents of a file, read anew each time, without one newline at its end. An empty file is an
// error: it may be about to be rewritten.
func PasswordFile(path string) Secret {
	return func() (string, error) {
		b, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("password file: %w", err)
		}
		password, ok := strings.CutSuffix(string(b), "\r\n")
		if !ok {
			password = strings.TrimSuffix(password, "\n")
		}
		if password == "" {
			return "", fmt.Errorf("password file: %s is empty", path)
		}
		return password, nil
	}
}

// Options say where Redis is and how to talk to it. Times and sizes that are zero take go-redis's defaults.
type Options struct {
	Mode    Mode
	Network string   // "tcp" (also if empty), or "unix", which is for Standalone alone
	Addrs   []string // the server, the Sentinels, or some nodes of the cluster; at least one, host:port or a path

	Username string // empty: the default user
	Password Secret // nil: none; with a Username, AUTH is sent all the same, as for a user with nopass
	DB       int    // not in a cluster

	MasterName                         string // the master's name among the Sentinels
	SentinelUsername, SentinelPassword string

	// TLS is for servers and cluster nodes, SentinelTLS for Sentinels; nil means plain text. An empty ServerName stands for
	// the host that is dialled.
	TLS, SentinelTLS *tls.Config

	// NoPassword, if set, is called for each new connection to a server that has no password, though Password is one for
	// the default user. Such a server is used all the same; but for Sentinels, which may have none, it is not called.
	NoPassword func(addr string)

	PoolSize, MinIdleConns                      int // in a cluster, for each master
	MaxConnAge, IdleTimeout, IdleCheckFrequency time.Duration

	// DialTimeout bounds all of opening a connection: name resolution, TLS and AUTH.
	DialTimeout, ReadTimeout, WriteTimeout, PoolTimeout time.Duration
}

// New returns a client. It connects when it is used, or at once to fill MinIdleConns. It must be closed. For a cluster it is
// a *redis.ClusterClient, and the keys of commands must be strings: go-redis cannot find the slot of a []byte.
//
// Commands keep to their context's deadline, even if the context has no Done channel, with these exceptions: without one,
// waiting for a free connection takes up to PoolTimeout, and what fails in a cluster may take half a second longer; and
// as long as no node of a cluster has been reached, looking for one takes up to DialTimeout. Until that deadline replies
// may take as long as they need, if only something of them arrives every ReadTimeout.
func New(o Options) Client {
	switch o.Mode {
	case Sentinel:
		return newFailover(o)
	case Cluster:
		return newCluster(o)
	}
	d := newDialer(o)
	return &standalone{redis.NewClient(o.node(o.Addrs[0], d)), d}
}

// Client is a go-redis client that knows its servers.
type Client interface {
	redis.UniversalClient

	// Server returns the address of the server that has a key, as far as is known, and "" where one server has all.
	Server(key string) string

	// Servers returns the addresses of all of them, as far as they are known, and none where one server has all keys.
	Servers() []string

	// Renew has all connections of before opened anew when they are used next: behind their address there is another
	// server by now.
	Renew()
}

// Interrupter is a client whose calls a context can interrupt, which go-redis's cannot: that of one server. (A Sentinel is asked
// through go-redis, and the nodes of a cluster are.)
type Interrupter interface {
	Interruptible(ctx context.Context) *Interruptible
}

// standalone is a client of one server.
type standalone struct {
	*redis.Client
	dialer *dialer
}

func (*standalone) Server(string) string { return "" }
func (*standalone) Servers() []string    { return nil }
func (c *standalone) Renew()             { c.dialer.renew() }

func (c *standalone) Close() error {
	defer c.dialer.close()
	return c.Client.Close()
}

// Interruptible is that of callers.
func (c *standalone) Interruptible(ctx context.Context) *Interruptible {
	return c.dialer.Interruptible(ctx)
}

// unlimited stands for go-redis's timeouts, which would be those of a whole pipeline: conn bounds the silence and the writing,
// and finds its caller by the context's own deadline. (A cluster's client gets a write timeout from go-redis, as it has no
// such callers.) The value that stands for none in a client of one server is another one in a cluster's.
const unlimited = 24 * time.Hour

// node returns the options of a client of one server.
func (o Options) node(addr string, d *dialer) *redis.Options {
	return &redis.Options{
		Addr:   addr,
		Dialer: d.dial,

		PoolSize:           o.PoolSize,
		MinIdleConns:       o.MinIdleConns,
		MaxConnAge:         o.MaxConnAge,
		IdleTimeout:        o.IdleTimeout,
		IdleCheckFrequency: o.IdleCheckFrequency,
		ReadTimeout:        unlimited,
		WriteTimeout:       unlimited,
		PoolTimeout:        cmp.Or(o.PoolTimeout, d.replyTimeout+time.Second),
	}
}
