package redis

import (
	"testing"

	"github.com/go-redis/redis/v7"
)

// A command is sent again with others of which one has failed, though it had its own reply.
func TestACommandHasTheReplyToItsLastAttempt(t *testing.T) {
	text, number, anything := newString("get", "key"), newInt("pttl", "key"), newAny("zrange", "key", 0, -1)
	for _, cmd := range []command{text, number, anything} {
		cmd.take(int64(7), nil)
	}
	if text.Val() != "7" || number.Val() != 7 || anything.Val() != int64(7) {
		t.Errorf("%v, %v, %v", text.Val(), number.Val(), anything.Val())
	}
	for _, cmd := range []command{text, number, anything} {
		cmd.take(nil, redis.Nil)
		if cmd.Err() != redis.Nil {
			t.Errorf("%s: %v", cmd.Name(), cmd.Err())
		}
	}
	if text.Val() != "" || number.Val() != 0 || anything.Val() != nil {
		t.Errorf("%v, %v, %v", text.Val(), number.Val(), anything.Val())
	}
	for _, cmd := range []command{text, number} {
		if cmd.take([]any{}, nil); cmd.Err() == nil {
			t.Errorf("%s takes a list", cmd.Name())
		}
	}
}
