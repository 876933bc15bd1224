// What a warning says about a key that is unknown.

package redis

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// hints are what to use instead of names that other stores and clients have, here without their underscores.
var hints = []struct{ names, advice string }{
	{"lifetime maxlifetime maxage ttl expire expires expiration expiry", "a session lives for beego's SessionGCMaxLifetime " +
		"(Gclifetime of a ManagerConfig), and a connection for max_conn_age"},
	{"cookiename gclifetime enablesetcookie providerconfig sessionidlength cookielifetime", "it belongs to beego's ManagerConfig, " +
		"around this configuration"},
	{"connmaxlifetime maxconnlifetime", `use "max_conn_age"`},
	{"connmaxidletime maxidletime", `use "idle_timeout"`},
	{"maxidle maxidleconns", `idle connections are kept for "idle_timeout"`},
	{"minidle", `use "min_idle_conns"`},
	{"maxactive maxactiveconns maxopenconns maxconns maxpoolsize maxconnections", `use "poolsize"`},
	{"timeout connecttimeout connectiontimeout", `use "dial_timeout", "read_timeout" and "write_timeout"`},
	{"db database dbindex select", `use "db_num"`},
	{"addr address host hostname server url uri endpoint port", `use "save_path", as in "127.0.0.1:6379"`},
	{"addrs addresses hosts servers nodes startupnodes sentinels sentineladdrs", `use "save_path", as in "a:26379;b:26379"`},
	{"network socket path unixsocket", `use "save_path", which is a unix socket where it begins with /`},
	{"user", `use "username"`},
	{"pass passwd pwd auth requirepass", `use "password"`},
	{"ssl usessl usetls tlsconfig secure", `use "tls"`},
	{"prefix namespace", `use "key_prefix"`},
	{"retries", `use "max_retries"`},
	{"master masterset sentinelmaster sentinelmasterid sentinelservice", `use "master_name"`},
	{"cluster sentinel type", `use "mode"`},
	{"readonly routebylatency routerandomly", "sessions are read from masters alone"},
}

// keyLike is what a key looks like. What does not may be a piece of a password.
var keyLike = regexp.MustCompile(`^[A-Za-z][A-Za-z_-]{0,39}$`)

// unknownKey warns of a key that nothing reads, and says what to use instead, or names the known key that it is most like.
func unknownKey(key string) string {
	if !keyLike.MatchString(key) {
		return "the configuration has an unknown key that does not look like one, which is ignored, and not shown because it may be " +
			"part of a password"
	}
	advice, plain := "", strings.NewReplacer("_", "", "-", "").Replace(strings.ToLower(key))
	for _, hint := range hints {
		if slices.Contains(strings.Fields(hint.names), plain) {
			advice = hint.advice
		}
	}
	if advice == "" {
		nearest, least := "", len(key)/2+1
		for _, name := range slices.Sorted(maps.Keys(known)) {
			if d := editDistance(strings.ToLower(key), name); d < least {
				nearest, least = name, d
			}
		}
		if nearest != "" {
			advice = fmt.Sprintf("did you mean %q?", nearest)
		}
	}
	warning := fmt.Sprintf("the configuration has an unknown key %q, which is ignored", key)
	if advice != "" {
		warning += ": " + advice
	}
	return warning
}

// editDistance is Levenshtein's: how many characters to insert, remove or replace.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
