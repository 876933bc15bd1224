// What README.md and the other pages show is read here as a user would: each configuration, command and piece of Go. What nobody reads fails.

package redis

import (
	"encoding/base64"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/beego-session/redis/internal/client"
	"github.com/beego-session/redis/internal/markdown"
	"github.com/beego-session/redis/internal/redistest"
	beegoconfig "github.com/beego/beego/v2/core/config"
	"github.com/beego/beego/v2/server/web"
)

// readers are what reads the blocks of a language. None of their blocks is left out.
var readers = map[string]func(t *testing.T, blocks []markdown.Code){
	"go":    vetted,
	"ini":   configured,
	"conf":  startsRedis,
	"sh":    commanded,
	"text":  shownToUsers,
	"redis": makesUsers,
}

func TestEachBlockInTheDocsIsRead(t *testing.T) {
	blocks, _ := markdown.All(t, ".")
	by := map[string][]markdown.Code{}
	for _, block := range blocks {
		if readers[block.Language] == nil {
			t.Errorf("%s: no test reads a block of %q", block.At(), block.Language)
		}
		by[block.Language] = append(by[block.Language], block)
	}
	for language, read := range readers {
		t.Run(language, func(t *testing.T) { read(t, by[language]) })
	}
}

// vetted has what is in this module compiled, and looks for the test that does it in the module where it is not.
func vetted(t *testing.T, blocks []markdown.Code) {
	others, err := filepath.Glob("*/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	blocks = slices.DeleteFunc(blocks, func(block markdown.Code) bool {
		if block.Page == "docs/testing.md" {
			return true // TestTheTestInTheDocsRuns does
		}
		for _, file := range others {
			module := filepath.Dir(file)
			if strings.Contains(block.Text, `"github.com/beego-session/redis/`+filepath.ToSlash(module)) {
				if !theTestsContain(t, module, "markdown.Vet(") {
					t.Errorf("%s: no test in %s reads it", block.At(), module)
				}
				return true
			}
		}
		return false
	})
	markdown.Vet(t, ".", markdown.Context{
		Imports: map[string]string{
			"context":    "context",
			"errors":     "errors",
			"log":        "log",
			"http":       "net/http",
			"os":         "os",
			"signal":     "os/signal",
			"slog":       "log/slog",
			"syscall":    "syscall",
			"time":       "time",
			"logs":       "github.com/beego/beego/v2/core/logs",
			"prometheus": "github.com/prometheus/client_golang/prometheus",
			"redis":      "github.com/beego-session/redis",
			"redisprom":  "github.com/beego-session/redis/redisprom",
			"session":    "github.com/beego/beego/v2/server/web/session",
			"web":        "github.com/beego/beego/v2/server/web",
		},
		Variables: map[string]string{
			"c":        "web.Controller",
			"ctx":      "context.Context",
			"server":   "*http.Server",
			"sessions": "*redis.Provider",
			"store":    "*redis.SessionStore",
		},
	}, blocks)
}

