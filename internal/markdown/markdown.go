// Package markdown reads the code in the documentation, for the tests that run or check each piece of it.
//
// This file finds it; govet.go has Go's own tools check what is Go.
package markdown

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Code is a fenced block, or what stands between backquotes in a line.
type Code struct {
	Page     string // its path from the root of the repository, with slashes
	Line     int    // of the page, where the code begins
	Language string // of a block: the word behind the fence
	Text     string
}

// At is where the code is, like README.md:12.
func (c Code) At() string { return fmt.Sprintf("%s:%d", c.Page, c.Line) }

// Commands are the lines of a block of shell commands, without the prompts and comments.
func (c Code) Commands() (commands []string) {
	for _, line := range strings.Split(c.Text, "\n") {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "#") {
			commands = append(commands, line)
		}
	}
	return commands
}

// Pages returns the paths of all pages below root, but for those in hidden folders.
func Pages(tb testing.TB, root string) (pages []string) {
	tb.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && path != root && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case filepath.Ext(path) == ".md":
			rel, err := filepath.Rel(root, path)
			pages = append(pages, filepath.ToSlash(rel))
			return err
		}
		return nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	return pages
}

// All returns the code of all pages below root.
func All(tb testing.TB, root string) (blocks, spans []Code) {
	tb.Helper()
	for _, page := range Pages(tb, root) {
		text, err := os.ReadFile(filepath.Join(root, page))
		if err != nil {
			tb.Fatal(err)
		}
		b, s, err := Read(page, string(text))
		if err != nil {
			tb.Error(err)
		}
		blocks, spans = append(blocks, b...), append(spans, s...)
	}
	return blocks, spans
}

var (
	fence = regexp.MustCompile("^( *)```(.*)$")
	span  = regexp.MustCompile("``(.+?)``|`([^`]+)`")
)

// Read returns the code of a page.
func Read(page, text string) (blocks, spans []Code, err error) {
	var block *Code
	var indent string
	for i, line := range strings.Split(text, "\n") {
		switch mark := fence.FindStringSubmatch(line); {
		case mark != nil && block == nil:
			indent, block = mark[1], &Code{page, i + 2, strings.TrimSpace(mark[2]), ""}
		case mark != nil:
			blocks, block = append(blocks, *block), nil
		case block != nil:
			block.Text += strings.TrimPrefix(line, indent) + "\n"
		default:
			if strings.HasPrefix(line, "|") {
				line = strings.ReplaceAll(line, `\|`, "|")
			}
			for _, found := range span.FindAllStringSubmatch(line, -1) {
				spans = append(spans, Code{page, i + 1, "", found[1] + found[2]})
			}
		}
	}
	if block != nil {
		err = fmt.Errorf("%s: the block does not end", block.At())
	}
	return blocks, spans, err
}
