// This file owns how long tests take.

package redistest

import (
	"flag"
	"os"
	"testing"
)

// Times returns how often a test does what it does: few, or many with LONG_TESTS=1 in the environment.
func Times(few, many int) int {
	if os.Getenv("LONG_TESTS") == "1" {
		return many
	}
	return few
}

// Main is for TestMain of a package whose tests mostly wait for servers: it runs more of them at once than there are
// CPUs, unless -parallel says how many. And it keeps spare clusters.
func Main(m *testing.M) {
	flag.Parse()
	parallel := "6"
	flag.Visit(func(f *flag.Flag) {
		if f.Name == "test.parallel" {
			parallel = f.Value.String()
		}
	})
	_ = flag.Set("test.parallel", parallel)
	end := keepSpares()
	code := m.Run()
	end()
	os.Exit(code)
}
