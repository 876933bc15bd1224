// What tests can see of the decoders that are kept.

package gobmap

// KeptDecoders returns for how many sets of definitions decoders are kept, and
// how many bytes these have.
func KeptDecoders() (kept, size int) {
	keptDecoders.Lock()
	defer keptDecoders.Unlock()
	return len(keptDecoders.pools), keptDecoders.size
}

// ForgetDecoders lets go of all of them.
func ForgetDecoders() {
	keptDecoders.Lock()
	defer keptDecoders.Unlock()
	keptDecoders.pools, keptDecoders.size = nil, 0
}
