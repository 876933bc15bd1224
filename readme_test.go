// What README.md and docs say is read here as a user would.

package redis

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/redistest"
	beegoconfig "github.com/beego/beego/v2/core/config"
)

func TestTheConfigurationsInTheDocsAreRead(t *testing.T) {
	dir := t.TempDir()
	ca, err := os.ReadFile(redistest.NewCerts(t).CAFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"ca.pem": ca, "redis-password": []byte("secret\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	modes := map[client.Mode]int{}
	for _, block := range blocksOf(t, "ini") {
		text := strings.ReplaceAll(block, "/etc/shop", dir)
		conf, err := beegoconfig.NewConfigData("ini", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		name, _ := conf.String("SessionProvider")
		line, _ := conf.String("SessionProviderConfig")
		mode, ok := map[string]client.Mode{"redis": client.Standalone, "redis_sentinel": client.Sentinel, "redis_cluster": client.Cluster, "mine": client.Standalone}[name]
		if !ok || line == "" {
			t.Errorf("no provider or no configuration in:\n%s", text)
		}
		cfg, warnings, err := parseConfig(mode, line)
		if err != nil || len(warnings) > 0 {
			t.Errorf("%s\n%v %q", text, err, warnings)
			continue
		}
		modes[cfg.client.Mode]++
		if strings.Contains(line, "rediss://") && (cfg.client.TLS == nil || cfg.client.Password == nil) ||
			strings.Contains(line, "sentinel_tls") && (cfg.client.TLS == nil || cfg.client.SentinelTLS != nil) ||
			strings.Contains(line, "unix://") && cfg.client.Network != "unix" ||
			name == "mine" && cfg.settings.connects() {
			t.Errorf("%s\nis read as %+v", text, cfg.client)
		}
	}
	if modes[client.Standalone] < 3 || modes[client.Sentinel] < 2 || modes[client.Cluster] < 1 {
		t.Errorf("the docs show %v", modes)
	}
}

// blocksOf returns the code blocks of one language in README.md and docs.
func blocksOf(t *testing.T, language string) (blocks []string) {
	t.Helper()
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllSubmatch(text, -1) {
			blocks = append(blocks, string(block[1]))
		}
	}
	return blocks
}

func TestTheReadmeNamesEveryKey(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for key := range known {
		if strings.HasPrefix(key, "sentinel_password_") {
			continue // as `…_file`, `…_env`
		}
		if !regexp.MustCompile("(?m)^\\| `.*\\b" + key + "`.* \\|").Match(readme) {
			t.Errorf("README.md does not name %s", key)
		}
	}
}
