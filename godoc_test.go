// The documentation of the packages, as pkg.go.dev shows it: every exported name has one, and its links lead somewhere.

package redis

import (
	"go/ast"
	"go/doc"
	"go/doc/comment"
	"go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

func TestEveryExportedNameIsDocumented(t *testing.T) {
	t.Parallel()
	for dir, path := range map[string]string{".": "", "redisprom": "/redisprom", "cmd/beego-sessions": "/cmd/beego-sessions"} {
		pkg := packageDoc(t, dir, "github.com/beego-session/redis"+path)
		described := func(name, text string) {
			t.Helper()
			if text == "" {
				t.Errorf("%s: %s has no documentation", dir, name)
			}
			for _, block := range pkg.Parser().Parse(text).Content {
				for _, broken := range brokenLinks(block) {
					t.Errorf("%s: the documentation of %s has a link that leads nowhere: %s", dir, name, broken)
				}
			}
		}
		described("the package", pkg.Doc)
		funcs := pkg.Funcs
		values := append(pkg.Vars, pkg.Consts...)
		for _, typ := range pkg.Types {
			described(typ.Name, typ.Doc)
			funcs = append(append(funcs, typ.Funcs...), typ.Methods...)
			values = append(append(values, typ.Vars...), typ.Consts...)
		}
		for _, f := range funcs {
			described(f.Recv+" "+f.Name, f.Doc)
		}
		for _, v := range values {
			described(strings.Join(v.Names, ", "), v.Doc)
		}
	}
}

func packageDoc(t *testing.T, dir, path string) *doc.Package {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	set := token.NewFileSet()
	var files []*ast.File
	for _, entry := range entries {
		if name := entry.Name(); strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go") {
			file, err := parser.ParseFile(set, dir+"/"+name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
	}
	pkg, err := doc.NewFromFiles(set, files, path)
	if err != nil {
		t.Fatal(err)
	}
	return pkg
}

// likeALink is what stays in a text of a link that the parser has not resolved.
var likeALink = regexp.MustCompile(`\[[*A-Za-z][\w./]*\]`)

// brokenLinks returns what looks like a link in a block of a comment, and is none, or leads to nothing in this module's own package.
func brokenLinks(block comment.Block) (broken []string) {
	var texts []comment.Text
	switch b := block.(type) {
	case *comment.Paragraph:
		texts = b.Text
	case *comment.List:
		for _, item := range b.Items {
			for _, inner := range item.Content {
				broken = append(broken, brokenLinks(inner)...)
			}
		}
	}
	for _, text := range texts {
		if plain, ok := text.(comment.Plain); ok {
			broken = append(broken, likeALink.FindAllString(string(plain), -1)...)
		}
	}
	return broken
}
