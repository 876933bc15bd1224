// Examples of requests that change one session at the same time.

package redis_test

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"log"
	"maps"

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

// A cart says how many there are of each item. Maps are merged entry by entry, but of an entry that two requests change at the same time the later
// release would win. With this function what each has added or taken out counts.
func ExampleProvider_MergeKey_cart() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	ctx := context.Background()
	gob.Register(map[string]int{})
	sessions := new(redis.Provider) // beego has it: web.GlobalSessions.GetProvider().(*redis.Provider)
	if err := sessions.SessionInit(ctx, 3600, server.Addr()); err != nil {
		log.Fatal(err)
	}
	sessions.MergeKey("cart", func(original, mine, theirs any) any {
		before, _ := original.(map[string]int)
		after, _ := mine.(map[string]int)
		cart, _ := theirs.(map[string]int)
		if cart == nil {
			cart = make(map[string]int)
		}
		for item := range before {
			cart[item] -= before[item]
		}
		for item := range after {
			cart[item] += after[item]
		}
		maps.DeleteFunc(cart, func(_ string, count int) bool { return count <= 0 })
		return cart
	})

	add := func(count int) session.Store {
		store, err := sessions.SessionRead(ctx, "a-session-id")
		if err != nil {
			log.Fatal(err)
		}
		cart, _ := store.Get(ctx, "cart").(map[string]int)
		if cart == nil {
			cart = make(map[string]int)
		}
		cart["apple"] += count
		if err := store.Set(ctx, "cart", cart); err != nil {
			log.Fatal(err)
		}
		return store
	}
	add(3).SessionRelease(ctx, nil)
	one, other := add(1), add(-2) // both have read 3
	one.SessionRelease(ctx, nil)
	other.SessionRelease(ctx, nil)

	store, err := sessions.SessionRead(ctx, "a-session-id")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(store.Get(ctx, "cart"))
	// Output: map[apple:2]
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
