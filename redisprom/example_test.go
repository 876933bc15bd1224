package redisprom_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/alicebob/miniredis/v2"
	"github.com/beego-session/redis"
	"github.com/beego-session/redis/redisprom"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// The metrics of a provider are registered once, and served beside beego's router.
func ExampleNew() {
	server, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	defer server.Close()
	sessions := new(redis.Provider) // beego has it: web.GlobalSessions.GetProvider().(*redis.Provider)
	if err := sessions.SessionInit(context.Background(), 3600, server.Addr()); err != nil {
		log.Fatal(err)
	}

	registry := prometheus.NewRegistry() // or prometheus.DefaultRegisterer
	registry.MustRegister(redisprom.New(sessions))
	metrics := http.NewServeMux()
	metrics.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	// go http.ListenAndServe("127.0.0.1:9100", metrics)

	if err := sessions.SessionDestroy(context.Background(), "a-session-id"); err != nil {
		log.Fatal(err)
	}
	page := httptest.NewRecorder()
	metrics.ServeHTTP(page, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range strings.Split(page.Body.String(), "\n") {
		if strings.HasPrefix(line, "beego_session_destroyed_total") {
			fmt.Println(line)
		}
	}
	// Output: beego_session_destroyed_total 1
}
