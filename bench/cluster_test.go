// What a cluster costs: one master, and three, against a server that is no cluster.

package bench

import (
	"fmt"
	"strings"
	"testing"

	"github.com/beego-session/redis/internal/redistest"
	"github.com/beego/beego/v2/server/web/session"
	beegocluster "github.com/beego/beego/v2/server/web/session/redis_cluster"
)

const alone, oneMaster, threeMasters = "standalone", "one master", "three masters"

// topologies are the providers and where they are compared.
var topologies = []struct {
	provider, on string
	open         func(addrs string) (store, error)
}{
	{this, alone, openBeego("this", "%s")},
	{this, oneMaster, openBeego("this", `{"save_path":%q,"mode":"cluster"}`)},
	{this, threeMasters, openBeego("this", `{"save_path":%q,"mode":"cluster"}`)},
	{beego, alone, openBeego("beego", "%s")},
	{beego, oneMaster, openBeegoCluster},
	{beego, threeMasters, openBeegoCluster},
}

func openBeegoCluster(addrs string) (store, error) {
	var p session.Provider = new(beegocluster.Provider)
	return beegoAPI{p}, p.SessionInit(ctx, life, fmt.Sprintf("%s,%d", addrs, poolSize))
}

func compareCluster(t *testing.T, s server, sessions int) []result {
	t.Helper()
	var rows []row
	for _, change := range []bool{false, true} {
		for _, workers := range []int{16, 128} {
			if r := (row{payloads[0], change, workers, false}); wanted(t, "cluster: "+r.String()) {
				rows = append(rows, r)
			}
		}
	}
	if len(rows) == 0 {
		return nil
	}
	addrs := map[string][]string{
		alone:        {s.Addr()},
		oneMaster:    redistest.StartCluster(t, redistest.ClusterOptions{Masters: 1, NoReplicas: true}).Addrs(),
		threeMasters: redistest.StartCluster(t, redistest.ClusterOptions{NoReplicas: true}).Addrs(),
	}
	var field entrants
	for _, on := range topologies {
		c := contender{name: on.provider + ", " + on.on, open: on.open}
		field = append(field, &entrant{contender: c, near: c.at(t, addrs[on.on]...)})
	}
	defer s.flush(t)
	return field.compare(t, payloads[0], sessions, rows)
}

// clusters is a table of requests per second: a line per row, a column per topology.
func clusters(b *strings.Builder, all []findings) {
	b.WriteString(`
## Cluster

Sessions of 0.2 KB on a cluster of one master, which shows what the client spends on finding the master of a key, and on one of
three; in brackets the ratio to the same provider on a server that is no cluster. All servers and the clients share the same
cores: three masters can add no speed here as they do on machines of their own. What is seen is what they cost: a batch of commands
becomes three smaller ones, and one process's work that of three.
`)
	for _, f := range all {
		fmt.Fprintf(b, "\nRequests/s, %s:\n\n| requests |", f.server.name)
		for _, on := range topologies {
			fmt.Fprintf(b, " %s, %s |", on.provider, on.on)
		}
		b.WriteString("\n" + strings.Repeat("|---", 1+len(topologies)) + "|\n")
		for _, r := range f.cluster {
			fmt.Fprintf(b, "| %s, %s |", r.verb(), r.load())
			for _, on := range topologies {
				s := r.taken[on.provider+", "+on.on]
				fmt.Fprintf(b, " %s", thousands(s.rate()))
				if on.on != alone {
					fmt.Fprintf(b, " (%s)", times(s.ratio(r.taken[on.provider+", "+alone])))
				}
				b.WriteString(" |")
			}
			b.WriteString("\n")
		}
	}
}
