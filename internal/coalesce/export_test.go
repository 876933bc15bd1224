// What tests can see of a Group's inside.

package coalesce

// Queued returns how many items wait in batches that are not yet taken.
func (g *Group[T]) Queued() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.queued
}
