package relay

import "testing"

// takeAll takes seats until there is none.
func (sh *share) takeAll() (n int) {
	for sh.take() {
		n++
	}
	return n
}

func join(s *Seats, n int) []*share {
	shares := make([]*share, n)
	for i := range shares {
		shares[i] = s.join()
	}
	return shares
}

func TestSeats_AreSharedSoThatNobodyTakesAll(t *testing.T) {
	for name, c := range map[string]struct {
		limit, reserved, relays int
		want                    []int // what the relays get that take all they can, one after the other
	}{
		"1024 files, two relays":            {1024, 104, 2, []int{57 + 231, 57 + 77}},
		"1024 files, alone":                 {1024, 104, 1, []int{115 + 230}},
		"1024 files, ten relays":            {1024, 124, 10, []int{11 + 227, 11 + 76, 11 + 25, 11 + 8, 11 + 3, 11 + 1}},
		"as many seats as relays":           {100, 94, 3, []int{1, 1, 1}},
		"fewer seats than relays":           {100, 96, 3, []int{2, 0, 0}},
		"nothing is left for clients":       {64, 200, 1, []int{1}},
		"as good as unlimited, two of them": {1 << 20, 1 << 10, 2, []int{65472 + 261888, 65472 + 87296}},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSeats(c.limit, c.reserved)
			shares := join(s, c.relays)
			for i, want := range c.want {
				if got := shares[i].takeAll(); got != want {
					t.Errorf("relay %d of %d got %d of %d seats, want %d", i+1, c.relays, got, s.total, want)
				}
			}
			if s.used > s.total {
				t.Errorf("%d of %d seats are taken", s.used, s.total)
			}
		})
	}
}

func TestSeats_AreLeftForARelayThatJoinsLater(t *testing.T) {
	s := NewSeats(1024, 104)
	first := s.join()
	first.takeAll()
	second := s.join()
	if n := second.takeAll(); n < s.guaranteed {
		t.Errorf("it got %d seats, guaranteed are %d", n, s.guaranteed)
	}
	if first.take() {
		t.Error("the first got even more")
	}
}

func TestSeats_AreRebalancedWhenARelayLeaves(t *testing.T) {
	s := NewSeats(1024, 104)
	shares := join(s, 2)
	n := shares[0].takeAll()
	tryAgain, stop := s.wait()
	defer stop()
	shares[1].leave()
	signal(t, tryAgain)
	if more := shares[0].takeAll(); n+more != 115+230 {
		t.Errorf("it got %d seats", n+more)
	}
	for range shares[0].used {
		shares[0].release()
	}
	if s.used != 0 || s.borrowed != 0 {
		t.Errorf("%d seats are taken, %d of them borrowed", s.used, s.borrowed)
	}
}

func TestSeats_AreKeptWhenThereAreFewer(t *testing.T) {
	s := NewSeats(1024, 104)
	shares := join(s, 2)
	n := shares[0].takeAll()
	s.Resize(256, 104)
	if shares[0].used != n || shares[0].take() || shares[1].take() {
		t.Errorf("%d of %d seats are taken", s.used, s.total)
	}
	for s.used > s.total/2 {
		shares[0].release()
	}
	if !shares[1].take() {
		t.Error("the other relay gets none")
	}
}

func TestSeats_AllocateNothing(t *testing.T) {
	sh := NewSeats(1024, 104).join()
	if n := testing.AllocsPerRun(1000, func() { sh.take(); sh.release() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
