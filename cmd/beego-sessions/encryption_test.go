package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2"
)

func TestEncryptedSessionsAreShownToWhoHasTheKeys(t *testing.T) {
	m := miniredis.RunT(t)
	config := func(key string) string {
		path := filepath.Join(t.TempDir(), "session-keys")
		if err := os.WriteFile(path, []byte(base64.StdEncoding.EncodeToString([]byte(strings.Repeat(key, 32)))), 0o600); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprintf(`{"encryption_keys_file":%q,%s`, path, withUsers(m.Addr())[1:])
	}
	mine := config("k")
	id := put(t, plainClient(t, m.Addr()), "shop:", of("ann"))
	listed(t, mine, id)
	run("show", id, "-values", "-config", mine).wants(t, 0, secret, `"user": "ann"`)
	run("list", "-config", mine).wants(t, 0, "ann")
	for why, config := range map[string]string{"is not in ": config("o"), "encryption_keys_file is not configured": withUsers(m.Addr())} {
		run("show", id, "-values", "-config", config).wants(t, 1, id[:6], "cannot be read", why, "not", secret, id)
		run("list", "-config", config).wants(t, 0, id[:6], " -\n", "not", "ann")
	}
	run("end", id, "-yes", "-config", withUsers(m.Addr())).wants(t, 0, "1 session ended")
}
