// Beego-sessions looks at the sessions of a beego site that are kept in Redis, and ends them. In the folder of the site,
//
//	go run github.com/beego-session/redis/cmd/beego-sessions -app conf/app.conf list
//
// shows them. Its commands are:
//
//	list    the sessions, or those of one user: id, age, life left, size, user
//	count   how many there are
//	show    one as JSON: its keys with their types, or their values
//	end     ends one, or all of a user: the user is logged out
//	top     a live view: how many sessions, what is asked of the servers, the largest
//	doctor  what the server is and allows, what is wrong, and what to do about it
//
// Where the sessions are is the site's own configuration: its app.conf, or -config with what SessionProviderConfig says. Nothing but end changes
// sessions. The exit status is 0; 1 if it failed, there is no such session, or the doctor found an error; 2 if the command line is
// wrong. "beego-sessions help" tells the rest.
package main

// The command line.

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/beego-session/redis/cmd/beego-sessions/internal/quiet"
)

const help = `beego-sessions looks at the sessions of a beego site in Redis, and ends them.

  beego-sessions [flags] list [-n 100]    sessions: id, age, life left, size, user
  beego-sessions [flags] list -user U     those of a user
  beego-sessions [flags] count            how many there are
  beego-sessions [flags] show ID          one as JSON: its keys and their types,
                                          or with -values their values
  beego-sessions [flags] end ID           ends it: the user is logged out
  beego-sessions [flags] end -user U      ends all sessions of a user
  beego-sessions [flags] top [-every 2s] [-n 3]
                                          a live view: how many sessions, what is
                                          asked of the servers, the largest
  beego-sessions [flags] doctor           what the server is and allows, what is
                                          wrong, and what to do about it

Where the sessions are is the site's own configuration, from the first of these
that is given:

  -config C        what SessionProviderConfig says: a comma-separated string,
                   JSON or a URL
  -app FILE        the site's app.conf, which is read as beego reads it:
                   SessionProvider, SessionProviderConfig, SessionGCMaxLifetime
                   or sessionConfig, the section of the run mode, ${ENVIRONMENT}
  BEEGO_SESSIONS_CONFIG
                   in the environment, as -config: a password in -config is seen
                   by whoever may list processes
  conf/app.conf    where there is one

Further flags, which like all others may stand before and after the command:

  -provider P      redis, redis_sentinel or redis_cluster, as SessionProvider;
                   with -config (default redis)
  -life SECONDS    SessionGCMaxLifetime; with -config (default 3600)
  -ids             ids are shown whole. As an id is as good as a password, only
                   its first six characters are shown otherwise
  -yes             end does not ask. It must be given where nobody can be asked

show and end take the first six characters of an id, or more, if no other session
begins like that; they look for it among all sessions. Users are shown and found
where the configuration has user_key.

A million sessions are counted in seconds, by many short questions, so that the
server serves others meanwhile. Nothing but end changes sessions; doctor writes
keys of its own, and removes them.

Exit status: 0; 1 if it failed, there is no such session, or the doctor found an
error; 2 if the command line is wrong.

Examples:

  beego-sessions -app conf/app.conf doctor
  beego-sessions -config redis://127.0.0.1:6379/0 list -n 20
  beego-sessions show 3f9a1c -values | jq .values
  beego-sessions end -user ann
`

func init() { quiet.Over() }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	t := &tool{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv,
		asks: isTerminal(os.Stdin), live: isTerminal(os.Stdout), progresses: isTerminal(os.Stderr),
	}
	code := t.run(ctx, os.Args[1:])
	stop()
	os.Exit(code)
}

// isTerminal tells whether somebody sits before the file.
func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// tool is one run of the command.
type tool struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string
	asks           bool // there is somebody who can be asked
	live           bool // stdout can be redrawn
	progresses     bool // stderr can be
	options        options
	configured     source
	site           *site
}

// options are the flags.
type options struct {
	config, app, provider string
	life                  int64
	ids, values, yes      bool
	user                  string
	n                     int
	every                 time.Duration
	given                 map[string]bool // by name
}

// commands are what can be done. Each has the flags that are its own.
var commands = map[string]struct {
	do       func(*tool, context.Context, string) error
	takesID  bool // unless it is given -user
	flags    string
	defaultN int
}{
	"list":   {do: (*tool).list, flags: "n user", defaultN: 100},
	"count":  {do: (*tool).count},
	"show":   {do: (*tool).show, takesID: true, flags: "values"},
	"end":    {do: (*tool).end, takesID: true, flags: "yes user"},
	"top":    {do: (*tool).top, flags: "every n"},
	"doctor": {do: (*tool).doctor},
}

