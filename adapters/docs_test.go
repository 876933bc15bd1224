// What the documentation shows of these clients is vetted here, because the root module does not have them.

package adapters

import (
	"strings"
	"testing"

	"github.com/beego-session/redis/internal/markdown"
)

func TestTheCodeInTheDocsCompiles(t *testing.T) {
	blocks, _ := markdown.All(t, "..")
	var code []markdown.Code
	for _, block := range blocks {
		if block.Language == "go" && strings.Contains(block.Text, `"github.com/beego-session/redis/adapters/`) {
			code = append(code, block)
		}
	}
	markdown.Vet(t, ".", markdown.Context{}, code)
}
