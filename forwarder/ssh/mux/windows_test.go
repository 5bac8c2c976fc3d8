package mux

import (
	"testing"
	"time"
)

func TestStreamsThatMuchComesForShareWhatTheWayNeeds(t *testing.T) {
	now := time.Unix(0, 0)
	for _, tt := range []struct {
		name    string
		way     time.Duration
		streams int
		want    int
	}{
		{"one, near by", time.Millisecond, 1, allWindows},
		{"eight, near by", time.Millisecond, 8, allWindows / 8},
		{"a thousand, near by", time.Millisecond, 1000, leastWindow},
		{"one, far away", 100 * time.Millisecond, 1, lastWindow},
		{"eight, far away", 100 * time.Millisecond, 8, 20 << 20 / 8},
		{"one, at the end of the world", 10 * time.Second, 1, lastWindow},
	} {
		var w windows
		w.took(tt.way + time.Second)
		w.took(tt.way)
		var share int
		for range tt.streams {
			share = w.share(new(Stream), now)
		}
		if share != tt.want {
			t.Errorf("%s: %d kB, want %d", tt.name, share>>10, tt.want>>10)
		}
		if again := w.share(new(Stream), now.Add(2*lull)); again < share {
			t.Errorf("%s: when the others have fallen quiet: %d kB", tt.name, again>>10)
		}
	}
}

func TestAWindowGrowsAndShrinksWithItsShare(t *testing.T) {
	c := &Conn{}
	s, other := newStream(c), newStream(c)
	pass := func() { // half a window comes and is passed on
		n := s.size / 2
		s.window -= n
		s.taken += n
		s.more()
	}
	for range 20 {
		pass()
	}
	if s.size != allWindows {
		t.Errorf("alone it grew to %d kB", s.size>>10)
	}
	for range 20 {
		c.windows.share(other, time.Now())
		pass()
	}
	if s.size != allWindows/2 {
		t.Errorf("beside another it is %d kB", s.size>>10)
	}
	if s.window+s.taken != s.size {
		t.Errorf("the far side may send %d kB more, %d kB are not told yet, and the window is %d kB", s.window>>10, s.taken>>10, s.size>>10)
	}
}
