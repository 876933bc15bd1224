// show: one session as JSON.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// shown is a session, as it is written.
type shown struct {
	ID      string     `json:"id"`
	User    string     `json:"user,omitempty"`
	Created *time.Time `json:"created,omitempty"`
	Expires *time.Time `json:"expires,omitempty"`
	OwnLife string     `json:"own_life_time,omitempty"`
	Bytes   int        `json:"bytes"`
	Types   any        `json:"types,omitempty"` // a map, or nil
	Values  any        `json:"values,omitempty"`
}

func (t *tool) show(ctx context.Context, given string) error {
	id, found, err := t.find(ctx, given)
	if err != nil {
		return err
	}
	if found.Sealed != nil {
		return fmt.Errorf("%s (%s) cannot be read: %w", short(id), size(int64(found.Bytes)), found.Sealed)
	}
	values, err := found.Value.Describe()
	if err != nil {
		return fmt.Errorf("what is stored for %s (%s) is no session as beego's providers write it: %w", short(id), size(int64(found.Bytes)), err)
	}
	s := shown{ID: id, Bytes: found.Bytes, Created: known(found.Value.Created()), Expires: known(found.Expires)}
	if own := found.Value.OwnLife(); own != 0 {
		s.OwnLife = (time.Duration(own) * time.Second).String()
	}
	if !t.options.ids {
		s.ID = short(id)
	}
	if user := t.userOf(found.Value); user != "-" {
		s.User = user
	}
	if t.options.values {
		s.Values = values
	} else {
		types := make(map[string]string)
		for key, value := range values {
			types[key] = typeOf(value)
		}
		s.Types = types
	}
	_, err = io.WriteString(t.stdout, indented(s))
	return err
}

func known(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	at = at.UTC().Truncate(time.Second)
	return &at
}

// typeOf names the type of a described value, as far as it says what it is.
func typeOf(value any) string {
	switch value := value.(type) {
	case nil:
		return "nil"
	case string, bool, int64, uint64, float64:
		return strings.TrimSuffix(fmt.Sprintf("%T", value), "64")
	case []any:
		return fmt.Sprintf("list of %d", len(value))
	case map[string]any:
		return fmt.Sprintf("map of %d", len(value))
	}
	var named struct{ Type string }
	if json.Unmarshal([]byte(compact(value)), &named) != nil || named.Type == "" {
		return "?"
	}
	return named.Type
}

// compact is JSON in one line, and indented in several, in which nothing moves a cursor.
func compact(value any) string { return marshal(value, "") }

func indented(value any) string { return marshal(value, "  ") + "\n" }

func marshal(value any, indent string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", indent)
	if encoder.Encode(value) != nil { // it nests deeper than can be indented
		b.Reset()
		raw, _ := json.Marshal(value)
		b.Write(raw)
	}
	return escaper.Replace(strings.TrimSuffix(b.String(), "\n"))
}

// escaper escapes what JSON leaves as it is and a terminal obeys. Outside of strings JSON has none of it.
var escaper = func() *strings.Replacer {
	var pairs []string
	for r := rune(0x7f); r <= 0x9f; r++ {
		pairs = append(pairs, string(r), fmt.Sprintf(`\u%04x`, r))
	}
	return strings.NewReplacer(pairs...)
}()
