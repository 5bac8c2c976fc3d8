package supervisor

import (
	"sync"

	"github.com/localport-sh/localport/forwarder"
)

// board is where each forward puts its state up for those that depend on it. It is safe for concurrent use.
type board struct {
	mu     sync.Mutex
	states map[string]forwarder.State
	pokes  map[string]chan<- struct{}
}

func newBoard() *board {
	return &board{states: make(map[string]forwarder.State), pokes: make(map[string]chan<- struct{})}
}

// put puts a forward's state up; poke is how clients' waiting is made known to it.
func (b *board) put(name string, state forwarder.State, poke chan<- struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.states[name], b.pokes[name] = state, poke
}

// take takes down what a forward that is gone had up.
func (b *board) take(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.states, name)
	delete(b.pokes, name)
}

// missing is the first of the services that is not ready, and what it is; empty if all are.
func (b *board) missing(names []string) (string, forwarder.State) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range names {
		if state := b.states[name]; !state.Ready() {
			return name, state
		}
	}
	return "", ""
}

// poke tells a service that a client of one that depends on it waits.
func (b *board) poke(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if poke := b.pokes[name]; poke != nil {
		nudge(poke)
	}
}
