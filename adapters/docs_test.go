package adapters_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/beego-session/redis/internal/markdown"
)

// The pieces of Go in the documentation that import an adapter.
func TestTheDocsCompile(t *testing.T) {
	blocks, _ := markdown.All(t, "..")
	blocks = slices.DeleteFunc(blocks, func(block markdown.Code) bool {
		return block.Language != "go" || !strings.Contains(block.Text, `"github.com/beego-session/redis/adapters/`)
	})
	if len(blocks) < 2 {
		t.Errorf("the docs show %d pieces", len(blocks))
	}
	markdown.Vet(t, ".", markdown.Context{}, blocks)
}