func theTestsContain(t *testing.T, dir, text string) (found bool) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		data, err := os.ReadFile(path)
		found = found || strings.Contains(string(data), text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// configured reads app.conf as beego does, and then the sessions' configuration in it.
func configured(t *testing.T, blocks []markdown.Code) {
	lines, inDir := map[string]bool{}, etcShop(t)
	modes := map[client.Mode]int{}
	for _, block := range blocks {
		conf, err := beegoconfig.NewConfigData("ini", []byte(inDir(block.Text)))
		if err != nil {
			t.Errorf("%s: %v", block.At(), err)
			continue
		}
		for _, line := range block.Commands() {
			name, _, _ := strings.Cut(line, " ")
			lines[strings.ToLower(name)] = true
		}
		name, _ := conf.String("SessionProvider")
		line, _ := conf.String("SessionProviderConfig")
		mode, ok := modeOf[name]
		if !ok || line == "" {
			t.Errorf("%s: no provider or no configuration", block.At())
		}
		cfg := parsed(t, block, mode, line)
		modes[cfg.client.Mode]++
		if strings.Contains(line, "rediss://") && (cfg.client.TLS == nil || cfg.client.Password == nil) ||
			strings.Contains(line, "sentinel_tls") && (cfg.client.TLS == nil || cfg.client.SentinelTLS != nil) ||
			strings.Contains(line, "unix://") && cfg.client.Network != "unix" ||
			name == "mine" && cfg.settings.connects() {
			t.Errorf("%s is read as %+v", block.At(), cfg.client)
		}
	}
	if modes[client.Standalone] < 3 || modes[client.Sentinel] < 2 || modes[client.Cluster] < 1 {
		t.Errorf("the docs show %v", modes)
	}
	for line := range lines {
		if !beegoReads[line] {
			t.Errorf("beego does not read %s", line)
		}
	}
}

// modeOf is by the names of the providers, of which "mine" has its own client.
var modeOf = map[string]client.Mode{"redis": client.Standalone, "redis_sentinel": client.Sentinel, "redis_cluster": client.Cluster, "mine": client.Standalone}

// beegoReads are the names that lines of an app.conf have.
var beegoReads = func() map[string]bool {
	is := map[string]bool{}
	var add func(reflect.Type)
	add = func(kind reflect.Type) {
		for i := range kind.NumField() {
			if field := kind.Field(i); field.Type.Kind() == reflect.Struct {
				add(field.Type)
			} else {
				is[strings.ToLower(field.Name)] = true
			}
		}
	}
	add(reflect.TypeOf(*web.BConfig))
	return is
}()

func parsed(t *testing.T, at markdown.Code, mode client.Mode, line string) config {
	t.Helper()
	cfg, warnings, err := parseConfig(mode, line)
	if err != nil || len(warnings) > 0 {
		t.Errorf("%s: %s: %v %q", at.At(), line, err, warnings)
	}
	return cfg
}

// etcShop returns a function that puts a folder in the place of /etc/shop, with the files that the docs have there.
func etcShop(t *testing.T) func(text string) string {
	t.Helper()
	dir := t.TempDir()
	ca, err := os.ReadFile(redistest.NewCerts(t).CAFile)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"ca.pem":         ca,
		"redis-password": []byte("secret\n"),
		"session-keys":   []byte(base64.StdEncoding.EncodeToString(make([]byte, 32))),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(text string) string { return strings.ReplaceAll(text, "/etc/shop", dir) }
}

// A configuration within a line is JSON, a key and its value of that, a URL, beego's form, or a line of an app.conf. The scheme of a URL alone is none.
var (
	isJSON      = regexp.MustCompile(`^\{"`)
	isEntry     = regexp.MustCompile(`^"\w+": `)
	isConfigURL = regexp.MustCompile(`^(redis|valkey|unix)[a-z+]*://.`)
	isComma     = regexp.MustCompile(`^[\w.]+:\d+(;[\w.]+:\d+)*,`)
	isConfLine  = regexp.MustCompile(`^([A-Z]\w+) = (.*)$`)
)

func TestTheConfigurationsInTheTextAreRead(t *testing.T) {
	inDir := etcShop(t)
	t.Setenv("REDIS_PASSWORD", "secret")
	_, spans := markdown.All(t, ".")
	read := 0
	for _, span := range spans {
		mode, line := client.Standalone, inDir(span.Text)
		if conf := isConfLine.FindStringSubmatch(line); conf != nil {
			if !beegoReads[strings.ToLower(conf[1])] {
				t.Errorf("%s: beego does not read %s", span.At(), conf[1])
			}
			if line = conf[2]; conf[1] != "SessionProviderConfig" || strings.HasPrefix(line, "${") {
				continue
			}
		}
		if isComma.MatchString(line) && strings.Contains(line, ":26379") {
			mode = client.Sentinel
		} else if isComma.MatchString(line) && strings.Contains(line, ";") {
			mode = client.Cluster
		}
		switch {
		case isJSON.MatchString(line), isConfigURL.MatchString(line), isComma.MatchString(line):
			cfg := parsed(t, span, mode, line)
			if cfg.client.Mode == client.Sentinel && cfg.client.MasterName != "mymaster" {
				t.Errorf("%s: the name of the master is read as %q", span.At(), cfg.client.MasterName)
			}
		case isEntry.MatchString(line):
			if !strings.HasPrefix(line, `"save_path"`) {
				line = `"save_path": "127.0.0.1:6379", ` + line
			}
			parsed(t, span, mode, "{"+line+"}")
		default:
			continue
		}
		read++
	}
	if read < 20 {
		t.Errorf("%d are read: the others were not found by this test", read)
	}
}

// TestWhatThePasswordsInTheReadmeCannotBe is about the forms that README.md warns of.
func TestWhatThePasswordsInTheReadmeCannotBe(t *testing.T) {
	cfg, warnings, err := parseConfig(client.Standalone, "127.0.0.1:6379,100,pa,ss")
	if err != nil || cfg.settings.Password != "pa" || len(warnings) != 1 || !strings.Contains(warnings[0], "part 4") {
		t.Errorf("a comma: %+v %q %v", cfg.settings, warnings, err)
	}
	t.Setenv("REDIS_PASSWORD", "secret")
	for _, line := range []string{
		`{"save_path": "127.0.0.1:6379", "password": "${REDIS_PASSWORD}"}`,
		`redis://:${REDIS_PASSWORD}@127.0.0.1:6379`,
		`127.0.0.1:6379,100,${REDIS_PASSWORD}`,
	} {
		conf, err := beegoconfig.NewConfigData("ini", []byte("SessionProviderConfig = "+line))
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := conf.String("SessionProviderConfig"); got != line {
			t.Errorf("beego reads %s as %s", line, got)
		}
	}
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

// startsRedis starts a server with the directives of each block, and looks whether it has them.
func startsRedis(t *testing.T, blocks []markdown.Code) {
	if len(blocks) < 2 {
		t.Errorf("the docs show %d blocks", len(blocks))
	}
	for _, block := range blocks {
		var args []string
		for _, line := range block.Commands() {
			name, value, _ := strings.Cut(line, " ")
			args = append(args, "--"+name, strings.TrimSpace(value))
		}
		s := redistest.Start(t, args...)
		for i := 0; i < len(args); i += 2 {
			name, want := strings.TrimPrefix(args[i], "--"), strings.Replace(args[i+1], "2gb", "2147483648", 1)
			if got, err := s.Client().ConfigGet(name).Result(); err != nil || len(got) != 2 || got[1] != want {
				t.Errorf("%s: the server has %v (%v), want %s", block.At(), got, err, want)
			}
		}
	}
}

// makesUsers looks whether a server understands each command that makes a user; rights_test.go tries the user.
func makesUsers(t *testing.T, blocks []markdown.Code) {
	for _, block := range blocks {
		for _, line := range block.Commands() {
			var words []any
			for _, word := range strings.Fields(line) {
				words = append(words, word)
			}
			if !strings.HasPrefix(line, "ACL SETUSER ") {
				t.Errorf("%s: no test reads %s", block.At(), line)
			} else if err := redistest.Start(t).Client().Do(words...).Err(); err != nil {
				t.Errorf("%s: %v", block.At(), err)
			}
		}
	}
}

// Commands are those of a block, and what begins like one within a line.
var isCommand = regexp.MustCompile(`^(\.ci/\w+|apt-get|beego-sessions|curl|docker|git|go|govulncheck|grep|openssl|promtool|redis-cli|redis-server|valkey-server|cd) .`)

func TestTheCommandsInTheTextAreRun(t *testing.T) {
	_, spans := markdown.All(t, ".")
	var commands []markdown.Code
	for _, span := range spans {
		if isCommand.MatchString(span.Text) {
			commands = append(commands, span)
		}
	}
	commanded(t, commands)
}

// elsewhere has commands that are run elsewhere, and what stands there.
var elsewhere = map[string]struct{ file, text string }{
	"go run ./examples/visits":                 {".ci/run", "go run ./examples/visits -addr"},
	"go test ./...":                            {".ci/run", `$test_command`},
	"apt-get install redis-server":             {".ci/run", "missing+=(redis-server)"},
	"go get github.com/beego-session/redis":    {".ci/run", ".ci/first-site"},
	"go get github.com/beego/beego/v2@v2.3.10": {".ci/run", ".ci/first-site"},
	"go mod init shop":                         {".ci/run", ".ci/first-site"},
	"go mod tidy":                              {".ci/run", ".ci/first-site"},
	"go run .":                                 {".ci/run", ".ci/first-site"},

	"go get github.com/beego-session/redis github.com/beego-session/redis/adapters": {"adapters/module_test.go", "func TestASiteGetsBothModules("},
}

// commanded looks for where each command is run, or runs it if it only looks.
func commanded(t *testing.T, blocks []markdown.Code) {
	for _, block := range blocks {
		for _, command := range block.Commands() {
			words := strings.Fields(command)
			place, known := elsewhere[command]
			switch {
			case known:
				text, err := os.ReadFile(place.file)
				if err != nil || !strings.Contains(string(text), place.text) {
					t.Errorf("%s: %s is not run by %s (%v)", block.At(), command, place.file, err)
				}
			case words[0] == "beego-sessions", strings.HasPrefix(command, "go run github.com/beego-session/redis/cmd/beego-sessions "):
				if !theTestsContain(t, "cmd/beego-sessions", "markdown.All(") {
					t.Errorf("%s: %s is not run by the tests of the command", block.At(), command)
				}
			case words[0] == ".ci/server" && len(words) == 2:
				if script, err := os.ReadFile(".ci/server"); err != nil || !strings.Contains(string(script), "\n"+words[1]+") ") {
					t.Errorf("%s: %s: there is no such server (%v)", block.At(), command, err)
				}
			case words[0] == ".ci/run":
				script, err := os.ReadFile(".ci/run")
				for _, step := range words[1:] {
					if err != nil || !strings.Contains(string(script), "\n"+step+"() {") {
						t.Errorf("%s: %s: there is no such step (%v)", block.At(), command, err)
					}
				}
			case strings.Contains(command, "go test "):
				measures(t, block, command)
			case words[0] == "grep", words[0] == "go" && words[1] == "list":
				if _, err := exec.LookPath("sh"); err != nil {
					continue
				}
				if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil || len(out) == 0 {
					t.Errorf("%s: %s: %v %s", block.At(), command, err, out)
				}
			case words[0] == "openssl":
				makesAKey(t, block, words)
			default:
				t.Errorf("%s: no test runs %s", block.At(), command)
			}
		}
	}
}

// measures checks a command that is too long to be run: it names tests or benchmarks, and flags, that there are.
func measures(t *testing.T, at markdown.Code, command string) {
	t.Helper()
	dir := "."
	if rest, ok := strings.CutPrefix(command, "cd "); ok {
		dir, command, _ = strings.Cut(rest, " && ")
	}
	words := regexp.MustCompile(`'[^']*'|"[^"]*"|\S+`).FindAllString(strings.TrimPrefix(command, "go test "), -1)
	for i, word := range words {
		name, ok := strings.CutPrefix(word, "-")
		if !ok {
			continue
		}
		name, value, _ := strings.Cut(name, "=")
		if name == "overlay" {
			dir = filepath.Dir(value)
		}
		if name == "overlay" || name == "modfile" {
			if _, err := os.Stat(value); err != nil {
				t.Errorf("%s: %v", at.At(), err)
			}
			continue
		}
		switch name {
		case "run", "bench":
			kind := map[string]string{"run": "Test", "bench": "Benchmark"}[name]
			pattern := strings.Trim(words[i+1], "'")
			if pattern == "^$" && name == "run" {
				continue
			}
			out, err := grepTests(dir, `(?m)^func (`+kind+`\w+)\(`, pattern)
			if err != nil || !out {
				t.Errorf("%s: there is no %s that %s matches (%v)", at.At(), kind, pattern, err)
			}
		case "v", "count", "timeout", "benchtime", "benchmem", "race", "cpu":
		default:
			out, err := grepTests(dir, `flag\.\w+\("([^"]+)"`, "^"+regexp.QuoteMeta(name)+"$")
			if err != nil || !out {
				t.Errorf("%s: there is no flag -%s (%v)", at.At(), name, err)
			}
		}
	}
}

// grepTests reports whether something in the tests of a folder is as the first expression says, and matches the second.
func grepTests(dir, what, pattern string) (bool, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		return false, err
	}
	match, err := regexp.Compile(pattern)
	if err != nil {
		return false, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return false, err
		}
		for _, found := range regexp.MustCompile(what).FindAllSubmatch(text, -1) {
			if match.Match(found[1]) {
				return true, nil
			}
		}
	}
	return false, nil
}

