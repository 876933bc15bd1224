// list and count.

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/beego-session/redis/internal/inside"
	"github.com/beego-session/redis/internal/record"
)

// together is how many sessions are looked at in one round trip.
const together = 100

func (t *tool) list(ctx context.Context, _ string) error {
	lines := table{w: t.stdout, user: t.site.UserKey != ""}
	if user := t.options.user; user != "" {
		sessions, err := t.site.SessionsOf(ctx, user)
		if err != nil {
			return err
		}
		for i, s := range sessions {
			if i == t.options.n && i > 0 {
				t.more()
				break
			}
			lines.line(t.id(s.ID), s.Created, s.Expires, int64(s.Size), user)
		}
		return lines.end()
	}

	shown, progress := 0, t.progress()
	defer progress.over()
	var ids []string
	show := func() error {
		if len(ids) == 0 {
			return nil
		}
		found, err := t.site.Look(ctx, ids)
		if err != nil {
			return err
		}
		for i, s := range found {
			if s.Present {
				lines.line(t.id(ids[i]), s.Value.Created(), s.Expires, int64(s.Bytes), t.userOf(s.Value))
				shown++
			}
		}
		ids = ids[:0]
		return nil
	}
	for id, err := range t.site.Sessions(ctx) {
		if err != nil {
			return err
		}
		if t.options.n > 0 && shown == t.options.n {
			progress.over()
			t.more()
			return lines.end()
		}
		ids = append(ids, id)
		if len(ids) == together || shown+len(ids) == t.options.n {
			if err := show(); err != nil {
				return err
			}
			if !t.live {
				progress.say(int64(shown), "session")
			}
		}
	}
	if err := show(); err != nil {
		return err
	}
	progress.over()
	return lines.end()
}

// more says that not all is shown.
func (t *tool) more() {
	fmt.Fprintf(t.stderr, "There are more than %d: -n 0 shows all.\n", t.options.n)
}

func (t *tool) count(ctx context.Context, _ string) error {
	n := int64(0)
	if err := t.each(ctx, func(string) { n++ }); err != nil {
		return err
	}
	_, err := fmt.Fprintln(t.stdout, n)
	return err
}

// each calls f with the id of each session, and shows how far it is.
func (t *tool) each(ctx context.Context, f func(id string)) error {
	n, progress := int64(0), t.progress()
	defer progress.over()
	for id, err := range t.site.Sessions(ctx) {
		if err != nil {
			return err
		}
		f(id)
		if n++; n%1000 == 0 {
			progress.say(n, "session")
		}
	}
	return nil
}

// table writes sessions in lines.
type table struct {
	w     io.Writer
	user  bool // there is a column for whose they are
	begun bool
	width int // of the column of ids, from the first on
	err   error
}

func (l *table) line(id string, created, expires time.Time, bytes int64, user string) {
	if !l.begun {
		l.begun, l.width = true, max(len([]rune(id)), shownOfID+1)
		l.row("ID", "AGE", "LEFT", "SIZE", "USER")
	}
	l.row(id, age(created), left(expires), size(bytes), cut(plain(user), 40))
}

func (l *table) row(id, age, left, size, user string) {
	row := fmt.Sprintf("%-*s  %7s  %7s  %7s", l.width, id, age, left, size)
	if l.user {
		row += "  " + user
	}
	if _, err := fmt.Fprintln(l.w, strings.TrimRight(row, " ")); err != nil && l.err == nil {
		l.err = err
	}
}

func (l *table) end() error {
	if !l.begun && l.err == nil {
		_, l.err = fmt.Fprintln(l.w, "There are no sessions.")
	}
	return l.err
}

// userOf is whose a session is, as SessionsOf knows it, without the types of the site: what is no string or integer is nobody's.
func (t *tool) userOf(value record.Value) string {
	if t.site.UserKey == "" {
		return ""
	}
	values, err := value.Describe()
	if err != nil {
		return "-"
	}
	// That of a registered type is {"type", "value"}.
	text, _ := json.Marshal(values[t.site.UserKey])
	var typed struct{ Value json.RawMessage }
	if json.Unmarshal(text, &typed) == nil {
		text = typed.Value
	}
	var name string
	if json.Unmarshal(text, &name) == nil && name != "" {
		return name
	}
	var number json.Number
	if json.Unmarshal(text, &number) == nil && number != "" && !strings.ContainsAny(number.String(), ".eE") {
		return number.String()
	}
	return "-"
}

// find returns the session with an id, or the one that begins like it.
func (t *tool) find(ctx context.Context, given string) (string, inside.Stored, error) {
	given = strings.TrimSuffix(given, "…") // as it is shown
	id, begins := given, int64(0)
	if _, ok := t.site.SessionID(t.site.Prefix + given); ok {
		found, err := t.site.Look(ctx, []string{given})
		if err != nil {
			return "", inside.Stored{}, err
		} else if found[0].Present {
			return given, found[0], nil
		}
	}
	if len([]rune(given)) < shownOfID {
		return "", inside.Stored{}, fmt.Errorf("there is no session with this id, and for one that begins like it I need %d characters", shownOfID)
	}
	err := t.each(ctx, func(sid string) {
		if strings.HasPrefix(sid, given) {
			id = sid
			begins++
		}
	})
	switch {
	case err != nil:
		return "", inside.Stored{}, err
	case begins == 0:
		return "", inside.Stored{}, fmt.Errorf("there is no session %s", short(given+" "))
	case begins > 1:
		return "", inside.Stored{}, fmt.Errorf("%s begin with this: give more of the id (list -ids shows all of it)", plural(begins, "session"))
	}
	found, err := t.site.Look(ctx, []string{id})
	switch {
	case err != nil:
		return "", inside.Stored{}, err
	case !found[0].Present:
		return "", inside.Stored{}, fmt.Errorf("the session %s has just ended", short(id))
	}
	return id, found[0], nil
}
