// Visits is a beego application that keeps its sessions in Redis: a visit counter, a basket, log in and log out, and the sessions
// that a user has elsewhere. Its page has buttons that try what the session provider promises.
//
//	go run ./examples/visits                              with a Redis inside the process, which ends with it
//	REDIS_ADDR=127.0.0.1:6379 go run ./examples/visits    with a Redis server, where sessions survive a restart
//	go run ./examples/visits -compare                     with beego's own provider beside it
//
// What it does with its sessions is in visits.go, how they are configured in app.conf, what /metrics and /healthz tell of them in
// monitor.go. This file starts and ends it. What the buttons do is in trials/ and page.js, and -compare in compare.go and compare/:
// an application of your own needs none of these.
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

	_ "github.com/beego-session/redis" // registers the session provider "redis"
	"github.com/beego-session/redis/examples/visits/trials"

	"github.com/alicebob/miniredis/v2"
	"github.com/beego/beego/v2/server/web"
	"github.com/go-redis/redis/v7"
)

//go:embed app.conf
var appConf []byte

func main() {
	addr := flag.String("addr", "127.0.0.1:8080", "`host:port` to listen on; port 0 picks a free one")
	compare := flag.Bool("compare", false, "show beside it what beego's own session provider does (needs the go command)")
	flag.Parse()
	if err := run(*addr, *compare); err != nil {
		fmt.Fprintln(os.Stderr, "visits:", err)
		os.Exit(1)
	}
}

// run serves until the process is told to end.
func run(addr string, compare bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // who presses Ctrl-C twice does not want to wait

	redisAddr := os.Getenv("REDIS_ADDR")
	embedded := redisAddr == ""
	if embedded {
		var err error
		if redisAddr, err = embed(); err != nil {
			return err
		}
	}
	client, err := connect(redisAddr)
	if err != nil {
		return err
	}
	defer client.Close()
	if embedded {
		fmt.Println("visits: sessions are in an embedded miniredis and end with this process; REDIS_ADDR=host:port keeps them in a server")
	} else {
		fmt.Println("visits: sessions are in the Redis at", redisAddr)
	}

	if err := loadConfig(redisAddr); err != nil {
		return err
	}
	c := &visits{Redis: client, Embedded: embedded, Compare: compare, Started: time.Now()}
	web.Router("/", c)
	web.Router("/login", c, "post:LogIn")
	web.Router("/basket", c, "post:Basket")
	web.Router("/logout", c, "post:LogOut")
	web.Router("/end", c, "post:End")
	web.Router("/end-others", c, "post:EndOthers")
	web.InsertFilter("/page.js", web.BeforeStatic, script)
	trials.Route()
	if !compare {
		return serve(ctx, addr, nil)
	}
	fmt.Println("visits: building what it is compared with")
	beegos, err := startComparison(redisAddr)
	if err != nil {
		return err
	}
	defer beegos.stop()
	return serve(ctx, addr, beegos)
}

// embed starts a Redis inside this process, and returns its address.
func embed() (addr string, err error) {
	mini, err := miniredis.Run()
	if err != nil {
		return "", fmt.Errorf("start the embedded miniredis: %w", err)
	}
	go func() {
		for range time.Tick(time.Second) {
			mini.FastForward(time.Second) // its clock stands still otherwise, and no session would expire
		}
	}()
	return mini.Addr(), nil
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

// loadConfig has beego read app.conf, which it can do from a file only, and puts in what depends on the address of Redis.
func loadConfig(redisAddr string) error {
	dir, err := os.MkdirTemp("", "visits")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "app.conf")
	if err := os.WriteFile(file, appConf, 0o600); err != nil {
		return err
	}
	if err := web.LoadAppConfig("ini", file); err != nil {
		return err
	}
	// With user_key the sessions of a user can be listed and ended. It is where LogIn puts the name.
	web.BConfig.WebConfig.Session.SessionProviderConfig = "redis://" + redisAddr + "/0?user_key=name"
	return nil
}

// patience is how long requests under way may take to end once the process is told to.
const patience = 10 * time.Second

// serve runs beego until ctx is done. Then no request is accepted any more, those under way end, and with them save their
// sessions, and only after that the sessions' connections to Redis are closed. What is below /beego goes to beegos, if there is one.
func serve(ctx context.Context, addr string, beegos http.Handler) error {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("%w: -addr takes another address", err)
	}
	handler := monitor(startBeego(), provider())
	if beegos != nil {
		mux := http.NewServeMux()
		mux.Handle("/beego/", beegos)
		mux.Handle("/", handler)
		handler = mux
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second}
	ended := make(chan error)
	go func() {
		<-ctx.Done()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if server.Shutdown(ctx) != nil {
			server.Close()
		}
		ended <- provider().Close(context.Background())
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
