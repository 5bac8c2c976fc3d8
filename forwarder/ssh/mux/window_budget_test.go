package mux

import (
	"testing"
	"time"
)

func TestWindowBudget_IsSharedAmongBusyStreams(t *testing.T) {
	now := time.Unix(0, 0)
	for _, tt := range []struct {
		name    string
		rtt     time.Duration
		streams int
		want    int
	}{
		{"one stream, low RTT", time.Millisecond, 1, baseWindowBudget},
		{"eight streams, low RTT", time.Millisecond, 8, baseWindowBudget / 8},
		{"a thousand streams, low RTT", time.Millisecond, 1000, minWindow},
		{"one stream, high RTT", 100 * time.Millisecond, 1, maxWindow},
		{"eight streams, high RTT", 100 * time.Millisecond, 8, 20 << 20 / 8},
		{"one stream, extreme RTT", 10 * time.Second, 1, maxWindow},
	} {
		var budget windowBudget
		budget.addRTT(tt.rtt + time.Second)
		budget.addRTT(tt.rtt)
		var share int
		for range tt.streams {
			share = budget.streamShare(new(Stream), now)
		}
		if share != tt.want {
			t.Errorf("%s: %d kB, want %d", tt.name, share>>10, tt.want>>10)
		}
		if again := budget.streamShare(new(Stream), now.Add(2*busyTimeout)); again < share {
			t.Errorf("%s: share %d kB after the others have become idle", tt.name, again>>10)
		}
	}
}

func TestStream_ReceiveWindowFollowsItsShare(t *testing.T) {
	c := &Conn{}
	s, other := newStream(c), newStream(c)
	pass := func() { // half a window is received and read
		n := s.receiveWindowSize / 2
		s.receiveWindow -= n
		s.consumed += n
		s.growReceiveWindow()
	}
	for range 20 {
		pass()
	}
	if s.receiveWindowSize != baseWindowBudget {
		t.Errorf("window of a single busy stream: %d kB", s.receiveWindowSize>>10)
	}
	for range 20 {
		c.windowBudget.streamShare(other, time.Now())
		pass()
	}
	if s.receiveWindowSize != baseWindowBudget/2 {
		t.Errorf("window beside another busy stream: %d kB", s.receiveWindowSize>>10)
	}
	if s.receiveWindow+s.consumed != s.receiveWindowSize {
		t.Errorf("the server may send %d kB more, %d kB are not acknowledged, and the window is %d kB", s.receiveWindow>>10, s.consumed>>10, s.receiveWindowSize>>10)
	}
}
