// The end of a site that is written as README.md has it.

package redis_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/beego-session/redis/internal/markdown"
)

// TestTheReadmesSiteStopsInPeace tells a site to end while it serves a request: that has its answer, and its session is saved.
func TestTheReadmesSiteStopsInPeace(t *testing.T) {
	t.Parallel()
	m := miniredis.RunT(t)
	listener := must(net.Listen("tcp", "127.0.0.1:0")) // whose port is free when the site begins
	addr := listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	site := t.TempDir()
	markdown.Site(t, site, ".")
	host, port, _ := strings.Cut(addr, ":")
	for name, content := range map[string]string{
		"conf/app.conf": fmt.Sprintf("runmode = prod\nhttpaddr = %s\nhttpport = %s\nsessionon = true\nsessionprovider = redis\nsessionproviderconfig = %s\n",
			host, port, m.Addr()),
		"main.go": "package main\n\nimport (\n\t\"context\"\n\t\"os\"\n\t\"os/signal\"\n\t\"syscall\"\n\t\"time\"\n\n" +
			"\t\"github.com/beego-session/redis\"\n\t\"github.com/beego/beego/v2/server/web\"\n\t\"github.com/beego/beego/v2/server/web/session\"\n)\n\n" +
			readme(t, "(?s)## Stop\n.*?```go\n(.*?)```"),
		"slow.go": `package main

import (
	"fmt"
	"time"

	"github.com/beego/beego/v2/server/web"
	"github.com/beego/beego/v2/server/web/context"
)

func init() {
	web.Get("/", func(ctx *context.Context) { ctx.WriteString("up") })
	web.Get("/slow", func(ctx *context.Context) {
		fmt.Println("under way")
		time.Sleep(time.Second)
		ctx.Output.Session("visits", 1)
		ctx.WriteString("done")
	})
}
`,
	} {
		path := filepath.Join(site, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	build := exec.Command("go", "build", "-mod=mod", "-o", "site", ".")
	build.Dir, build.Env = site, append(os.Environ(), "GOPROXY=off", "GOFLAGS=", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}

	process := exec.Command(filepath.Join(site, "site"))
	process.Dir = site
	out := must(process.StdoutPipe())
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = process.Process.Kill() }()
	await(t, "the site", func() bool {
		response, err := http.Get("http://" + addr)
		if err == nil {
			_ = response.Body.Close()
		}
		return err == nil
	})
	stored := len(sessions(m.Keys()))
	answer := make(chan string)
	go func() {
		response, err := http.Get("http://" + addr + "/slow")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		answer <- fmt.Sprint(string(body), err)
	}()
	said := ""
	for buffer := make([]byte, 1024); !strings.Contains(said, "under way"); {
		n, err := out.Read(buffer)
		if said += string(buffer[:n]); err != nil {
			t.Fatalf("%v after %s", err, said)
		}
	}
	if err := process.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if got := <-answer; got != "done<nil>" {
		t.Errorf("the request that was under way got %s", got)
	}
	ended := make(chan error)
	go func() {
		_, _ = io.Copy(io.Discard, out)
		ended <- process.Wait()
	}()
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("the site ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the site does not end")
	}
	if keys := sessions(m.Keys()); len(keys) != stored+1 {
		t.Errorf("%d sessions before the last request, then %d", stored, len(keys))
	}
}
