package redistest

import (
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// IFEQ is a hook by which a miniredis answers SET key value IFEQ old [EX seconds] as Valkey does since 8.1 and Redis since
// 8.4: OK where the key holds the old value, and nil where it holds another one or does not exist.
func IFEQ(m *miniredis.Miniredis) server.Hook {
	const compareAndSet = `
if redis.call('GET', KEYS[1]) ~= ARGV[2] then
  return false
end
return redis.call('SET', KEYS[1], ARGV[1], unpack(ARGV, 3))`
	return func(c *server.Peer, cmd string, args ...string) bool {
		if cmd != "SET" || len(args) < 4 || !strings.EqualFold(args[2], "IFEQ") {
			return false
		}
		eval := []string{"EVAL", compareAndSet, "1", args[0], args[1]}
		m.Server().Dispatch(c, append(eval, args[3:]...)) // a script, because that is atomic
		return true
	}
}
