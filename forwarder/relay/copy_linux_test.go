package relay

import "testing"

func TestPipesAreGivenBackWhenAStreamRunsDry(t *testing.T) {
	r, client, server := established(t, "tcp")
	for range 3 {
		go func() { _, _ = server.Write(block) }()
		client.expect(string(block))
	}
	eventually(t, "no pipe is lent", func() bool {
		pipes.mu.Lock()
		defer pipes.mu.Unlock()
		return pipes.out == 0 && len(pipes.idle) <= kept
	})
	if s := r.Stats(); s.Open != 1 {
		t.Errorf("got %+v", s)
	}
}

func TestBulkNeedsNoPipe(t *testing.T) {
	pipes.mu.Lock()
	pipes.out += lent
	pipes.mu.Unlock()
	defer func() {
		pipes.mu.Lock()
		pipes.out -= lent
		pipes.mu.Unlock()
	}()
	_, client, server := established(t, "tcp")
	exchange(t, client, server.duplex, 16<<20)
}
