// What the errors mean that a server, a proxy before it or the connection answers with. Each words them in its own way.

package redis

import (
	"context"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/beego-session/redis/internal/client"
	"github.com/go-redis/redis/v7"
)

// closedClient recognises that the client was closed.
func closedClient(err error) bool {
	return errors.Is(err, redis.ErrClosed) || errors.Is(err, ErrClosed)
}

// again is an error that asks for another attempt.
type again string

func (a again) Error() string { return string(a) }

// retryable tells whether a command may succeed when it is sent again: the connection failed, or the server cannot
// serve it yet.
func retryable(err error) bool {
	var known *outage
	switch {
	case errors.As(err, &known), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isLoss(err):
		return true
	}
	if _, ok := err.(again); ok {
		return true
	}
	var netErr net.Error
	return errors.As(err, &netErr) || servesNobody(err) || isReply(err, "READONLY ", "NOREPLICAS ")
}

// servesNobody recognises a server that cannot even be read from now.
func servesNobody(err error) bool {
	return isReply(err, "LOADING ", "BUSY ", "MASTERDOWN ", "CLUSTERDOWN ", "TRYAGAIN ", "ERR max number of clients ")
}

// isLoss recognises how a proxy says that its connection to the server failed: nobody knows whether the server has executed
// the command. Proxies have words of their own for it; those that are not known here are read as a refusal of scripts, of
// which regenerate finds out whether it was one.
func isLoss(err error) bool {
	var reply redis.Error
	if !errors.As(err, &reply) {
		return false
	}
	text := strings.TrimPrefix(reply.Error(), "ERR ") // which a client may have cut off, or put before what has none
	return slices.ContainsFunc(losses, func(words string) bool { return strings.HasPrefix(text, words) })
}

var losses = []string{
	"Connection ", "Broken pipe", "No route to host", "Host is ", "Network is ", "Invalid argument", // twemproxy: strerror(3)
	"upstream failure", "upstream protocol error", "no upstream host", // Envoy
	"handle response",                                               // Codis
	"server connection close", "no server ", "deliver request fail", // predixy
	"proxy upstream not available", // camellia
	"internal error",               // ElastiCache Serverless
}

// isReply tells whether err is the server's own, and begins like one of the prefixes.
func isReply(err error, prefixes ...string) bool {
	var reply redis.Error
	return errors.As(err, &reply) && slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(reply.Error(), prefix) })
}

// wrapped is how Redis 4 to 6.2 answer where a command in a script fails: the reply stands behind the last colon and dash.
var wrapped = regexp.MustCompile(`^ERR Error running script \(call to f_[0-9a-f]*\): (?:@user_script: ?[0-9]+: )+-([A-Z]+ .*)`)

// unwrap returns the reply to a command in a script like that to any other command, as later versions do by themselves, and
// one to an unknown command without its arguments, which may be ids.
func unwrap(err error) error {
	if reply, ok := err.(redis.Error); ok {
		if inner := wrapped.FindStringSubmatch(reply.Error()); inner != nil {
			return client.ReplyError(inner[1])
		}
		if text, _, quotes := strings.Cut(reply.Error(), ", with args beginning with"); quotes {
			return client.ReplyError(text)
		}
	}
	return err
}

// refusesScripts recognises a server or proxy that runs no scripts, and a user who may not run them or what is in them.
// Each says it in words of its own. Errors of a script itself name a line of it, and a limit that was exceeded is no refusal.
func refusesScripts(err error) bool {
	reply, ok := err.(redis.Error) // not what wraps one: that is of opening the connection
	if !ok || isLoss(err) {
		return false
	}
	text := reply.Error()
	for _, refusal := range []string{"command called from", "can't run this command", "has no permissions to run the "} { // but not a key
		if strings.Contains(text, refusal) {
			return true
		}
	}
	for _, other := range []string{"user_script", "script: ", "Error running script", "max number of clients", "exceeded"} {
		if strings.Contains(text, other) {
			return false
		}
	}
	return strings.HasPrefix(text, "ERR ")
}
