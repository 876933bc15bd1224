// The three-way merge of two requests that changed one session at the same time.

package redis

import "github.com/beego-session/redis/internal/gobmap"

// edits is what a request did to a session, as far as it went through Set, Delete and Flush.
type edits struct {
	keys    map[any]struct{} // that were set or deleted
	flushed bool             // and before that, everything was deleted
}

func (e *edits) none() bool { return len(e.keys) == 0 && !e.flushed }

func (e *edits) add(key any) {
	if e.keys == nil {
		e.keys = make(map[any]struct{})
	}
	e.keys[key] = struct{}{}
}

// then returns e followed by later.
func (e edits) then(later edits) edits {
	if later.flushed || e.none() {
		return later
	}
	all := edits{flushed: e.flushed}
	for _, keys := range []map[any]struct{}{e.keys, later.keys} {
		for key := range keys {
			all.add(key)
		}
	}
	return all
}

// merge brings what a request made of a session, mine, into what others made of it meanwhile, theirs. Both began with
// original. It decides key by key: what I set, deleted or changed in place is mine, all else is theirs. After a Flush
// everything is mine. changed tells whether anything of mine is in it. The arguments stay as they are; the result shares
// their values, and mine where theirs is no other, because a handler may hold it.
func merge(original, mine, theirs map[any]any, mineEdits edits) (merged map[any]any, changed bool) {
	merged = make(map[any]any, len(mine)+len(theirs))
	if !mineEdits.flushed {
		for key, value := range theirs {
			merged[key] = value
		}
		for key := range mineEdits.keys {
			delete(merged, key)
		}
	}
	changed = !mineEdits.none()
	for key, value := range mine {
		_, edited := mineEdits.keys[key]
		was, had := original[key]
		switch now, have := theirs[key]; {
		case edited || mineEdits.flushed:
			merged[key] = value
		case !had || !gobmap.Equal(was, value):
			merged[key], changed = value, true
		case have && gobmap.Equal(was, now):
			merged[key] = value
		}
	}
	return merged, changed
}
