// Examples of what goes wrong, and of seeing what goes on.

package redis_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"

	"github.com/alicebob/miniredis/v2"
	"github.com/beego-session/redis"
)

// What a page of a web application answers to an error of this package.
func Example_errors() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	ctx := context.Background()
	sessions := new(redis.Provider)
	if err := sessions.SessionInit(ctx, 3600, `{"save_path": "`+server.Addr()+`", "outage_time": "100ms"}`); err != nil {
		log.Fatal(err)
	}

	answer := func(err error) int {
		switch {
		case err == nil:
			return http.StatusOK
		case errors.Is(err, redis.ErrUnreachable), errors.Is(err, redis.ErrClosed):
			return http.StatusServiceUnavailable // another try may help
		case errors.Is(err, redis.ErrGone), errors.Is(err, redis.ErrRefusedID):
			return http.StatusUnauthorized // log in again
		case errors.Is(err, redis.ErrTooLarge):
			return http.StatusRequestEntityTooLarge
		}
		return http.StatusInternalServerError // and a line in the log: somebody has to look at it
	}

	_, err = sessions.SessionRead(ctx, "not an id")
	fmt.Println(answer(err))
	if err := server.Set("a-session-id", "of another program"); err != nil {
		log.Fatal(err)
	}
	_, err = sessions.SessionRead(ctx, "a-session-id")
	fmt.Println(answer(err), errors.Is(err, redis.ErrUndecodable))
	server.Close()
	_, err = sessions.SessionRead(ctx, "another-session-id")
	fmt.Println(answer(err))
	// Output:
	// 401
	// 500 true
	// 503
}

// A release returns nothing. What it could not save goes to the log, or to a function of the application.
func ExampleProvider_OnError() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	ctx := context.Background()
	sessions := new(redis.Provider) // beego has it: web.GlobalSessions.GetProvider().(*redis.Provider)
	if err := sessions.SessionInit(ctx, 3600, `{"save_path": "`+server.Addr()+`", "max_session_bytes": 1000}`); err != nil {
		log.Fatal(err)
	}

	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: withoutTimeAndError}))
	sessions.OnError(func(ctx context.Context, f redis.Failure) {
		logger.ErrorContext(ctx, "session", "failure", f)
	})

	store, err := sessions.SessionRead(ctx, "a-session-id")
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Set(ctx, "picture", make([]byte, 2000)); err != nil {
		log.Fatal(err)
	}
	store.SessionRelease(ctx, nil)
	// Output: level=ERROR msg=session failure.operation=save failure.session="\"a-sess\"…" failure.kind=too_large
}

// withoutTimeAndError leaves out what differs from one run of the example to the next.
func withoutTimeAndError(_ []string, a slog.Attr) slog.Attr {
	if a.Key == slog.TimeKey || a.Key == "error" {
		return slog.Attr{}
	}
	return a
}

// The counts of a provider, for a page of one's own. The package redisprom gives them to Prometheus.
func ExampleProvider_Stats() {
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
	for range 3 {
		store, err := sessions.SessionRead(ctx, "a-session-id")
		if err != nil {
			log.Fatal(err)
		}
		store.SessionRelease(ctx, nil)
	}

	stats := sessions.Stats()
	fmt.Printf("read %d, created %d, saved %d, not changed %d\n", stats.Found+stats.Absent, stats.Created, stats.Saved, stats.Unchanged)
	fmt.Printf("errors of timeout %d, saves that took time %d\n", stats.Errors[redis.KindTimeout], stats.Save.Count())
	// Output:
	// read 3, created 1, saved 1, not changed 2
	// errors of timeout 0, saves that took time 1
}
