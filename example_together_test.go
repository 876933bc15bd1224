// Examples of requests that change one session at the same time.

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/alicebob/miniredis/v2"
	"github.com/beego-session/redis"
	"github.com/beego/beego/v2/server/web/session"
)

// Two requests count a click each, at the same time. Without a function the later release would win, and one click be lost.
func ExampleProvider_MergeKey() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	ctx := context.Background()
	sessions := new(redis.Provider) // beego has it: web.GlobalSessions.GetProvider().(*redis.Provider)
	if err := sessions.SessionInit(ctx, 3600, server.Addr()); err != nil {
		log.Fatal(err)
	}
	sessions.MergeKey("clicks", redis.Sum)

	click := func() session.Store {
		store, err := sessions.SessionRead(ctx, "a-session-id")
		if err != nil {
			log.Fatal(err)
		}
		clicks, _ := store.Get(ctx, "clicks").(int)
		if err := store.Set(ctx, "clicks", clicks+1); err != nil {
			log.Fatal(err)
		}
		return store
	}
	one, other := click(), click() // both have read 0
	one.SessionRelease(ctx, nil)
	other.SessionRelease(ctx, nil)

	store, err := sessions.SessionRead(ctx, "a-session-id")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(store.Get(ctx, "clicks"))
	// Output: 2
}

// A voucher is good once, however many requests come with it at the same time: the function sees what the others have saved, and what it
// decides is saved when Update returns.
func ExampleSessionStore_Update() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	ctx := context.Background()
	sessions := new(redis.Provider)
	if err := sessions.SessionInit(ctx, 3600, server.Addr()); err != nil {
		log.Fatal(err)
	}

	errUsed := errors.New("the voucher has been used")
	redeem := func(store *redis.SessionStore) error {
		return store.Update(ctx, func(now session.Store) error { // may be called several times
			if used, _ := now.Get(ctx, "voucher used").(bool); used {
				return errUsed // nothing is saved
			}
			return now.Set(ctx, "voucher used", true)
		})
	}

	var requests []*redis.SessionStore
	for range 2 {
		store, err := sessions.SessionRead(ctx, "a-session-id") // in a controller: c.StartSession()
		if err != nil {
			log.Fatal(err)
		}
		requests = append(requests, store.(*redis.SessionStore))
	}
	for _, store := range requests {
		switch err := redeem(store); {
		case errors.Is(err, errUsed):
			fmt.Println("Sorry,", err)
		case errors.Is(err, redis.ErrGone):
			fmt.Println("Please log in again.")
		case err != nil:
			log.Fatal(err)
		default:
			fmt.Println("Thank you.")
		}
	}
	// Output:
	// Thank you.
	// Sorry, the voucher has been used
}
