// What commands travel through: a client of go-redis v7, or one of another make.

package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/go-redis/redis/v7"
)

// Client is what a provider needs of a Redis client of any make: see [NewProviderOn]. Its methods are called at the same time.
type Client interface {
	// Pipeline sends commands in their order, in one round trip if it can, and returns a reply to each. They may be of several
	// requests: a reply that is not its command's would hand one user's session to another.
	//
	// The commands must not be sent as a transaction. Nor may one be sent again after it may have been executed: the provider does
	// that, and knows whether it may. (What a server of a cluster has not executed but answered with MOVED, ASK or TRYAGAIN is sent
	// again.) In a cluster, commands for several servers are sent to each of them, and may be executed in any order.
	//
	// ctx has the deadline of the operation; and the cancellation and the values of the request, where all commands are of one. The
	// provider waits no longer than for that, whenever Pipeline returns.
	Pipeline(ctx context.Context, commands []Command) []Reply
}

// ClusterClient is a [Client] of a cluster.
type ClusterClient interface {
	Client

	// Masters returns a client of each server that has slots, by its address. It is for what is asked of each: [Provider.Sessions],
	// [Provider.SessionAll] and [Provider.Check].
	Masters(ctx context.Context) (map[string]Client, error)
}

// Command is a command with its arguments.
type Command struct {
	Args []string // from the command's name on; not to be changed
	Key  int      // which of Args is the first key; its other keys are in the same slot. 0: it has none, and is for any server
}

// Reply is what a command is answered with.
type Reply struct {
	// Value is a string, an int64, a float64, a []any of these, or nil for a null.
	Value any

	// Err is why there is no Value. A server's own error has a method RedisError(), as those of all go-redis versions have, and its
	// text begins with the server's error code, like "NOSCRIPT " or "ERR ". With any other error nobody knows whether the command
	// was executed, and the provider may send it again, but not if it wraps [context.Canceled], or [ErrClosed], which is for a client
	// that was closed. "redis: nil", as go-redis has it, is a null.
	Err error
}

// link is what commands travel through.
type link interface {
	// send sends commands in one pipeline, by the deadline of ctx. What comes of them is in them.
	send(ctx context.Context, cmds ...command)

	// masters returns the servers that have keys. One that has all is the link itself.
	masters(ctx context.Context, addr string) ([]master, error)

	// clustered tells whether it leads to several servers that tell which keys they have.
	clustered() bool

	// waits tells whether send returns by the deadline of ctx alone, and not when ctx is cancelled.
	waits() bool
}

// master is a server that has keys.
type master struct {
	addr string
	link
}

// ask sends one command, and returns its error, which may be redis.Nil.
func ask(ctx context.Context, l link, cmd command) error {
	l.send(ctx, cmd)
	return cmd.Err()
}

// goRedis is a client of go-redis v7.
type goRedis struct {
	redis.UniversalClient
	pipes sync.Pool // of *redis.Pipeline, empty
}

func (g *goRedis) waits() bool { return true }

// unfit says why sessions cannot be kept through the client of an application, as far as it tells.
func unfit(l link) error {
	if other, ok := l.(anotherMake); ok && other.Client == nil {
		return errors.New("the application's client is nil")
	}
	g, ok := l.(*goRedis)
	if !ok {
		return nil
	}
	switch c := g.UniversalClient.(type) {
	case nil:
		return errors.New("the application's client is nil")
	case *redis.Ring:
		return errors.New("the application's client is a Ring, which spreads keys by itself: use a client of one server or a ClusterClient")
	case *redis.ClusterClient:
		if o := c.Options(); o.ReadOnly || o.RouteByLatency || o.RouteRandomly {
			return errors.New("the application's client reads from replicas, which may not have what was just saved: give it neither " +
				"ReadOnly nor RouteByLatency nor RouteRandomly")
		}
	}
	return nil
}

// explained says what to do about an error at the beginning. A ClusterClient of go-redis v7 cannot read CLUSTER SLOTS of Redis 7, whose
// nodes have a fourth element.
func explained(err error) error {
	if strings.Contains(err.Error(), "elements in cluster info address") {
		return fmt.Errorf("a ClusterClient of go-redis v7 does not work on Redis 7 and later: use the provider redis_cluster, which connects "+
			"by itself, or bring a client of go-redis v9 or rueidis (see NewProviderOn): %w", err)
	}
	return err
}

func (g *goRedis) clustered() bool { return g.cluster() != nil }

func (g *goRedis) cluster() interface {
	ForEachMaster(func(*redis.Client) error) error
} {
	cluster, _ := g.UniversalClient.(interface {
		ForEachMaster(func(*redis.Client) error) error
	})
	return cluster
}

func (g *goRedis) masters(_ context.Context, addr string) ([]master, error) {
	cluster := g.cluster()
	if cluster == nil {
		return []master{{addr, g}}, nil
	}
	var mu sync.Mutex // protects all
	var all []master
	err := cluster.ForEachMaster(func(node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		all = append(all, master{node.Options().Addr, &goRedis{UniversalClient: node}})
		return nil
	})
	return sorted(all), err
}

