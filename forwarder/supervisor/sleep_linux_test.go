package supervisor

import (
	"testing"
	"time"
)

// The timer's expiry stands for a clock that is set, which a test cannot do to the machine.
func TestClockEvents_WakeTheReader(t *testing.T) {
	e, err := openClockEvents()
	if err != nil {
		t.Fatal(err)
	}
	setCh, doneCh := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(doneCh)
		e.read(func() { setCh <- struct{}{} })
	}()
	if err := e.set(1); err != nil {
		t.Error(err)
	}
	select {
	case <-setCh:
	case <-time.After(30 * time.Second):
		t.Error("no event")
	}
	e.close()
	<-doneCh
}
