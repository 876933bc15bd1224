// The three-way merge of two requests that changed one session at the same time.

package redis

import (
	"maps"

	"github.com/beego-session/redis/internal/gobmap"
)

// edits is what a request did to a session, as far as it went through Set, Delete and Flush.
type edits struct {
	keys    map[any]struct{} // that were set or deleted
	flushed bool             // and before that, everything was deleted
	timing                   // what was said of its life time and age
}

func (e *edits) none() bool { return len(e.keys) == 0 && !e.flushed && e.timing == timing{} }

func (e *edits) add(key any) {
	if e.keys == nil {
		e.keys = make(map[any]struct{})
	}
	e.keys[key] = struct{}{}
}

// then returns e followed by later.
func (e edits) then(later edits) edits {
	later.timing = e.timing.then(later.timing)
	if later.flushed || len(e.keys) == 0 && !e.flushed {
		return later
	}
	all := edits{flushed: e.flushed, timing: later.timing}
	for _, keys := range []map[any]struct{}{e.keys, later.keys} {
		for key := range keys {
			all.add(key)
		}
	}
	return all
}

func (e edits) clone() edits {
	e.keys = maps.Clone(e.keys)
	return e
}

// merge brings what a request made of a session, mine, into what others made of it meanwhile, theirs. Both began with
// original. It decides key by key: what I set, deleted or changed in place is mine, all else is theirs. What becomes of a value that
// they may have changed or deleted as well is what both returns; nil deletes the key. After a Flush everything is mine. changed tells
// whether anything of mine is in it. The arguments stay as they are; the result shares their values, and mine where theirs is no
// other, because a handler may hold it.
func merge(original, mine, theirs map[any]any, mineEdits edits, both func(key, was, mine, theirs any) any) (merged map[any]any, changed bool) {
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
		now, have := theirs[key]
		switch {
		case gobmap.IsCarried(key), gobmap.IsCarried(value):
			// Theirs, or gone there: nobody can have changed it here. The type may have been registered since, so that original
			// has another.
		case mineEdits.flushed:
			merged[key] = value
		case edited, !had, !gobmap.Equal(was, value):
			changed = true
			if value = both(key, was, value, now); value != nil {
				merged[key] = value
			} else {
				delete(merged, key)
			}
		case have && gobmap.Equal(was, now):
			merged[key] = value
		}
	}
	return merged, changed
}