func sorted(all []master) []master {
	slices.SortFunc(all, func(a, b master) int { return strings.Compare(a.addr, b.addr) })
	return all
}

func (g *goRedis) send(ctx context.Context, cmds ...command) {
	if len(cmds) == 1 {
		failed(cmds, g.ProcessContext(ctx, cmds[0]))
		return
	}
	pipe, ok := g.pipes.Get().(redis.Pipeliner)
	if !ok {
		pipe = g.Pipeline()
	}
	for _, cmd := range cmds {
		_ = pipe.Process(cmd)
	}
	_, err := pipe.ExecContext(ctx)
	failed(cmds, err)
	if _, ok := pipe.(*redis.Pipeline); ok { // which is empty now; of what an application has in its place nothing is known
		g.pipes.Put(pipe)
	}
}

// failed sees to it that no command that was not sent looks as if it had succeeded.
func failed(cmds []command, err error) {
	if err == nil || slices.ContainsFunc(cmds, func(cmd command) bool { return cmd.Err() != nil }) {
		return
	}
	for _, cmd := range cmds {
		cmd.SetErr(err)
	}
}

// anotherMake is a client of another make.
type anotherMake struct{ Client }

func (f anotherMake) waits() bool { return false }

func (f anotherMake) clustered() bool {
	_, ok := f.Client.(ClusterClient)
	return ok
}

func (f anotherMake) masters(ctx context.Context, addr string) ([]master, error) {
	cluster, ok := f.Client.(ClusterClient)
	if !ok {
		return []master{{addr, f}}, nil
	}
	var clients map[string]Client
	var err error
	if left := timed(ctx, func(ctx context.Context) { clients, err = cluster.Masters(ctx) }); left != nil {
		return nil, lasting(ctx, left)
	} else if err != nil {
		return nil, lasting(ctx, err)
	} else if len(clients) == 0 {
		return nil, lost{errors.New("the application's client knows no master"), false}
	}
	var all []master
	for addr, client := range clients {
		if client == nil {
			return nil, fmt.Errorf("the application's client of the master at %s is nil", addr)
		}
		all = append(all, master{addr, anotherMake{client}})
	}
	return sorted(all), nil
}

// send does not touch the commands once it has returned, also where the client has not: what comes late is lost.
func (f anotherMake) send(ctx context.Context, cmds ...command) {
	commands := make([]Command, len(cmds))
	for i, cmd := range cmds {
		args := make([]string, len(cmd.Args()))
		for j, arg := range cmd.Args() {
			args[j] = wireText(arg)
		}
		commands[i] = Command{Args: args, Key: keyAt(cmd)}
	}
	var replies []Reply
	err := timed(ctx, func(ctx context.Context) { replies = f.Pipeline(ctx, commands) })
	if err == nil && len(replies) != len(cmds) {
		err = fmt.Errorf("the application's client has %d replies to %d commands", len(replies), len(cmds))
	}
	for i, cmd := range cmds {
		switch {
		case err != nil:
			cmd.take(nil, lasting(ctx, err))
		case replies[i].Err != nil:
			cmd.take(nil, lasting(ctx, replies[i].Err))
		case replies[i].Value == nil:
			cmd.take(nil, redis.Nil)
		default:
			cmd.take(replies[i].Value, nil)
		}
	}
}

// timed is apart, and ends by the deadline of ctx also where that has no Done channel.
func timed(ctx context.Context, f func(ctx context.Context)) error {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	return apart(ctx, f)
}

// lasting is an error of a client of another make as one of go-redis v7: that of the server, that of a caller who has left, that the
// client is closed, or that the connection failed.
func lasting(ctx context.Context, err error) error {
	var reply redis.Error
	switch {
	case err.Error() == redis.Nil.Error():
		return redis.Nil
	case errors.As(err, &reply), errors.Is(err, ErrClosed), errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return err
	case errors.Is(err, context.DeadlineExceeded):
		return lost{os.ErrDeadlineExceeded, true}
	}
	var timeout net.Error
	return lost{err, errors.As(err, &timeout) && timeout.Timeout()}
}

// lost is a net.Error.
type lost struct {
	error
	timeout bool
}

func (l lost) Unwrap() error   { return l.error }
func (l lost) Timeout() bool   { return l.timeout }
func (l lost) Temporary() bool { return true }

// wireText is an argument as it is sent.
func wireText(arg any) string {
	switch a := arg.(type) {
	case string:
		return a
	case int64:
		return strconv.FormatInt(a, 10)
	case uint64:
		return strconv.FormatUint(a, 10)
	case int:
		return strconv.Itoa(a)
	}
	panic(fmt.Sprintf("an argument of a command is a %T", arg)) // those of this package are none
}
