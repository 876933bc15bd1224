// What docs/alerts.yml asks for is compared here with what there is, and Prometheus' own tool has each rule fire.

package redisprom_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const alertsFile = "../docs/alerts.yml"

func TestTheAlertsAskForWhatThereIs(t *testing.T) {
	series, labels := exported(t)
	for alert, expr := range alertsOf(t) {
		names := regexp.MustCompile(`\bbeego_session_\w+`).FindAllString(expr, -1)
		if len(names) != 1 {
			t.Fatalf("%s asks for %q: this test looks at one", alert, names)
		}
		metric, ok := series[names[0]]
		if !ok {
			t.Errorf("there is no %s, which %s asks for", names[0], alert)
		}
		for _, is := range regexp.MustCompile(`(\w+)=~?"([^"]+)"`).FindAllStringSubmatch(expr, -1) {
			for _, value := range strings.Split(is[2], "|") {
				if !labels[metric+" "+is[1]+"="+value] {
					t.Errorf("%s has no %s %q, which %s asks for", metric, is[1], value, alert)
				}
			}
		}
		for _, by := range regexp.MustCompile(`by \(([^)]+)\)`).FindAllStringSubmatch(expr, -1) {
			for _, label := range strings.Split(by[1], ", ") {
				if label != "job" && !labels[metric+" "+label] {
					t.Errorf("%s has no label %s, which %s asks for", metric, label, alert)
				}
			}
		}
	}
}

// TestEachAlertFires gives promtool what each rule is for, and also what none is for.
func TestEachAlertFires(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("there is no promtool")
	}
	const slowOrLarge = "0+60x240"
	fires := map[string]map[string]string{ // the series that differ from those of a site where all is well
		"SessionsUnreachable":   {`errors_total{job="shop",kind="timeout"}`: "0+3x240"},
		"SessionsRefused":       {`errors_total{job="shop",kind="refused"}`: "0+3x240"},
		"SessionsVanish":        {`errors_total{job="shop",kind="vanished"}`: "0+3x240"},
		"SessionEntriesFail":    {`errors_total{job="shop",kind="too_large"}`: "0+3x240"},
		"SessionPoolExhausted":  {`pool_timeouts_total{job="shop"}`: "0+3x240"},
		"SessionsSlow":          {`load_duration_seconds_bucket{job="shop",le="0.1"}`: "0x240", `load_duration_seconds_bucket{job="shop",le="0.5"}`: slowOrLarge},
		"SessionsLarge":         {`size_bytes_bucket{job="shop",le="65536"}`: "0x240", `size_bytes_bucket{job="shop",le="262144"}`: slowOrLarge},
		"SessionMetricsMissing": {`reads_total{job="shop",result="found"}`: "", `reads_total{job="shop",result="absent"}`: ""},
		"":                      {},
	}
	well := map[string]string{
		`reads_total{job="shop",result="found"}`:             "0+60x240",
		`reads_total{job="shop",result="absent"}`:            "0+1x240",
		`errors_total{job="shop",kind="unreachable"}`:        "0x240",
		`errors_total{job="shop",kind="timeout"}`:            "0x240",
		`errors_total{job="shop",kind="canceled"}`:           "0+1x240",
		`errors_total{job="shop",kind="refused"}`:            "0x240",
		`errors_total{job="shop",kind="vanished"}`:           "0x240",
		`errors_total{job="shop",kind="too_large"}`:          "0x240",
		`pool_timeouts_total{job="shop"}`:                    "0x240",
		`load_duration_seconds_bucket{job="shop",le="0.1"}`:  "0+60x240",
		`load_duration_seconds_bucket{job="shop",le="0.5"}`:  "0+60x240",
		`load_duration_seconds_bucket{job="shop",le="+Inf"}`: "0+60x240",
		`size_bytes_bucket{job="shop",le="65536"}`:           "0+60x240",
		`size_bytes_bucket{job="shop",le="262144"}`:          "0+60x240",
		`size_bytes_bucket{job="shop",le="+Inf"}`:            "0+60x240",
	}
	rules, err := filepath.Abs(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	var file strings.Builder
	fmt.Fprintf(&file, "rule_files: [%q]\nevaluation_interval: 1m\ntests:\n", rules)
	for alert, differs := range fires {
		fmt.Fprint(&file, "  - interval: 1m\n    input_series:\n")
		for series, values := range well {
			if other, ok := differs[series]; ok {
				values = other
			}
			if values != "" {
				fmt.Fprintf(&file, "      - series: 'beego_session_%s'\n        values: '%s'\n", series, values)
			}
		}
		fmt.Fprint(&file, "    promql_expr_test:\n      - expr: count by (alertname) (ALERTS{alertstate=\"firing\"})\n        eval_time: 3h\n")
		if alert != "" {
			fmt.Fprintf(&file, "        exp_samples: [{labels: '{alertname=%q}', value: 1}]\n", alert)
		}
	}
	test := filepath.Join(t.TempDir(), "test.yml")
	if err := os.WriteFile(test, []byte(file.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("promtool", "test", "rules", test).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	for alert := range alertsOf(t) {
		if fires[alert] == nil {
			t.Errorf("no test has %s fire", alert)
		}
	}
}

// TestTheAlertsAreExplained looks for each metric that the rules ask for in docs/operations.md.
func TestTheAlertsAreExplained(t *testing.T) {
	page, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for alert := range alertsOf(t) {
		if !strings.Contains(string(page), "`"+alert+"`") {
			t.Errorf("operations.md does not say what %s is for", alert)
		}
	}
	series, labels := exported(t)
	said := regexp.MustCompile("`(\\w+_(?:total|seconds|bytes|connections))(?:\\{(\\w+)=\"(\\w+)\"\\})?`").FindAllStringSubmatch(string(page), -1)
	for _, found := range said {
		metric := "beego_session_" + found[1]
		if found[1] == "max_session_bytes" {
			continue // a key of the configuration
		}
		if !slices.Contains([]string{series[metric], series[metric+"_sum"]}, metric) {
			t.Errorf("operations.md speaks of %s, which there is not", metric)
		} else if found[2] != "" && !labels[metric+" "+found[2]+"="+found[3]] {
			t.Errorf("operations.md speaks of %s with %s=%s, which there is not", metric, found[2], found[3])
		}
	}
	if len(said) < 8 {
		t.Errorf("operations.md speaks of %d metrics: some were not found by this test", len(said))
	}
}

// alertsOf returns the expressions of all rules, by their names.
func alertsOf(t *testing.T) map[string]string {
	t.Helper()
	file, err := os.ReadFile(alertsFile)
	if err != nil {
		t.Fatal(err)
	}
	alerts := map[string]string{}
	for _, rule := range regexp.MustCompile(`(?m)- alert: (\w+)\n\s+expr: (.*)$`).FindAllStringSubmatch(string(file), -1) {
		alerts[rule[1]] = rule[2]
	}
	if n := strings.Count(string(file), "- alert:"); len(alerts) != n || n == 0 {
		t.Fatalf("%d of %d rules are read", len(alerts), n)
	}
	return alerts
}
