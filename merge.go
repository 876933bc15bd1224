// The three-way merge of two requests that changed one session at the same time.

package redis

import "reflect"

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

// after returns e followed by later.
func (e edits) after(earlier edits) edits {
	if e.flushed || earlier.none() {
		return e
	}
	e.flushed = earlier.flushed
	for key := range earlier.keys {
		e.add(key)
	}
	return e
}

// merge brings what a request made of a session, mine, into what others made of it meanwhile, theirs. Both began with
// original. It decides key by key: what I set, deleted or changed in place is mine, all else is theirs. After a Flush
// everything is mine. The arguments stay as they are; the result shares their values.
func merge(original, mine, theirs map[any]any, mineEdits edits) map[any]any {
	merged := make(map[any]any, len(mine)+len(theirs))
	if !mineEdits.flushed {
		for key, value := range theirs {
			merged[key] = value
		}
		for key := range mineEdits.keys {
			delete(merged, key)
		}
	}
	for key, value := range mine {
		_, edited := mineEdits.keys[key]
		if edited || mineEdits.flushed || !reflect.DeepEqual(original[key], value) {
			merged[key] = value
		}
	}
	return merged
}
