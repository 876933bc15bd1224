// Package client builds the go-redis v7 client that sessions are kept through: on a standalone server, on a unix socket,
// on the master that Redis Sentinel names, or on Redis Cluster.
//
// Its connections replace themselves: one that the server closed while it lay idle in the pool is opened anew before a
// command is written to it, so that a restarted server costs no command (conn.go). TLS, AUTH and SELECT are part of
// opening a connection, in every mode (dial.go). Beyond that nothing is retried here, except in a cluster, where
// following a slot means asking another node (cluster.go).
//
// The clients are for commands and plain pipelines. State that a command leaves in its connection does not survive the
// replacement, so neither Pub/Sub nor Watch may be used, and TxPipeline mixes up replies where MULTI is refused.
//
// This file owns the options and the choice of the client.
package client

import (
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

	// TLS is for servers, Sentinels and cluster nodes alike; nil means plain text. An empty ServerName stands for the host
	// that is dialled.
	TLS *tls.Config

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
// as long as no node of a cluster has been reached, looking for one takes up to DialTimeout.
func New(o Options) redis.UniversalClient {
	switch o.Mode {
	case Sentinel:
		return newFailover(o)
	case Cluster:
		return newCluster(o)
	}
	d := newDialer(o)
	return redis.NewClient(o.node(o.Addrs[0], d))
}

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
		ReadTimeout:        o.ReadTimeout,
		WriteTimeout:       o.WriteTimeout,
		PoolTimeout:        o.PoolTimeout,
	}
}