// makesAKey runs openssl, where there is one, and reads what it writes as a key.
func makesAKey(t *testing.T, at markdown.Code, words []string) {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		return
	}
	file := filepath.Join(t.TempDir(), "session-keys")
	out, err := exec.Command(words[0], words[1:]...).Output()
	if err == nil {
		err = os.WriteFile(file, out, 0o600)
	}
	if err != nil {
		t.Fatalf("%s: %v", at.At(), err)
	}
	parsed(t, at, client.Standalone, `{"encryption_keys_file": "`+filepath.ToSlash(file)+`"}`)
}

// outputs are what the blocks of text show, by their first line: the test that sees the same, and what it looks for.
var outputs = map[string]struct{ file, text string }{
	"panic: session/redis: connect at 127.0.0.1:6379: dial tcp 127.0.0.1:6379: connect: connection refused": {"redisdown_test.go", "readme(t, `(panic: session/redis: "},
}

// shownToUsers looks for the test that sees what a block shows.
func shownToUsers(t *testing.T, blocks []markdown.Code) {
	for _, block := range blocks {
		first, _, _ := strings.Cut(block.Text, "\n")
		if strings.HasPrefix(first, "$ beego-sessions ") {
			commanded(t, []markdown.Code{{Page: block.Page, Line: block.Line, Text: strings.TrimPrefix(first, "$ ")}})
			continue
		}
		place, ok := outputs[first]
		if !ok {
			t.Errorf("%s: no test sees %q", block.At(), first)
			continue
		}
		if text, err := os.ReadFile(place.file); err != nil || !strings.Contains(string(text), place.text) {
			t.Errorf("%s: %s does not see it (%v)", block.At(), place.file, err)
		}
	}
}

