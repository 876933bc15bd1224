// end: sessions that are logged out from outside.

package main

import (
	"bufio"
	"context"
	"fmt"
	"strings"
)

func (t *tool) end(ctx context.Context, given string) error {
	if user := t.options.user; user != "" {
		sessions, err := t.site.SessionsOf(ctx, user)
		switch {
		case err != nil:
			return err
		case len(sessions) == 0:
			return fmt.Errorf("%s has no session", plain(user))
		}
		if err := t.confirm(ctx, fmt.Sprintf("End %s of %s?", plural(int64(len(sessions)), "session"), plain(user))); err != nil {
			return err
		}
		n, err := t.site.DestroyAll(ctx, user)
		if n > 0 || err == nil {
			fmt.Fprintf(t.stdout, "%s ended.\n", plural(int64(n), "session"))
		}
		return err
	}
	id, found, err := t.find(ctx, given)
	if err != nil {
		return err
	}
	question := fmt.Sprintf("End session %s, %s, created %s ago", t.id(id), size(int64(found.Bytes)), age(found.Value.Created()))
	if found.Value.Created().IsZero() {
		question, _, _ = strings.Cut(question, ", created")
	}
	if user := t.userOf(found.Value); user != "" && user != "-" {
		question += ", of " + cut(plain(user), 40)
	}
	if err := t.confirm(ctx, question+"?"); err != nil {
		return err
	}
	if err := t.site.SessionDestroy(ctx, id); err != nil {
		return err
	}
	_, err = fmt.Fprintln(t.stdout, "1 session ended.")
	return err
}

// confirm asks, unless -yes has been given.
func (t *tool) confirm(ctx context.Context, question string) error {
	if t.options.yes {
		return nil
	}
	if !t.asks {
		return misuse("there is nobody to ask: -yes ends sessions without a question")
	}
	fmt.Fprint(t.stderr, question, " [y/N] ")
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(t.stdin).ReadString('\n')
		answer <- strings.ToLower(strings.TrimSpace(line))
	}()
	select {
	case line := <-answer:
		if line == "y" || line == "yes" {
			return nil
		}
		fmt.Fprintln(t.stderr, "Nothing was ended.")
		return errSaid
	case <-ctx.Done():
		fmt.Fprintln(t.stderr)
		return ctx.Err()
	}
}
