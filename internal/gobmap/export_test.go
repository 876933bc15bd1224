// What tests can see of the decoders that are kept.

package gobmap

// KeptDecoders returns for how many sets of definitions decoders are kept, and
// how many bytes these have.
func KeptDecoders() (kept, size int) {
	keptTypes.Lock()
	defer keptTypes.Unlock()
	return len(keptTypes.types), keptTypes.size
}

// DecodeByHand is Decode without encoding/gob for the map as a whole.
var DecodeByHand = decodeByHand

// ForgetDecoders lets go of all of them.
func ForgetDecoders() {
	keptTypes.Lock()
	defer keptTypes.Unlock()
	keptTypes.types, keptTypes.size = nil, 0
	for i := range metTypes {
		metTypes[i][0].Store(nil)
		metTypes[i][1].Store(nil)
	}
}
