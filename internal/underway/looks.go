// beego asks SessionExist and then SessionRead of the same id: one look at Redis serves both, and what the first has
// said the second does not contradict.

package underway

import (
	"sync"
	"time"
)

// offerTime is how long a look may serve the read that follows, counted from before the look. beego reads at once;
// any other caller who comes later asks Redis.
var offerTime = 20 * time.Millisecond

const (
	// offerMax is the size in bytes up to which a value is offered, and shardMax that of all which a shard holds for
	// reads that may never come: 16 MB together.
	offerMax, shardMax = 64 << 10, 256 << 10

	// noteTime is how long it is remembered that an id was found and not read since. A request reads within
	// milliseconds; noteMax bounds the ids of a shard that are remembered for nobody.
	noteTime = time.Minute
	noteMax  = 4096
)

// Looks remembers, of each id that is looked up, what the last look has found.
type Looks[T any] struct {
	shards [64]lookShard[T]
}

type lookShard[T any] struct {
	sync.Mutex
	clock   uint64 // counts looks and changes
	ids     map[string]*looked[T]
	sweepAt int        // size of ids at which those of no more use are taken out
	offers  []offer[T] // the oldest first, also those that were taken
	ended   int        // of them, so many are over
	bytes   int        // of the values that are offered
	spare   []*looked[T]
	forgot  time.Time // when an id was last dropped that was taken to be there and whose read might still come
}

// spareMax is how many of those that were dropped a shard keeps for reuse.
const spareMax = 16

// offer is what a look has left, as long as it is current.
type offer[T any] struct {
	*looked[T]
	clock uint64
}

// looked is what is known of one id; its shard's mutex protects it.
type looked[T any] struct {
	underWay int       // looks that were not answered yet
	current  uint64    // of the shard's clock: when the last look that was answered began, or the id was changed
	found    int       // looks that found the id and whose reads have not come yet
	last     time.Time // when the last of them began
	assumed  time.Time // when the id was last taken to be there though no look had found it

	offered bool
	value   T
	size    int
}

// Look is one look at an id, which ends with the first call of Offer, Answered or Failed. It is for one goroutine.
type Look[T any] struct {
	of    *Looks[T]
	id    string
	clock uint64
	began time.Time
	ended bool
}

func (l *Looks[T]) shard(id string) *lookShard[T] { return &l.shards[shardOf(id, len(l.shards))] }

// Begin is called before Redis is asked.
func (l *Looks[T]) Begin(id string) *Look[T] {
	look := &Look[T]{of: l, id: id} // inlined, it costs no allocation
	look.begin()
	return look
}

func (l *Look[T]) begin() {
	shard := l.of.shard(l.id)
	shard.Lock()
	defer shard.Unlock()
	shard.clock++
	k := shard.ids[l.id]
	if k == nil {
		k = shard.add(l.id)
	}
	k.underWay++
	l.clock, l.began = shard.clock, time.Now()
}

// Offer says that the id is there, and leaves a value for the read that follows. A value that is older than what is
// known by now is not kept.
func (l *Look[T]) Offer(value T, size int) {
	shard, k := l.known()
	if k == nil {
		return
	}
	defer shard.Unlock()
	k.found++
	k.assumed = time.Time{} // it is there
	if l.began.After(k.last) {
		k.last = l.began
	}
	if shard.news(k, l.clock) && size <= offerMax && shard.room(size) {
		k.offered, k.value, k.size = true, value, size
		shard.bytes += size
		shard.append(offer[T]{k, l.clock})
	}
	l.end(shard, k)
}

// Answered says that Redis has answered, with nothing to leave for a read.
func (l *Look[T]) Answered() {
	shard, k := l.known()
	if k == nil {
		return
	}
	defer shard.Unlock()
	shard.news(k, l.clock)
	l.end(shard, k)
}

// Assume says that nothing was learned, and that the id is taken to be there all the same.
func (l *Look[T]) Assume() {
	shard, k := l.known()
	if k == nil {
		return
	}
	defer shard.Unlock()
	k.found++
	k.assumed = time.Now()
	l.end(shard, k)
}

// Failed says that nothing was learned.
func (l *Look[T]) Failed() {
	shard, k := l.known()
	if k == nil {
		return
	}
	defer shard.Unlock()
	l.end(shard, k)
}

// known returns what is known of the id, with its shard locked, or nil if the look has ended.
func (l *Look[T]) known() (*lookShard[T], *looked[T]) {
	if l.ended {
		return nil, nil
	}
	shard := l.of.shard(l.id)
	shard.Lock()
	return shard, shard.ids[l.id]
}

