package relay

import "testing"

func TestCopier_ReturnsPipeWhenNothingIsLeftToRead(t *testing.T) {
	r, client, server := establish(t, "tcp")
	for range 3 {
		go func() { _, _ = server.Write(bulkBlock) }()
		client.expectText(string(bulkBlock))
	}
	eventually(t, "no pipe is in use", func() bool {
		pipes.mu.Lock()
		defer pipes.mu.Unlock()
		return pipes.inUse == 0 && len(pipes.idle) <= maxIdlePipes
	})
	if s := r.Stats(); s.Open != 1 {
		t.Errorf("got %+v", s)
	}
}

func TestCopier_CopiesBulkWithoutPipe(t *testing.T) {
	pipes.mu.Lock()
	pipes.inUse += maxPipesInUse
	pipes.mu.Unlock()
	defer func() {
		pipes.mu.Lock()
		pipes.inUse -= maxPipesInUse
		pipes.mu.Unlock()
	}()
	_, client, server := establish(t, "tcp")
	exchangeBulk(t, client, server.testConn, 16<<20)
}