// wordLike is what may be shown of a command line.
var wordLike = regexp.MustCompile(`^-*[a-z]{1,12}$`)

// misuse is an error of whoever wrote the command line.
type misuse string

func (m misuse) Error() string { return string(m) }

// errSaid is an error that has been shown already.
var errSaid = errors.New("said")

func (t *tool) run(ctx context.Context, args []string) (status int) {
	err := t.execute(ctx, args)
	var wrong misuse
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		fmt.Fprintf(t.stderr, "beego-sessions: %v\n\"beego-sessions help\" tells how it is used.\n", err)
		return 2
	case errors.Is(err, errSaid):
	case ctx.Err() != nil:
		fmt.Fprintln(t.stderr, "beego-sessions: interrupted")
	default:
		fmt.Fprintln(t.stderr, "beego-sessions:", strings.TrimPrefix(err.Error(), "session/redis: "))
	}
	return 1
}

func (t *tool) execute(ctx context.Context, args []string) (err error) {
	words, err := t.options.parse(args)
	if errors.Is(err, flag.ErrHelp) || err == nil && (len(words) == 0 && len(args) == 0 || len(words) > 0 && words[0] == "help") {
		_, err = io.WriteString(t.stdout, help)
		return err
	}
	switch {
	case err != nil:
		return err
	case len(words) == 0:
		return misuse("which command: list, count, show, end, top or doctor?")
	}
	command, ok := commands[words[0]]
	if !ok {
		if !wordLike.MatchString(words[0]) {
			return misuse("there is no such command, and it may be a secret that stands in the wrong place")
		}
		return misuse(fmt.Sprintf("there is no command %q", words[0]))
	}
	for name := range t.options.given {
		if slices.Contains([]string{"n", "user", "values", "yes", "every"}, name) && !slices.Contains(strings.Fields(command.flags), name) {
			return misuse(fmt.Sprintf("%s has no -%s", words[0], name))
		}
	}
	if !t.options.given["n"] {
		t.options.n = command.defaultN
	}
	ids := words[1:]
	switch {
	case !command.takesID && len(ids) > 0:
		return misuse(words[0] + " takes flags only")
	case len(ids) > 1:
		return misuse(words[0] + " takes one id")
	case command.takesID && len(ids) == 0 && t.options.user == "":
		return misuse(words[0] + " takes the id of a session, or its beginning")
	case len(ids) == 1 && t.options.user != "":
		return misuse(words[0] + " takes an id or -user, not both")
	}
	if t.configured, err = t.configuration(); err != nil {
		return err
	}
	if words[0] != "doctor" { // which tells itself what comes of that
		if err := t.open(ctx); err != nil {
			return err
		}
		defer t.close()
	}
	return command.do(t, ctx, strings.Join(ids, ""))
}

// parse reads flags wherever they stand, and returns what is none.
func (o *options) parse(args []string) (words []string, err error) {
	flags := flag.NewFlagSet("beego-sessions", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.config, "config", "", "")
	flags.StringVar(&o.app, "app", "", "")
	flags.StringVar(&o.provider, "provider", "redis", "")
	flags.Int64Var(&o.life, "life", 3600, "")
	flags.BoolVar(&o.ids, "ids", false, "")
	flags.BoolVar(&o.values, "values", false, "")
	flags.BoolVar(&o.yes, "yes", false, "")
	flags.StringVar(&o.user, "user", "", "")
	flags.IntVar(&o.n, "n", 0, "")
	flags.DurationVar(&o.every, "every", 2*time.Second, "")
	for len(args) > 0 {
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			return nil, err
		} else if err != nil {
			return nil, misuse(withoutValue(err.Error()))
		}
		if args = flags.Args(); len(args) > 0 {
			words, args = append(words, args[0]), args[1:]
		}
	}
	o.given = map[string]bool{}
	flags.Visit(func(f *flag.Flag) { o.given[f.Name] = true })
	switch {
	case o.given["config"] && o.given["app"]:
		return nil, misuse("give -config or -app, not both")
	case o.n < 0:
		return nil, misuse("-n is a number of lines or views, and 0 for all")
	case o.every < 100*time.Millisecond:
		return nil, misuse("-every is a tenth of a second or more, as in -every 5s")
	case o.given["user"] && o.user == "":
		return nil, misuse("-user is empty")
	}
	return words, nil
}

// withoutValue leaves out of an error of the package flag what was written there, which may be a secret that stands in the
// wrong place.
func withoutValue(text string) string {
	if _, rest, ok := strings.Cut(text, " for flag "); ok {
		return "the value is not valid for flag " + rest
	}
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: "); ok && !wordLike.MatchString(name) {
		return "there is no such flag"
	}
	return text
}
