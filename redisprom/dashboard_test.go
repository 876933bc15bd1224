// What docs/grafana.json asks for is compared here with what there is.

package redisprom_test

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	redis "github.com/beego-session/redis"
)

func TestTheDashboardAsksForWhatThereIs(t *testing.T) {
	series, labels := exported(t)
	used := map[string]bool{}
	queries := queriesOf(t, "../docs/grafana.json")
	for _, query := range queries {
		for _, name := range regexp.MustCompile(`\bbeego_session_\w+`).FindAllString(query, -1) {
			metric, ok := series[name]
			if !ok {
				t.Errorf("there is no %s, which the dashboard has in %s", name, query)
			}
			used[metric] = true
			for _, by := range regexp.MustCompile(`by \((\w+)\)`).FindAllStringSubmatch(query, -1) {
				if !labels[metric+" "+by[1]] {
					t.Errorf("%s has no label %s, which the dashboard has in %s", name, by[1], query)
				}
			}
			for _, is := range regexp.MustCompile(`(\w+)="(\w+)"`).FindAllStringSubmatch(query, -1) {
				if !labels[metric+" "+is[1]+"="+is[2]] {
					t.Errorf("%s has no %s, which the dashboard has in %s", name, is[0], query)
				}
			}
		}
	}
	for _, metric := range series {
		if !used[metric] {
			t.Errorf("the dashboard does not show %s", metric)
		}
	}
	if len(queries) < len(used) {
		t.Errorf("the dashboard has %d queries for %d metrics: some were not found by this test", len(queries), len(used))
	}
}

// exported returns the metric of each series, and which labels each metric has and which values these have, like "metric
// label" and "metric label=value".
func exported(t *testing.T) (series map[string]string, labels map[string]bool) {
	t.Helper()
	families, err := registry(t, new(redis.Provider)).Gather()
	if err != nil {
		t.Fatal(err)
	}
	series, labels = map[string]string{}, map[string]bool{}
	for _, family := range families {
		name := family.GetName()
		for _, m := range family.Metric {
			for _, label := range m.Label {
				labels[name+" "+label.GetName()] = true
				labels[name+" "+label.GetName()+"="+label.GetValue()] = true
			}
			if m.Histogram == nil {
				series[name] = name
				continue
			}
			series[name+"_bucket"], series[name+"_sum"], series[name+"_count"] = name, name, name
			labels[name+" le"] = true
		}
	}
	return series, labels
}

// queriesOf returns what a dashboard asks Prometheus.
func queriesOf(t *testing.T, file string) []string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var dashboard any
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatal(err)
	}
	var queries []string
	var find func(any)
	find = func(node any) {
		switch node := node.(type) {
		case map[string]any:
			for key, value := range node {
				if text, ok := value.(string); ok && (key == "expr" || key == "query" || key == "definition") && strings.Contains(text, "beego_") {
					queries = append(queries, text)
				}
				find(value)
			}
		case []any:
			for _, value := range node {
				find(value)
			}
		}
	}
	find(dashboard)
	return queries
}
