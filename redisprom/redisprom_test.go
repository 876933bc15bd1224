package redisprom_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
	redis "github.com/beego-session/redis"
	"github.com/beego-session/redis/redisprom"
	"github.com/beego/beego/v2/server/web/session"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

var ctx = context.Background()

func TestKeepsToTheConventions(t *testing.T) {
	problems, err := testutil.GatherAndLint(registry(t, newProvider(t)))
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range problems {
		t.Errorf("%s: %s", problem.Metric, problem.Text)
	}
}

func TestTellsWhatTheProviderCounts(t *testing.T) {
	p := newProvider(t)
	p.OnError(func(context.Context, redis.Failure) {}) // they are counted here, and need no lines in the log
	for i, id := range []string{"one", "two", "one"} { // two new ones, then a change
		store := readSession(t, p, id)
		if err := store.Set(ctx, "n", i); err != nil {
			t.Fatal(err)
		}
		store.SessionRelease(ctx, nil)
	}
	readSession(t, p, "one").SessionRelease(ctx, nil)
	late := readSession(t, p, "two")
	if err := late.Set(ctx, "n", 5); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := p.SessionDestroy(ctx, "two"); err != nil {
			t.Fatal(err)
		}
	}
	late.SessionRelease(ctx, nil)
	for range 3 { // two that are merged, with an entry that cannot be encoded
		first, second := readSession(t, p, "one"), readSession(t, p, "one")
		for _, store := range []session.Store{first, second} {
			if err := errors.Join(store.Set(ctx, rand.Int(), 1), store.Set(ctx, "broken", []*int{nil})); err != nil {
				t.Fatal(err)
			}
			store.SessionRelease(ctx, nil)
		}
	}
	if _, err := p.SessionRegenerate(ctx, "one", "three"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.SessionRead(ctx, ""); err == nil {
		t.Fatal("SessionRead of no id is no error")
	}
	if err := p.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := p.SessionRead(ctx, "three"); err == nil {
		t.Fatal("SessionRead after Close is no error")
	}

	s := p.Stats()
	if s.BytesWritten == 0 || s.Load.Sum == 0 || s.Save.Sum == 0 {
		t.Fatalf("Stats has counted nothing: %+v", s)
	}
	err := testutil.GatherAndCompare(registry(t, p), strings.NewReader(`
# HELP beego_session_reads_total Sessions that were asked for, by whether there was one.
# TYPE beego_session_reads_total counter
beego_session_reads_total{result="absent"} 2
beego_session_reads_total{result="found"} 9
# HELP beego_session_releases_total Releases of sessions, by what they did; those that failed are among the errors.
# TYPE beego_session_releases_total counter
beego_session_releases_total{result="gone"} 1
beego_session_releases_total{result="saved"} 9
beego_session_releases_total{result="touched"} 0
beego_session_releases_total{result="unchanged"} 1
# HELP beego_session_created_total Releases that saved a session that there had not been.
# TYPE beego_session_created_total counter
beego_session_created_total 2
# HELP beego_session_merges_total Times that a save met what another request had saved meanwhile, and was done again on that.
# TYPE beego_session_merges_total counter
beego_session_merges_total 3
# HELP beego_session_dropped_entries_total Entries that could not be encoded, and whose change was lost.
# TYPE beego_session_dropped_entries_total counter
beego_session_dropped_entries_total 6
# HELP beego_session_regenerated_total Sessions that got a new id.
# TYPE beego_session_regenerated_total counter
beego_session_regenerated_total 1
# HELP beego_session_destroyed_total Sessions that were destroyed, also where there was none.
# TYPE beego_session_destroyed_total counter
beego_session_destroyed_total 2
# HELP beego_session_errors_total Operations that failed, or that lost something, by kind.
# TYPE beego_session_errors_total counter
beego_session_errors_total{kind="canceled"} 0
beego_session_errors_total{kind="closed"} 1
beego_session_errors_total{kind="other"} 1
beego_session_errors_total{kind="refused"} 0
beego_session_errors_total{kind="timeout"} 0
beego_session_errors_total{kind="too_large"} 0
beego_session_errors_total{kind="undecodable"} 0
beego_session_errors_total{kind="unencodable"} 6
beego_session_errors_total{kind="unreachable"} 0
beego_session_errors_total{kind="vanished"} 0
`+fmt.Sprintf(`
# HELP beego_session_read_bytes_total Bytes of sessions that were read, as they are in Redis.
# TYPE beego_session_read_bytes_total counter
beego_session_read_bytes_total %d
# HELP beego_session_written_bytes_total Bytes of sessions that were to be saved.
# TYPE beego_session_written_bytes_total counter
beego_session_written_bytes_total %d
`, s.BytesRead, s.BytesWritten)+
		histogram("size_bytes", "Bytes of a session that was saved.", s.Size)+
		histogram("load_duration_seconds", "Time of a look at Redis for a session.", s.Load)+
		histogram("save_duration_seconds", "Time of a release that had to save, with waits, merges and repeats, also where it failed.", s.Save)),
		"beego_session_reads_total", "beego_session_releases_total", "beego_session_created_total", "beego_session_merges_total",
		"beego_session_dropped_entries_total", "beego_session_regenerated_total",
		"beego_session_destroyed_total", "beego_session_errors_total", "beego_session_read_bytes_total",
		"beego_session_written_bytes_total", "beego_session_size_bytes", "beego_session_load_duration_seconds",
		"beego_session_save_duration_seconds")
	if err != nil {
		t.Error(err)
	}
}

