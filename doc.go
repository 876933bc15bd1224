// Package redis keeps the sessions of beego v2 in Redis.
//
// It is a drop-in for beego's own redis session provider: the same names, the same configuration and the same gob stream in Redis.
// A site switches by one import, may run both providers side by side during a rollout, and can switch back. It then saves what a
// request has changed, and not what it has read, so that requests of one session that run at the same time lose nothing of each
// other; a session that was logged out stays so; and whatever fails is an error or a line in the log.
//
// # Getting started
//
// Import the package in the place of beego's own provider,
//
//	import _ "github.com/beego-session/redis"
//
// and name it in app.conf:
//
//	sessionon = true
//	sessionprovider = redis
//	sessionproviderconfig = 127.0.0.1:6379,100,password
//
// Controllers use their sessions as before. The import registers three providers: redis for one server, redis_sentinel and
// redis_cluster. Without app.conf, [session.NewManager] takes the same names and configurations; the example of the package does
// that. A type of the application that is put into a session is registered with [encoding/gob.Register] when the program starts.
//
// What beego's interfaces have no method for is reached through the types of this package. The provider is
//
//	sessions := web.GlobalSessions.GetProvider().(*redis.Provider)
//
// once beego has started, and the session of a request, in a controller,
//
//	store := c.StartSession().(*redis.SessionStore)
//
// which is to be asked for again after SessionRegenerateID.
//
// # Configuration
//
// [Provider.SessionInit], which beego calls, takes a comma-separated string as beego's own provider does, a URL, or JSON. Names
// with underscores in this documentation, like max_age, are keys of the JSON and of the URL's query. The table of all keys, with
// their defaults, is in the README, under https://github.com/beego-session/redis#configuration. The life time of sessions is
// beego's SessionGCMaxLifetime, in seconds.
//
// An operation, with all its repeats, ends after dial_timeout, read_timeout and write_timeout together: 11 seconds by default. That
// is the time limit of which this documentation speaks.
//
// # What a request saves
//
// A request works on a copy of its session. When it ends, beego calls [SessionStore.SessionRelease], which brings what the request
// has changed into the session as it stands in Redis by then, in one atomic step:
//
//   - Keys that the request has set or deleted are as it has left them, and all others as they stand in Redis. After
//     [SessionStore.Flush] only what the request has set since remains.
//   - A value that was changed in place, like a map that [SessionStore.Get] has returned, counts as set.
//   - Where another request has changed the same key, two maps of one type are merged entry by entry, at any depth. Of other values
//     the later release wins, unless [Provider.MergeKey] names a function for the key. A change that depends on what others have
//     saved, like that of a counter, is made in [SessionStore.Update].
//   - A request that has changed nothing writes nothing. It renews the life time if a hundredth of it has passed (touch_interval).
//   - A session that was destroyed, has got a new id or has expired is not brought back by a request that was still under way, in this
//     process or another.
//   - A new session is stored even if it is empty, because beego keeps its id only then; skip_empty turns that off.
//
// # Log in and out
//
// A log-in gives the session a new id, so that whoever knew the old one is left outside: call SessionRegenerateID of the
// controller, which calls [Provider.SessionRegenerate], and then set the user. Heed its error: the controller has no session then,
// and its next SetSession panics. With max_age, [SessionStore.ResetAge] begins the age of the session anew.
//
// A log-out calls DestroySession of the controller. Beego drops the error of [Provider.SessionDestroy] there, and the browser
// forgets its cookie all the same. Where a log-out has to be certain, call SessionDestroy yourself before, and heed its error.
//
// With user_key the sessions of each user are known: [Provider.SessionsOf] lists them, and [Provider.DestroyAll] logs a user out
// everywhere, or everywhere else.
//
// # Errors
//
// Errors begin with "session/redis:", and those of an operation name it and the address of the server. They hold no password, and
// of a session id the first six characters at most. [errors.Is] finds what a program can do something about:
//
//   - [ErrUnreachable] and [ErrClosed]: answer with 503; another try may help. Where beego itself cannot start a session for a
//     request, it does that.
//   - [ErrGone]: the session has ended; show the log-in page.
//   - [ErrRefusedID]: give the visitor a new session. Beego does that with a bad id in a cookie.
//   - [ErrUndecodable]: log it, and remove what is stored if nobody needs it, so that the visitor gets a new session.
//   - [ErrTooLarge]: there is no room for more in the session.
//   - [ErrRefusedValue]: a mistake in the program.
//   - [context.Canceled]: the visitor has left.
//
// Any other error is for the log and an operator: the server refuses a command, or the configuration is wrong. What fails in a
// release, which returns nothing, goes to the log, or to a function of the application: [Provider.OnError].
//
// # A client of your own
//
// An application that has a Redis client already registers a provider on it, under a name of its own, and opens no second pool:
//
//	session.Register("mine", redis.NewProvider(client)) // and sessionprovider = mine in app.conf
//
// [NewProvider] is for go-redis v7. For go-redis v9 and rueidis there are adapters in github.com/beego-session/redis/adapters, a module of
// its own. Any other client needs one method, [Client], or two in a cluster, [ClusterClient], and [NewProviderOn]. What is different
// through such clients is in docs/clients.md of the repository.
//
// # Testing
//
// The package works on miniredis (github.com/alicebob/miniredis/v2), so that the tests of controllers need no server; the example
// ControllerTest is one. What to know of such tests is in docs/testing.md of the repository.
//
// # Metrics
//
// [Provider.Stats] has what was read, saved, merged and lost, errors by kind, and how long it took; the package redisprom gives it
// to Prometheus. [Provider.Check] tells whether sessions can be saved now. On the command line, cmd/beego-sessions lists, shows and
// ends sessions, and finds what is wrong with a server.
//
// # When a reply is lost
//
// A command whose connection fails is sent again, although the server may have executed it before. So each save leaves a version
// behind the session's gob stream, where a gob decoder does not look, with the versions of the seven saves before it: a repeat
// finds out whether it was done, and what comes late does nothing. A session that is removed leaves a key gone:{…} for five minutes
// (or three times the time limit, if that is longer), which tells a request that is about to create it. Nothing is deleted because
// of an error whose outcome is not known.
package redis
