// URLs in the configuration. Nothing of one that is wrong is quoted, because any part of it may be a piece of the password.

package redis

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"strings"

	"github.com/beego-session/redis/internal/client"
)

// scheme is what the scheme of a URL says.
type scheme struct{ tls, sentinel, unix bool }

var schemes = map[string]scheme{
	"redis":           {},
	"rediss":          {tls: true},
	"valkey":          {},
	"valkeys":         {tls: true},
	"redis+sentinel":  {sentinel: true},
	"rediss+sentinel": {sentinel: true, tls: true},
	"unix":            {unix: true},
}

const urlForms = "redis://user:password@host:port/db, rediss:// for TLS, " +
	"redis+sentinel://user:password@host:port,host:port/master/db or unix:///path"

var beginsURL = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)

func isURL(text string) bool { return beginsURL.MatchString(text) }

// urlAliases are aliases that hold in a URL.
var urlAliases = func() map[string]string {
	m := maps.Clone(aliases)
	m["db"] = "db_num"
	return m
}()

// readURL replaces a URL in SavePath by what it says. net/url does not parse it: a list of hosts is none of its forms, and
// its errors quote.
func (s *settings) readURL() (warnings []string, err error) {
	name, rest, _ := strings.Cut(s.SavePath, "://")
	scheme, ok := schemes[strings.ToLower(name)]
	if !ok {
		return nil, errors.New("save_path is a URL whose scheme is unknown: write " + urlForms)
	}
	end := strings.IndexAny(rest+"/", "/?#")
	authority, rest := rest[:end], rest[end:]
	if strings.ContainsAny(rest, "@#") {
		return nil, errors.New("the URL in save_path has an @ or a # where none can be: " +
			"percent-encode special characters in user and password, as %2F for /, %3F for ?, %23 for # and %40 for @")
	}
	path, rawQuery, _ := strings.Cut(rest, "?")

	var fromURL settings
	at := strings.LastIndex(authority, "@")
	user, password, hasPassword := strings.Cut(authority[:max(at, 0)], ":")
	for _, part := range []struct {
		to      *string
		escaped string
	}{{&fromURL.Username, user}, {&fromURL.Password, password}, {&fromURL.SavePath, authority[at+1:]}, {&path, path}} {
		if *part.to, err = url.PathUnescape(part.escaped); err != nil {
			return nil, errors.New("the URL in save_path has a % that does not begin a percent-encoded character: write %25 for it")
		}
	}
	if warnings, err = s.readQuery(rawQuery); err != nil {
		return nil, err
	}
	if err := fromURL.locate(scheme, path); err != nil {
		return nil, err
	}
	if scheme.tls && s.TLS == nil {
		s.TLS = &client.TLS{}
	} else if !scheme.tls && !scheme.unix && s.TLS != nil {
		return nil, errors.New("the URL in save_path is one for plain text, but tls is configured too: write rediss://, or " +
			"rediss+sentinel://")
	}
	for _, err := range []error{
		agree("username", &s.Username, fromURL.Username),
		agree("password", &s.Password, fromURL.Password),
		agree("db_num", &s.DBNum, fromURL.DBNum),
		agree("master_name", &s.MasterName, fromURL.MasterName),
		agree("mode", &s.Mode, fromURL.Mode),
	} {
		if err != nil {
			return nil, err
		}
	}
	if user != "" && !hasPassword && s.Password+s.PasswordFile+s.PasswordEnv == "" {
		return nil, errors.New("the URL in save_path has a single word before the @: write redis://:password@host for a password, " +
			"redis://user:password@host for a user, and redis://user:@host for one without password")
	}
	if scheme.sentinel && s.SentinelUsername+s.SentinelPassword+s.SentinelPasswordFile+s.SentinelPasswordEnv == "" {
		s.SentinelUsername, s.SentinelPassword = fromURL.Username, fromURL.Password
	}
	s.SavePath = fromURL.SavePath
	return warnings, nil
}

// locate reads what a URL's host and path say. SavePath holds the host.
func (s *settings) locate(scheme scheme, path string) error {
	hosts, db := s.SavePath, strings.Trim(path, "/")
	switch {
	case scheme.unix && (hosts != "" || !strings.HasPrefix(path, "/")):
		return errors.New("a unix:// URL needs the absolute path of a socket: unix:///run/redis.sock")
	case scheme.unix:
		s.SavePath = path
		return nil
	case scheme.sentinel:
		s.Mode, s.SavePath = "sentinel", strings.ReplaceAll(hosts, ",", ";")
		s.MasterName, db, _ = strings.Cut(db, "/")
	case strings.Contains(hosts, ","):
		return errors.New("the URL in save_path has a comma after its host: separate addresses by a semicolon, and write the rest " +
			"as its query, like ?poolsize=100")
	}
	if db != "" && known["db_num"].set(s, json.RawMessage(db)) != nil {
		return errors.New("the path of the URL in save_path must be the number of a database, like /0, or with redis+sentinel:// " +
			"the name of a master and that, like /mymaster/0")
	}
	return nil
}

// agree takes over what the URL says, which may not contradict a key beside it.
func agree[T comparable](key string, beside *T, inURL T) error {
	var nothing T
	switch {
	case inURL == nothing:
		return nil
	case *beside != nothing && *beside != inURL:
		return fmt.Errorf("%s and the URL in save_path contradict each other: give it once", key)
	}
	*beside = inURL
	return nil
}

func (s *settings) readQuery(query string) (warnings []string, err error) {
	parsed, err := url.ParseQuery(query)
	for _, part := range strings.Split(query, "&") {
		if part != "" && !strings.Contains(part, "=") { // which may be a piece of a password, too
			err = errors.New("no value")
		}
	}
	if err != nil {
		return nil, errors.New("the query of the URL in save_path does not parse: write key=value&key=value, percent-encoded")
	}
	values := map[string]json.RawMessage{}
	for key := range parsed {
		switch name := strings.ToLower(key); name {
		case "save_path", "tls", "sentinel_tls":
			warnings = append(warnings, fmt.Sprintf("%s in the URL of save_path is ignored: it is for JSON, and rediss:// for TLS", name))
			continue
		default:
			values[key] = json.RawMessage(parsed.Get(key))
			if alias, ok := urlAliases[name]; ok {
				name = alias
			}
			if known[name].quoted {
				values[key] = quote(parsed.Get(key))
			}
		}
	}
	more, err := s.set(values, urlAliases, " in the URL of save_path")
	return append(warnings, more...), err
}