// histogram is one as it should be scraped.
func histogram(name, help string, h redis.Histogram) string {
	name = "beego_session_" + name
	var b strings.Builder
	fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %[1]s histogram\n", name, help)
	var n uint64
	for i, bound := range h.Bounds {
		n += h.Counts[i]
		fmt.Fprintf(&b, "%s_bucket{le=\"%v\"} %d\n", name, bound, n)
	}
	n += h.Counts[len(h.Bounds)]
	fmt.Fprintf(&b, "%s_bucket{le=\"+Inf\"} %d\n%[1]s_sum %[3]v\n%[1]s_count %[2]d\n", name, n, h.Sum)
	return b.String()
}

func TestTellsTheConnectionsInUse(t *testing.T) {
	p := newProvider(t)
	if err := p.Check(); err != nil {
		t.Fatal(err)
	}
	got := gather(t, registry(t, p))
	if got["beego_session_pool_connections"] == 0 || got["beego_session_pool_misses_total"] == 0 {
		t.Errorf("of the connections it tells %v", got)
	}
	if got["beego_session_operations_in_flight"] != 0 {
		t.Errorf("it tells of %v operations under way, when there are none", got["beego_session_operations_in_flight"])
	}
}

func TestAllIsThereBeforeTheProviderIsConfigured(t *testing.T) {
	before, after := gather(t, registry(t, new(redis.Provider))), gather(t, registry(t, newProvider(t)))
	for name := range after {
		if n, ok := before[name]; !ok || n != 0 {
			t.Errorf("%s is %v (there: %t), want 0", name, n, ok)
		}
	}
}

func TestProvidersOfOneProcessAreToldApart(t *testing.T) {
	shop, admin := newProvider(t), newProvider(t)
	readSession(t, shop, "one")
	r := prometheus.NewPedanticRegistry()
	prometheus.WrapRegistererWith(prometheus.Labels{"site": "shop"}, r).MustRegister(redisprom.New(shop))
	prometheus.WrapRegistererWith(prometheus.Labels{"site": "admin"}, r).MustRegister(redisprom.New(admin))
	err := testutil.GatherAndCompare(r, strings.NewReader(`
# HELP beego_session_reads_total Sessions that were asked for, by whether there was one.
# TYPE beego_session_reads_total counter
beego_session_reads_total{result="absent",site="admin"} 0
beego_session_reads_total{result="absent",site="shop"} 1
beego_session_reads_total{result="found",site="admin"} 0
beego_session_reads_total{result="found",site="shop"} 0
`), "beego_session_reads_total")
	if err != nil {
		t.Error(err)
	}
}

func TestWhoDoesNotImportItDoesNotLinkPrometheus(t *testing.T) {
	const module = "github.com/beego-session/redis"
	out, err := exec.Command("go", "list", "-deps", module, module+"/redisprom").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	// What is linked is listed before what links it.
	without, _, _ := strings.Cut(string(out), "\n"+module+"\n")
	all := regexp.MustCompile(`(?m)^github\.com/prometheus/.*$`)
	if found := all.FindAllString(without, -1); found != nil {
		t.Errorf("%s links %q", module, found)
	}
	if !all.Match(out) {
		t.Errorf("%s/redisprom links nothing of Prometheus: what this test looks for is no longer there", module)
	}
}

// newProvider returns a provider on a Redis of its own.
func newProvider(t *testing.T) *redis.Provider {
	t.Helper()
	p := new(redis.Provider)
	if err := p.SessionInit(ctx, 3600, miniredis.RunT(t).Addr()); err != nil {
		t.Fatal(err)
	}
	return p
}

func readSession(t *testing.T, p *redis.Provider, id string) session.Store {
	t.Helper()
	s, err := p.SessionRead(ctx, id)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// registry returns one that finds what a collector does wrong.
func registry(t *testing.T, p *redis.Provider) *prometheus.Registry {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(redisprom.New(p)); err != nil {
		t.Fatal(err)
	}
	return r
}

// gather returns the metrics by name: of a counter or gauge the sum over its labels, of a histogram the count.
func gather(t *testing.T, r *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, family := range families {
		for _, m := range family.Metric {
			all[family.GetName()] += m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return all
}
