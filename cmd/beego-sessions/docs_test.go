// What the documentation shows of the command is run here.

package main

import (
	"strings"
	"testing"

	"github.com/beego-session/redis/internal/markdown"
	"github.com/beego-session/redis/internal/record"
	"github.com/beego-session/redis/internal/redistest"
)

func TestTheCommandLinesInTheDocsAreRun(t *testing.T) {
	s := redistest.Start(t)
	value, err := record.Encode(of("ann"), "", record.Meta{}, record.NewVersion())
	if err != nil {
		t.Fatal(err)
	}
	ran := map[string]bool{}
	blocks, spans := markdown.All(t, "../..")
	for _, code := range append(blocks, spans...) {
		for _, line := range code.Commands() {
			args, ok := arguments(line)
			if !ok || strings.HasPrefix(code.Language, "text") && !strings.HasPrefix(line, "$ ") {
				continue
			}
			const id = "3f9a1c8e5d7b2046" // which they show and end
			if err := s.Client().Set("shop:"+id, string(value), 0).Err(); err != nil {
				t.Fatal(err)
			}
			listed(t, withUsers(s.Addr()), id)
			if args[0] == "top" {
				args = append(args, "-n", "1") // or it does not end
			}
			got := cli{asks: true, answer: "yes\n"}.run(ctx, append(args, "-config", withUsers(s.Addr()))...)
			if got.status != 0 {
				t.Errorf("%s: %s: %+v", code.At(), line, got)
			}
			ran[args[0]] = true
		}
	}
	for name := range commands {
		if !ran[name] {
			t.Errorf("the docs show no %s", name)
		}
	}
}

// arguments returns what a line gives the command, but for where the sessions are. In a line of text the command's own name may be left out.
func arguments(line string) (args []string, ok bool) {
	words, named := strings.Fields(line), false
	for i, word := range words {
		if named = word == "beego-sessions" || strings.HasSuffix(word, "/beego-sessions"); named {
			words = words[i+1:]
			break
		}
	}
	for i := 0; i < len(words); i++ {
		if words[i] == "-app" {
			i++
			continue
		}
		args = append(args, words[i])
	}
	switch {
	case len(args) == 0:
		return nil, false
	case named:
		return args, true
	case args[0] == "show" || args[0] == "end":
		return args, len(args) > 1
	}
	_, ok = commands[args[0]]
	return args, ok
}
