// Compare is the other half of visits -compare: the trials on beego's own session provider, whose import is all that differs.
//
// It is a program of its own because both providers have the name "redis". A process that imports the two ends with a panic before
// main on beego v2.0.0, and on later ones has the provider that was initialised last. So visits starts this one, passes requests on to
// it, and ends it by closing its standard input.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"

	"github.com/beego-session/redis/examples/visits/trials"

	"github.com/beego/beego/v2/server/web"
	_ "github.com/beego/beego/v2/server/web/session/redis" // beego's own; visits has "github.com/beego-session/redis"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: compare REDIS_ADDR (visits -compare starts this)")
	}
	signal.Ignore(os.Interrupt) // Ctrl-C reaches both processes, and visits may still have a request here
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	web.BConfig.RunMode = web.PROD
	web.BConfig.WebConfig.AutoRender = false
	web.BConfig.WebConfig.Session.SessionOn = true
	web.BConfig.WebConfig.Session.SessionProvider = "redis"
	web.BConfig.WebConfig.Session.SessionProviderConfig = os.Args[1]
	web.BConfig.WebConfig.Session.SessionName = "visits-beego" // beside the cookie of visits
	web.BConfig.WebConfig.Session.SessionGCMaxLifetime = 1800
	trials.Route()

	// As in visits, beego hands out its handler where it would listen, so that the port is known.
	web.BConfig.Listen.EnableHTTP = false
	web.RunWithMiddleWares("", func(h http.Handler) http.Handler {
		go func() { log.Fatal(http.Serve(l, h)) }()
		fmt.Printf("listening on http://%s\n", l.Addr())
		return h
	})
}
