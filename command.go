// A command and its reply, which go-redis v7 reads into it or a client of another make returns.

package redis

import (
	"fmt"
	"strconv"

	"github.com/go-redis/redis/v7"
)

// command is a command of go-redis v7 that can be given its reply as well.
type command interface {
	redis.Cmder

	// take takes the reply of a client of another make, in the place of an earlier one: a string, int64, float64, or a []any of
	// such; or nil and why there is none.
	take(reply any, err error)
}

// A stringCmd is answered with a string, and one with a number takes it as its text.
type stringCmd struct {
	redis.StringCmd
	taken string
}

func newString(args ...any) *stringCmd { return &stringCmd{StringCmd: *redis.NewStringCmd(args...)} }

func (c *stringCmd) Val() string {
	if c.taken != "" {
		return c.taken
	}
	return c.StringCmd.Val()
}

func (c *stringCmd) take(reply any, err error) {
	c.taken = ""
	switch r := reply.(type) {
	case nil:
	case string:
		c.taken = r
	case int64:
		c.taken = strconv.FormatInt(r, 10)
	case float64:
		c.taken = strconv.FormatFloat(r, 'g', -1, 64)
	default:
		err = unexpected(c, reply)
	}
	c.SetErr(err)
}

// An intCmd is answered with a whole number.
type intCmd struct {
	redis.IntCmd
	taken int64
}

func newInt(args ...any) *intCmd { return &intCmd{IntCmd: *redis.NewIntCmd(args...)} }

func (c *intCmd) Val() int64 {
	if c.taken != 0 {
		return c.taken
	}
	return c.IntCmd.Val()
}

func (c *intCmd) take(reply any, err error) {
	n, ok := reply.(int64)
	if !ok && reply != nil {
		err = unexpected(c, reply)
	}
	c.taken = n
	c.SetErr(err)
}

// An anyCmd is answered with anything.
type anyCmd struct {
	redis.Cmd
	taken any
}

func newAny(args ...any) *anyCmd { return &anyCmd{Cmd: *redis.NewCmd(args...)} }

func (c *anyCmd) Val() any {
	if c.taken != nil {
		return c.taken
	}
	return c.Cmd.Val()
}

func (c *anyCmd) take(reply any, err error) {
	c.taken = reply
	c.SetErr(err)
}

// strings returns a reply that is a list of strings.
func (c *anyCmd) strings() ([]string, error) { return stringsOf(c, c.Val()) }

// cursor returns the reply to SCAN.
func (c *anyCmd) cursor() (keys []string, next uint64, err error) {
	if parts, ok := c.Val().([]any); ok && len(parts) == 2 {
		text, _ := parts[0].(string)
		if next, err = strconv.ParseUint(text, 10, 64); err == nil {
			keys, err = stringsOf(c, parts[1])
			return keys, next, err
		}
	}
	return nil, 0, unexpected(c, c.Val())
}

func stringsOf(cmd redis.Cmder, reply any) ([]string, error) {
	list, ok := reply.([]any)
	all := make([]string, len(list))
	for i, one := range list {
		text, is := one.(string)
		all[i], ok = text, ok && is
	}
	if !ok {
		return nil, unexpected(cmd, reply)
	}
	return all, nil
}

func unexpected(cmd redis.Cmder, reply any) error {
	return fmt.Errorf("the reply to %s is a %T, which is none to it", cmd.Name(), reply)
}
