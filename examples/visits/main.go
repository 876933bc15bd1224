// Visits is a beego application that keeps its sessions in Redis: a visit counter, a basket, log in and log out.
//
//	go run ./examples/visits                              with a Redis inside the process, which ends with it
//	REDIS_ADDR=127.0.0.1:6379 go run ./examples/visits    with a Redis server, where sessions survive a restart
//
// What it does with its sessions is in visits.go, how they are configured in app.conf, what /metrics and /healthz tell of them in
// monitor.go. This file starts and ends it.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	sessions "github.com/beego-session/redis" // registers the session provider "redis"

	"github.com/alicebob/miniredis/v2"
	"github.com/beego/beego/v2/server/web"
	"github.com/go-redis/redis/v7"
)

//go:embed app.conf
var appConf []byte

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on; port 0 picks a free one")
	flag.Parse()
	if err := run(*addr); err != nil {
		fmt.Fprintln(os.Stderr, "visits:", err)
		os.Exit(1)
	}
}

// run serves until the process is told to end.
func run(addr string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // who presses Ctrl-C twice does not want to wait

	embedded := os.Getenv("REDIS_ADDR") == ""
	if embedded {
		if err := embed(); err != nil {
			return err
		}
	}
	client, err := connect(os.Getenv("REDIS_ADDR"))
	if err != nil {
		return err
	}
	defer client.Close()
	if embedded {
		fmt.Println("visits: sessions are in an embedded miniredis and end with this process; REDIS_ADDR=host:port keeps them in a server")
	} else {
		fmt.Println("visits: sessions are in the Redis at", client.Options().Addr)
	}

	if err := loadConfig(); err != nil {
		return err
	}
	c := &visits{Redis: client, Embedded: embedded, Started: time.Now()}
	web.Router("/", c)
	web.Router("/login", c, "post:LogIn")
	web.Router("/basket", c, "post:Basket")
	web.Router("/logout", c, "post:LogOut")
	return serve(ctx, addr)
}

// embed starts a Redis inside this process, and has app.conf find it.
func embed() error {
	mini, err := miniredis.Run()
	if err != nil {
		return fmt.Errorf("start the embedded miniredis: %w", err)
	}
	go func() {
		for range time.Tick(time.Second) {
			mini.FastForward(time.Second) // its clock stands still otherwise, and no session would expire
		}
	}()
	return os.Setenv("REDIS_ADDR", mini.Addr())
}

// connect returns a client for what the page shows beyond beego's sessions. It finds out whether the server is there,
// because beego panics where it cannot set up its sessions.
func connect(addr string) (*redis.Client, error) {
	if _, _, err := net.SplitHostPort(addr); err != nil || strings.Contains(addr, ",") {
		return nil, errors.New("REDIS_ADDR must be host:port, like 127.0.0.1:6379")
	}
	client := redis.NewClient(&redis.Options{Addr: addr})
	if err := client.Ping().Err(); err != nil {
		client.Close()
		return nil, fmt.Errorf("no Redis at %s: %w: start one there, or run without REDIS_ADDR", addr, err)
	}
	return client, nil
}

// loadConfig has beego read app.conf, which it can do from a file only.
func loadConfig() error {
	dir, err := os.MkdirTemp("", "visits")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "app.conf")
	if err := os.WriteFile(file, appConf, 0o600); err != nil {
		return err
	}
	return web.LoadAppConfig("ini", file)
}

// patience is how long requests under way may take to end once the process is told to.
const patience = 10 * time.Second

// serve runs beego until ctx is done. Then no request is accepted any more, those under way end, and with them save their
// sessions, and only after that the sessions' connections to Redis are closed.
func serve(ctx context.Context, addr string) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w: -addr takes another address", err)
	}
	app := startBeego()
	provider := web.GlobalSessions.GetProvider().(*sessions.Provider)
	server := &http.Server{Handler: monitor(app, provider), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	ended := make(chan error)
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
		ended <- provider.Close(context.Background())
	}()
	fmt.Printf("visits: listening on http://%s/ (Ctrl-C ends it)\n", browsable(l.Addr()))
	if err := server.Serve(l); err != http.ErrServerClosed {
		return err
	}
	return <-ended
}

// startBeego starts beego as usual, sessions and all, but has it hand out its handler where it would listen. That leaves the
// port to be known, its errors to be returned, and the end to be quiet.
func startBeego() http.Handler {
	started := make(chan http.Handler)
	web.BConfig.Listen.EnableHTTP = false
	go web.RunWithMiddleWares("", func(h http.Handler) http.Handler {
		started <- h
		return h
	})
	return <-started
}

// browsable is an address that a browser can open: that of the loopback where the server listens on all of them.
func browsable(addr net.Addr) string {
	if tcp, ok := addr.(*net.TCPAddr); ok && tcp.IP.IsUnspecified() {
		return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
	}
	return addr.String()
}