// end takes the look out of what is known of its id, whose shard is locked.
func (l *Look[T]) end(shard *lookShard[T], k *looked[T]) {
	l.ended = true
	k.underWay--
	shard.drop(l.id, k)
}

// Said is what looks have said of an id since the last read of it.
type Said int

const (
	Nothing Said = iota
	Found        // it is there: if there is nothing by now, it was removed after its request had begun
	Assumed      // it is taken to be there, and nobody has found it
)

// Take returns what the last look has left for a read, once. What is offered of an id that is Assumed is that it need not be
// looked at, as that has failed a moment ago.
func (l *Looks[T]) Take(id string) (value T, offered bool, said Said) {
	shard := l.shard(id)
	shard.Lock()
	defer shard.Unlock()
	if !shard.forgot.IsZero() && time.Since(shard.forgot) < noteTime {
		said = Assumed // it may have been this one
	}
	k := shard.ids[id]
	if k == nil {
		return value, false, said
	}
	switch {
	case !k.useful():
		k.found = 0
	case k.offered && time.Since(k.last) < offerTime:
		value, offered, said = k.value, true, Found
	case time.Since(k.assumed) < noteTime:
		offered, said = time.Since(k.assumed) < offerTime, Assumed
	default:
		said = Found
	}
	k.found = max(k.found-1, 0)
	shard.withdraw(k)
	shard.drop(id, k)
	return value, offered, said
}

// Changed is called when this process has saved or removed the id. What was offered before is withdrawn, and what a look
// brings that is under way will not be offered.
func (l *Looks[T]) Changed(id string) {
	shard := l.shard(id)
	shard.Lock()
	defer shard.Unlock()
	if k := shard.ids[id]; k != nil {
		shard.clock++
		shard.news(k, shard.clock)
		shard.drop(id, k)
	}
}

// news withdraws what was offered before, unless that is newer. It reports whether it was not.
func (s *lookShard[T]) news(k *looked[T], clock uint64) bool {
	if clock < k.current {
		return false
	}
	k.current = clock
	s.withdraw(k)
	return true
}

func (s *lookShard[T]) withdraw(k *looked[T]) {
	var none T
	s.bytes -= k.size
	k.offered, k.value, k.size = false, none, 0
}

// room tells whether there is room for an offer of so many bytes, when those are withdrawn that nobody may take any more.
func (s *lookShard[T]) room(size int) bool {
	for s.ended < len(s.offers) {
		oldest := s.offers[s.ended]
		if current := oldest.offered && oldest.current == oldest.clock; current && time.Since(oldest.last) < offerTime {
			break
		} else if current {
			s.withdraw(oldest.looked)
		}
		s.offers[s.ended] = offer[T]{}
		s.ended++
	}
	return s.bytes+size <= shardMax
}

// append puts an offer behind the others, where it can in the place of those that are over.
func (s *lookShard[T]) append(o offer[T]) {
	if s.ended > len(s.offers)/2 || s.ended == len(s.offers) {
		n := copy(s.offers, s.offers[s.ended:])
		clear(s.offers[n:])
		s.offers, s.ended = s.offers[:n], 0
	}
	s.offers = append(s.offers, o)
}

// useful tells whether a read may still come for k.
func (k *looked[T]) useful() bool {
	return k.found > 0 && (time.Since(k.last) < noteTime || time.Since(k.assumed) < noteTime)
}

// drop forgets an id of which nothing needs to be known.
func (s *lookShard[T]) drop(id string, k *looked[T]) {
	if k.underWay == 0 && !k.useful() {
		s.withdraw(k)
		delete(s.ids, id)
		if len(s.spare) < spareMax {
			*k = looked[T]{} // an offer of it that is left in offers is not current any more: no clock comes twice
			s.spare = append(s.spare, k)
		}
	}
}

// add makes room for an id, which now and then means to look for those that are of no more use.
func (s *lookShard[T]) add(id string) *looked[T] {
	if len(s.ids) >= s.sweepAt {
		for id, k := range s.ids {
			s.drop(id, k)
		}
		for id, k := range s.ids {
			if len(s.ids) < noteMax {
				break
			}
			if k.found > 0 && !k.assumed.IsZero() {
				s.forgot = time.Now()
			}
			if k.found = 0; k.underWay == 0 {
				s.drop(id, k)
			}
		}
		s.sweepAt = max(64, 2*len(s.ids))
	}
	if s.ids == nil {
		s.ids = make(map[string]*looked[T])
	}
	var k *looked[T]
	if n := len(s.spare); n > 0 {
		k, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		k = new(looked[T])
	}
	s.ids[id] = k
	return k
}
