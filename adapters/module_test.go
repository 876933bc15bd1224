// A site gets this module and the one that it is for from where they are published, where the replacement in go.mod does not count.

package adapters_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestASiteGetsBothModules(t *testing.T) {
	const module = "github.com/beego-session/redis"
	own, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	required := regexp.MustCompile("(?m)^\\s*(?:require )?" + module + " (\\S+)$").FindSubmatch(own)
	if required == nil {
		t.Fatal("go.mod does not require " + module)
	}
	versions := []string{string(required[1])}
	if versions[0] == "v0.0.0-00010101000000-000000000000" { // before the first release, and at it
		versions = []string{"v0.0.0-20260102030405-0123456789ab", "v0.1.0"}
	}
	if versions[0] == "v0.0.0" {
		t.Error("there will never be a v0.0.0, which is newer than what is not tagged")
	}
	for _, version := range versions {
		published, site := t.TempDir(), t.TempDir()
		for name, file := range map[string]string{module: "../go.mod", module + "/adapters": "go.mod"} {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(published, name, "@v", version+".mod"), string(text))
			write(t, filepath.Join(published, name, "@v", version+".info"), fmt.Sprintf(`{"Version": %q}`, version))
		}
		write(t, filepath.Join(site, "go.mod"), fmt.Sprintf("module shop\n\ngo 1.24\n\nrequire (\n\t%s %s\n\t%[1]s/adapters %[2]s\n)\n", module, version))

		list := exec.Command("go", "list", "-mod=mod", "-m", "all")
		list.Dir = site
		list.Env = append(os.Environ(), "GOPROXY=file://"+filepath.ToSlash(published)+",file://"+filepath.ToSlash(goEnv(t, "GOMODCACHE"))+
			"/cache/download,"+goEnv(t, "GOPROXY"), "GOMODCACHE="+t.TempDir(), "GONOSUMDB="+module, "GOFLAGS=", "GOWORK=off")
		out, err := list.CombinedOutput()
		if err != nil || !strings.Contains(string(out), module+" "+version+"\n") {
			t.Errorf("%s: %v\n%s", version, err, out)
		}
	}
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	value, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(value))
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