// What the text calls sessions and store is a provider and a session's store, and redis is this package.
var mention = regexp.MustCompile(`(^|[^\w.*])(sessions|store|redis)\.([A-Z]\w*)`)

func TestWhatTheTextCallsIsThere(t *testing.T) {
	declared := map[string]bool{}
	packages, err := parser.ParseDir(token.NewFileSet(), ".", func(info fs.FileInfo) bool {
		return !strings.HasSuffix(info.Name(), "_test.go")
	}, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range packages["redis"].Files {
		for _, name := range markdown.Declared(file) {
			declared[name] = true
		}
	}
	of := map[string]string{"sessions": "Provider.", "store": "SessionStore.", "redis": ""}
	_, spans := markdown.All(t, ".")
	for _, span := range spans {
		for _, found := range mention.FindAllStringSubmatch(span.Text, -1) {
			if !declared[of[found[2]]+found[3]] {
				t.Errorf("%s: there is no %s.%s", span.At(), found[2], found[3])
			}
		}
	}
}

// The first column of a row in the house plan.
var isOwner = regexp.MustCompile("(?m)^\\| (`[^|]*`) \\| .* \\|$")

func TestTheHousePlanHasEachFile(t *testing.T) {
	page, err := os.ReadFile("CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	var planned, there []string
	for _, row := range isOwner.FindAllStringSubmatch(string(page), -1) {
		for _, name := range strings.Split(row[1], ", ") {
			planned = append(planned, strings.Trim(name, "`"))
		}
	}
	for _, pattern := range []string{"*.go", "*.lua", "internal/*", "cmd/*", "examples/*", "*/go.mod", "*/*.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(pattern, ".mod") || pattern == "*/*.go" {
				file = filepath.Dir(file)
			}
			if !strings.HasSuffix(file, "_test.go") {
				there = append(there, filepath.ToSlash(file))
			}
		}
	}
	slices.Sort(there)
	there = slices.Compact(there)
	for _, file := range there {
		if !slices.Contains(planned, file) {
			t.Errorf("CONTRIBUTING.md does not say what %s owns", file)
		}
	}
	for _, file := range planned {
		if !slices.Contains(there, file) {
			t.Errorf("CONTRIBUTING.md says what %s owns, which there is not", file)
		}
	}
}

func TestTheBordersInTheHousePlanAreKept(t *testing.T) {
	const beego, goRedis = "github.com/beego/beego", "github.com/go-redis/redis"
	for pattern, strangers := range map[string][]string{
		"commands.go":          {beego},
		"store.go":             {goRedis},
		"internal/gobmap/*.go": {beego, goRedis},
		"internal/record/*.go": {beego, goRedis},
	} {
		files, err := filepath.Glob(pattern)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, path := range files {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			for _, spec := range file.Imports {
				for _, stranger := range strangers {
					if strings.Contains(spec.Path.Value, stranger) {
						t.Errorf("%s imports %s", path, spec.Path.Value)
					}
				}
			}
		}
	}
}
