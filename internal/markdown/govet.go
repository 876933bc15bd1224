// Go in the documentation is compiled and vetted, as the code of a site that requires this module.

package markdown

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// Context is what a reader of a piece of Go is supposed to have: it need not be a whole file.
type Context struct {
	Imports   map[string]string // by the names under which a piece uses packages that it does not import itself
	Variables map[string]string // the types of variables that it does not declare itself
}

// Vet has the code compiled and vetted with what the module at root requires. What is declared in it may be unused.
func Vet(tb testing.TB, root string, context Context, code []Code) {
	tb.Helper()
	dir := tb.TempDir()
	Site(tb, dir, root)
	for i, c := range code {
		source, err := source(c, context)
		if err != nil {
			tb.Errorf("%s: %v", c.At(), err)
			continue
		}
		folder := filepath.Join(dir, fmt.Sprint("code", i))
		if err := os.Mkdir(folder, 0o700); err != nil {
			tb.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, "code.go"), source, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
	command := exec.Command("go", "vet", "-mod=mod", "./...")
	command.Dir = dir
	if out, err := command.CombinedOutput(); err != nil {
		tb.Errorf("go vet: %v\n%s", err, out)
	}
}

var (
	moduleLine  = regexp.MustCompile(`(?m)^module (\S+)$`)
	replacement = regexp.MustCompile(`(?m)=> (\.\S*)$`)
)

// Site makes dir a module that requires the one at root, and all that this requires: nothing has to be fetched.
func Site(tb testing.TB, dir, root string) {
	tb.Helper()
	root, err := filepath.Abs(root)
	if err != nil {
		tb.Fatal(err)
	}
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		tb.Fatal(err)
	}
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		tb.Fatal(err)
	}
	module := string(moduleLine.FindSubmatch(mod)[1])
	text := replacement.ReplaceAllStringFunc(string(mod), func(found string) string {
		return fmt.Sprintf("=> %q", filepath.Join(root, strings.TrimPrefix(found, "=> ")))
	})
	text = strings.Replace(text, "module "+module, "module site", 1)
	text += fmt.Sprintf("\nrequire %s v0.0.0\n\nreplace %[1]s v0.0.0 => %q\n", module, root)
	for name, content := range map[string][]byte{"go.mod": []byte(text), "go.sum": sum} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			tb.Fatal(err)
		}
	}
}

// source makes a file of a piece of Go: a whole one, declarations, or statements.
func source(c Code, context Context) ([]byte, error) {
	text, head := c.Text, "package code\n"
	files := token.NewFileSet()
	parse := func(before, after string) (*ast.File, error) {
		return parser.ParseFile(files, c.Page, before+text+after, parser.SkipObjectResolution)
	}
	var unused []string // what statements declare
	before, after := "", ""
	file, err := parse("", "")
	if err != nil {
		before = "package code;"
		if file, err = parse(before, ""); err != nil {
			var inside error
			before, after = "package code; func _() {", "}"
			if file, inside = parse(before, "\n"+after); inside != nil {
				return nil, fmt.Errorf("neither a file (%v) nor statements (%v)", err, inside)
			}
			body := file.Decls[0].(*ast.FuncDecl).Body.List
			for _, statement := range body {
				if assign, ok := statement.(*ast.AssignStmt); ok && assign.Tok == token.DEFINE {
					for _, left := range assign.Lhs {
						unused = append(unused, left.(*ast.Ident).Name)
					}
				}
			}
		}
	} else {
		head = ""
	}

	used, declared, receivers := names(file)
	var out bytes.Buffer
	if head == "" {
		fmt.Fprintf(&out, "//line %s:%d\n%s", c.Page, c.Line, text)
		return out.Bytes(), nil
	}
	out.WriteString(head)
	variables := map[string]string{}
	for name, kind := range context.Variables {
		if used[name] && !declared[name] {
			variables[name] = kind
			used[strings.TrimLeft(strings.Split(kind, ".")[0], "*[]")] = true
		}
	}
	for _, receiver := range receivers {
		if !declared[receiver] {
			used["web"] = true
		}
	}
	if after == "" { // declarations may begin with imports of their own: they come first
		var rest string
		imports, err := parser.ParseFile(files, c.Page, before+text, parser.ImportsOnly)
		if err != nil {
			return nil, err
		}
		if n := len(imports.Decls); n > 0 {
			end := files.Position(imports.Decls[n-1].End()).Offset - len(before)
			fmt.Fprintf(&out, "//line %s:%d\n%s\n", c.Page, c.Line, text[:end])
			text, rest = text[end:], text[:end]
		}
		c.Line += strings.Count(rest, "\n")
	}
	for name, path := range context.Imports {
		if used[name] && !declared[name] {
			fmt.Fprintf(&out, "import %s %q\n", name, path)
		}
	}
	for name, kind := range variables {
		fmt.Fprintf(&out, "var %s %s\n", name, kind)
	}
	for _, receiver := range receivers {
		if !declared[receiver] {
			fmt.Fprintf(&out, "type %s struct{ web.Controller }\n", receiver)
		}
	}
	if after != "" {
		out.WriteString("func _() {\n")
	}
	fmt.Fprintf(&out, "//line %s:%d\n%s\n", c.Page, c.Line, text)
	for _, name := range unused {
		if name != "_" {
			fmt.Fprintf(&out, "_ = %s\n", name)
		}
	}
	out.WriteString(after)
	return out.Bytes(), nil
}

// names returns which names a file uses, which it declares in its outermost scope or imports, and what its methods are of.
func names(file *ast.File) (used, declared map[string]bool, receivers []string) {
	used, declared = map[string]bool{}, map[string]bool{}
	ast.Inspect(file, func(node ast.Node) bool {
		if ident, ok := node.(*ast.Ident); ok {
			used[ident.Name] = true
		}
		return true
	})
	for _, spec := range file.Imports {
		path, _ := strconv.Unquote(spec.Path.Value)
		parts := strings.Split(path, "/")
		name := parts[len(parts)-1]
		if len(parts) > 1 && strings.HasPrefix(name, "v") && strings.Trim(name[1:], "0123456789") == "" {
			name = parts[len(parts)-2]
		}
		if spec.Name != nil {
			name = spec.Name.Name
		}
		declared[name] = true
	}
	for _, name := range Declared(file) {
		of, _, method := strings.Cut(name, ".")
		switch {
		case !method:
			declared[name] = true
		case of != "" && !slices.Contains(receivers, of):
			receivers = append(receivers, of)
		}
	}
	return used, declared, receivers
}

// Declared returns the names that a file declares in its outermost scope. That of a method is like Type.Method.
func Declared(file *ast.File) (names []string) {
	for _, decl := range file.Decls {
		switch decl := decl.(type) {
		case *ast.FuncDecl:
			of := ""
			if decl.Recv != nil {
				of = receiver(decl) + "."
			}
			names = append(names, of+decl.Name.Name)
		case *ast.GenDecl:
			for _, spec := range decl.Specs {
				switch spec := spec.(type) {
				case *ast.TypeSpec:
					names = append(names, spec.Name.Name)
				case *ast.ValueSpec:
					for _, name := range spec.Names {
						names = append(names, name.Name)
					}
				}
			}
		}
	}
	return names
}

// receiver returns what a method is of, or nothing where that has type parameters.
func receiver(method *ast.FuncDecl) string {
	kind := method.Recv.List[0].Type
	if star, ok := kind.(*ast.StarExpr); ok {
		kind = star.X
	}
	if name, ok := kind.(*ast.Ident); ok {
		return name.Name
	}
	return ""
}
