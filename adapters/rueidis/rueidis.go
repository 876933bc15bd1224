// Package rueidis keeps beego's sessions through a rueidis client that the application has.
//
//	session.Register("mine", rueidis.NewProvider(client))
//
//	SessionProvider = mine
//
// The client must not send commands to replicas (ReplicaOnly, SendToReplicas), which may not have what was just saved, and
// ConnLifetime must be 0: what waits for a reply when the time of its connection is over is sent again without a word, and may have
// been executed. Else it repeats no command of a session, whatever its DisableRetry. The time limit of an operation is that of the
// provider's configuration. The rights that a user of the server needs are those in docs/configuration.md, and what rueidis needs by
// itself.
package rueidis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"

	sessions "github.com/beego-session/redis"
	"github.com/redis/rueidis"
)

// NewProvider returns a provider on a client, which stays the application's to close. Its configuration is that of
// sessions.NewProvider.
func NewProvider(c rueidis.Client) *sessions.Provider {
	if c.Mode() == rueidis.ClientModeCluster {
		return sessions.NewProviderOn(cluster{client{c, c}})
	}
	return sessions.NewProviderOn(client{c, c})
}

type client struct {
	rueidis.Client
	whole rueidis.Client // the application's, of which this may be a node
}

// Pipeline is that of sessions.Client. The client repeats nothing but what is marked as read-only, which no such command is.
func (c client) Pipeline(ctx context.Context, commands []sessions.Command) []sessions.Reply {
	built := make([]rueidis.Completed, len(commands))
	for i, command := range commands {
		args, at := command.Args, command.Key
		if at == 0 {
			built[i] = c.B().Arbitrary(args...).Build()
		} else {
			built[i] = c.B().Arbitrary(args[:at]...).Keys(args[at]).Args(args[at+1:]...).Build()
		}
	}
	results := c.DoMulti(ctx, built...)
	replies := make([]sessions.Reply, len(results))
	closed := slices.ContainsFunc(results, func(r rueidis.RedisResult) bool { return givenUp(r.NonRedisError()) }) && c.isClosed(ctx)
	for i, result := range results {
		value, err := result.ToAny()
		if rueidis.IsRedisNil(err) {
			value, err = nil, nil
		}
		replies[i] = sessions.Reply{Value: value, Err: known(err, commands[i].Args[0], closed)}
	}
	return replies
}

// cluster is a client of a cluster.
type cluster struct{ client }

// Masters is that of sessions.ClusterClient. It takes those among the client's nodes that have slots. A node that does not know its
// host tells its port alone.
func (c cluster) Masters(ctx context.Context) (map[string]sessions.Client, error) {
	ranges, err := c.Do(ctx, c.B().ClusterSlots().Build()).ToArray()
	if err != nil {
		return nil, fmt.Errorf("CLUSTER SLOTS: %w", known(err, "CLUSTER", givenUp(err) && c.isClosed(ctx)))
	}
	nodes, all := c.Nodes(), map[string]sessions.Client{}
	for _, r := range ranges {
		addr, err := master(r)
		if err != nil {
			return nil, fmt.Errorf("CLUSTER SLOTS: %w", err)
		}
		found := false
		for at, node := range nodes {
			if at == addr || strings.HasPrefix(addr, ":") && strings.HasSuffix(at, addr) {
				all[at], found = client{node, c.whole}, true
			}
		}
		if !found {
			return nil, fmt.Errorf("the client does not know the master at %s yet", addr)
		}
	}
	return all, nil
}

// master returns where the master of a range of slots is.
func master(r rueidis.RedisMessage) (addr string, err error) {
	fields, err := r.ToArray()
	if err != nil || len(fields) < 3 {
		return "", errors.Join(errors.New("a range of slots has no master"), err)
	}
	node, err := fields[2].ToArray()
	if err != nil || len(node) < 2 {
		return "", errors.Join(errors.New("a master has no address"), err)
	}
	host, err := node[0].ToString()
	if err != nil && !rueidis.IsRedisNil(err) {
		return "", err
	}
	port, err := node[1].ToInt64()
	return net.JoinHostPort(host, strconv.FormatInt(port, 10)), err
}

// reply is a server's own error.
type reply string

func (r reply) Error() string { return string(r) }
func (reply) RedisError()     {}

// code is what a server's error begins with, unless it is "ERR", which the client cuts off. Behind that there may be the command.
var code = regexp.MustCompile("^[A-Z][A-Z0-9_]+( |$)")

// known is an error as the provider knows it. closed tells whether the client is.
func known(err error, command string, closed bool) error {
	var own *rueidis.RedisError
	switch {
	case errors.As(err, &own):
		text := own.Error()
		if first := strings.TrimSpace(code.FindString(text)); first == "" || strings.EqualFold(first, command) {
			text = "ERR " + text
		}
		return reply(text)
	case closed && givenUp(err):
		return fmt.Errorf("%w: %w", sessions.ErrClosed, err)
	}
	return err
}

// givenUp tells whether the client calls itself closed, which it does also where it has given up a connection alone, as that to a
// master that has a successor.
func givenUp(err error) bool { return errors.Is(err, rueidis.ErrClosing) }

// isClosed asks whether it is.
func (c client) isClosed(ctx context.Context) bool {
	return givenUp(c.whole.Do(ctx, c.whole.B().Ping().Build()).Error())
}
