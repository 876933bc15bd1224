// What those who run the application see of it: figures for Prometheus, and whether it can serve.

package main

import (
	"fmt"
	"net/http"

	sessions "github.com/beego-session/redis"
	"github.com/beego-session/redis/redisprom"

	"github.com/beego/beego/v2/core/admin"
	"github.com/beego/beego/v2/core/logs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// monitor puts /metrics and /healthz before the application. They are not for the public: a site has its reverse proxy keep
// them to itself. They are not among beego's routes, because beego starts a session for each request of those.
func monitor(app http.Handler, provider *sessions.Provider) http.Handler {
	prometheus.MustRegister(redisprom.New(provider))
	admin.AddHealthCheck("sessions", provider) // beego's admin pages, where EnableAdmin is on, show it as well
	metrics := promhttp.Handler()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/metrics":
			metrics.ServeHTTP(w, r)
		case "/healthz":
			health(w)
		default:
			app.ServeHTTP(w, r)
		}
	})
}

// health answers whether all is well that was added to beego's health checks, by its status, as load balancers want it. That
// of beego's own page is 200 whatever it finds.
func health(w http.ResponseWriter) {
	for name, check := range admin.AdminCheckList {
		if err := check.Check(); err != nil {
			logs.Error(err)
			http.Error(w, name+": out of order", http.StatusServiceUnavailable)
			return
		}
	}
	fmt.Fprintln(w, "ok")
}
