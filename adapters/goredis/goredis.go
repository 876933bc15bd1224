// Package goredis keeps beego's sessions through a client of go-redis v9 that the application has.
//
//	provider, err := goredis.NewProvider(client)
//	if err != nil {
//		log.Fatal(err)
//	}
//	session.Register("mine", provider)
//
//	SessionProvider = mine
//
// A session command is never repeated by the client, whatever its MaxRetries: the provider does that, and knows whether it may.
// That takes go-redis v9.19.0. The time limit of an operation is that of the provider's configuration (read_timeout,
// write_timeout and dial_timeout are the client's own). Set ContextTimeoutEnabled in the client's options: without it a call that
// the provider does not wait for any more holds its connection until the client's ReadTimeout.
package goredis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"

	sessions "github.com/beego-session/redis"
	"github.com/redis/go-redis/v9"
)

// NewProvider returns a provider on a client of one server, of the master that Sentinels name, or of a cluster, which stays the
// application's to close. Its configuration is that of sessions.NewProvider. It is an error where the client shards by itself, or
// reads from replicas, which may not have what was just saved.
func NewProvider(c redis.UniversalClient) (*sessions.Provider, error) {
	switch c := c.(type) { // by their methods, which what an application has around one has as well
	case nil:
		return nil, errors.New("session/redis: the client is nil")
	case interface{ Options() *redis.RingOptions }:
		return nil, errors.New("session/redis: a Ring spreads keys by itself: use a ClusterClient, or a client of one server")
	case nodes:
		if o := c.Options(); o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return nil, errors.New("session/redis: the client reads from replicas, which may not have what was just saved: give it " +
				"neither ReadOnly nor RouteByLatency nor RouteRandomly")
		}
		return sessions.NewProviderOn(cluster{client{c}, c}), nil
	}
	return sessions.NewProviderOn(client{c}), nil
}

// nodes is a ClusterClient.
type nodes interface {
	redis.UniversalClient
	Options() *redis.ClusterOptions
	ForEachMaster(ctx context.Context, f func(ctx context.Context, node *redis.Client) error) error
	ReloadState(ctx context.Context)
}

type client struct{ redis.UniversalClient }

// once is a command that the client does not repeat, as it may have been executed.
type once struct{ *redis.Cmd }

func (once) NoRetry() bool { return true }

// Pipeline is that of sessions.Client.
func (c client) Pipeline(ctx context.Context, commands []sessions.Command) []sessions.Reply {
	pipe := c.UniversalClient.Pipeline()
	cmds := make([]*redis.Cmd, len(commands))
	for i, command := range commands {
		args := make([]any, len(command.Args))
		for j, arg := range command.Args {
			args[j] = arg
		}
		cmds[i] = redis.NewCmd(ctx, args...)
		cmds[i].SetFirstKeyPos(int8(command.Key))
		_ = pipe.Process(ctx, once{cmds[i]}) // puts it into the pipeline
	}
	_, failed := pipe.Exec(ctx)
	replies := make([]sessions.Reply, len(cmds))
	for i, cmd := range cmds {
		value, err := cmd.Result()
		if value == nil && err == nil { // a hook has kept it from being sent: a null is an error here
			err = cmp.Or(failed, errors.New("the command was not sent"))
		}
		replies[i] = sessions.Reply{Value: value, Err: known(err)}
	}
	return replies
}

// cluster is a client of a cluster.
type cluster struct {
	client
	nodes nodes
}

// Pipeline is that of sessions.Client. Where a connection fails the client looks for a new master, which it does by itself after
// single commands alone.
func (c cluster) Pipeline(ctx context.Context, commands []sessions.Command) []sessions.Reply {
	replies := c.client.Pipeline(ctx, commands)
	for _, reply := range replies {
		var own redis.Error
		if reply.Err != nil && !errors.As(reply.Err, &own) {
			c.nodes.ReloadState(ctx) // in the background
			break
		}
	}
	return replies
}

// Masters is that of sessions.ClusterClient.
func (c cluster) Masters(ctx context.Context) (map[string]sessions.Client, error) {
	var mu sync.Mutex // protects all
	all := map[string]sessions.Client{}
	err := c.nodes.ForEachMaster(ctx, func(_ context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		all[node.Options().Addr] = client{node}
		return nil
	})
	return all, known(err)
}

// known is an error as the provider knows it.
func known(err error) error {
	if errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("%w: %w", sessions.ErrClosed, err)
	}
	return err
}
