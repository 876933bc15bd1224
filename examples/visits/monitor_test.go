// Tests of what those who run the application see of it.

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

func TestMetricsTellOfTheSessionsAndMakeNone(t *testing.T) {
	mini := miniredis.RunT(t)
	b := newBrowser(t, start(t, mini.Addr()).url)
	b.load()
	b.load()
	for range 2 {
		status, body, header := fetch(t, b.url+"metrics")
		if status != http.StatusOK || header.Get("Set-Cookie") != "" {
			t.Errorf("/metrics: status %d, want 200, and the cookie %q, want none", status, header.Get("Set-Cookie"))
		}
		for _, line := range []string{
			`beego_session_reads_total{result="absent"} 1`, `beego_session_reads_total{result="found"} 1`,
			`beego_session_releases_total{result="saved"} 2`, `beego_session_created_total 1`,
			`beego_session_errors_total{kind="timeout"} 0`, `beego_session_save_duration_seconds_count 2`,
		} {
			if !strings.Contains(body, "\n"+line+"\n") {
				t.Errorf("/metrics does not say %s", line)
			}
		}
	}
	if keys := mini.Keys(); len(keys) != 1 {
		t.Errorf("Redis has %d keys, want the one session", len(keys))
	}
}

func TestHealthIsThatOfRedis(t *testing.T) {
	mini := miniredis.RunT(t)
	url := start(t, mini.Addr()).url + "healthz"
	for _, test := range []struct {
		trouble string
		status  int
		body    string
	}{{"", 200, "ok\n"}, {"ERR trouble", 503, "sessions: out of order\n"}, {"", 200, "ok\n"}} {
		mini.SetError(test.trouble)
		if status, body, header := fetch(t, url); status != test.status || body != test.body || header.Get("Set-Cookie") != "" {
			t.Errorf("while Redis says %q: status %d and %q, want %d and %q, without a cookie", test.trouble, status, body, test.status, test.body)
		}
	}
}

// TestPrometheusCountsWhatTheBrowsersDid has a Prometheus scrape the application while browsers use it.
func TestPrometheusCountsWhatTheBrowsersDid(t *testing.T) {
	t.Parallel()
	app := start(t, miniredis.RunT(t).Addr())
	p := startPrometheus(t, app.url)
	const browsers, loads = 8, 30
	var all sync.WaitGroup
	for range browsers {
		b := newBrowser(t, app.url)
		b.load()
		b.post("/login", "name", "Ada") // and a load
		all.Add(1)
		go func() {
			defer all.Done()
			for range loads {
				b.visit()
			}
		}()
	}
	all.Wait()
	for query, want := range map[string]float64{
		`beego_session_reads_total{result="absent"}`:   browsers,
		`beego_session_reads_total{result="found"}`:    browsers * (2 + loads),
		`beego_session_releases_total{result="saved"}`: browsers * (3 + loads),
		`beego_session_created_total`:                  browsers,
		`beego_session_regenerated_total`:              browsers,
		`sum(beego_session_errors_total)`:              0,
		`beego_session_save_duration_seconds_count`:    browsers * (3 + loads),
		`beego_session_size_bytes_count`:               browsers * (3 + loads),
	} {
		p.await(query, want)
	}

	// All that the dashboard asks has an answer.
	dashboard, err := os.ReadFile("../../docs/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	queries := regexp.MustCompile(`"expr": ("(?:[^"\\]|\\.)*")`).FindAllSubmatch(dashboard, -1)
	for _, match := range queries {
		var query string
		if err := json.Unmarshal(match[1], &query); err != nil {
			t.Fatal(err)
		}
		query = strings.NewReplacer("$job", "visits", "$instance", ".*", "$__rate_interval", "10s").Replace(query)
		answered := func() bool { return len(p.query(query)) > 0 } // not while the application could not be scraped in time
		for deadline := time.Now().Add(20 * time.Second); !answered(); time.Sleep(50 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("there is no answer to %s", query)
			}
		}
	}
	if len(queries) == 0 {
		t.Error("the dashboard asks nothing")
	}
}

// prometheusServer is a running process of Prometheus.
type prometheusServer struct {
	t   *testing.T
	url string
}

// startPrometheus runs a Prometheus that scrapes the application, until the test ends.
func startPrometheus(t *testing.T, target string) prometheusServer {
	t.Helper()
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Skip("skipped: prometheus is not installed")
	}
	dir, addr := t.TempDir(), closedPort(t)
	config := filepath.Join(dir, "prometheus.yml")
	err = os.WriteFile(config, []byte(fmt.Sprintf(`
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: visits, static_configs: [{targets: [%q]}]}]
`, strings.Trim(target, "htp:/"))), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "--config.file", config, "--storage.tsdb.path", filepath.Join(dir, "data"), "--web.listen-address", addr)
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		log.Close()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("prometheus says:\n%s", said[max(0, len(said)-3000):])
		}
	})
	p := prometheusServer{t, "http://" + addr}
	p.await("up", 1)
	return p
}

// await returns once a query has an answer.
func (p prometheusServer) await(query string, want float64) {
	p.t.Helper()
	var got []float64
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		if got = p.query(query); len(got) == 1 && got[0] == want {
			return
		}
	}
	p.t.Fatalf("Prometheus says %v for %s, want %v", got, query, want)
}

// query returns the values of all series that answer a query: none as long as Prometheus starts.
func (p prometheusServer) query(query string) (values []float64) {
	p.t.Helper()
	resp, err := http.Get(p.url + "/api/v1/query?query=" + url.QueryEscape(query))
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable {
		return nil
	}
	var answer struct {
		Error string
		Data  struct{ Result []struct{ Value [2]any } }
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil || answer.Error != "" {
		p.t.Fatalf("%s: %s (%v)", query, answer.Error, err)
	}
	for _, series := range answer.Data.Result {
		text, _ := series.Value[1].(string)
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			p.t.Fatalf("%s: %v", query, err)
		}
		values = append(values, value)
	}
	return values
}

// fetch gets a page as a program does, which keeps no cookies.
func fetch(t *testing.T, url string) (status int, body string, header http.Header) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data), resp.Header
}
