package relay

import "testing"

// acquireAll acquires slots until none is free for the share.
func (sh *slotShare) acquireAll() (n int) {
	for sh.acquire() {
		n++
	}
	return n
}

func addShares(s *SlotAllocator, n int) []*slotShare {
	shares := make([]*slotShare, n)
	for i := range shares {
		shares[i] = s.addShare()
	}
	return shares
}

func TestSlotAllocator_NoShareTakesAllSlots(t *testing.T) {
	for name, c := range map[string]struct {
		limit, reserved, relays int
		want                    []int // what each relay gets when one after the other acquires all it can
	}{
		"1024 files, two relays":            {1024, 104, 2, []int{57 + 231, 57 + 77}},
		"1024 files, alone":                 {1024, 104, 1, []int{115 + 230}},
		"1024 files, ten relays":            {1024, 124, 10, []int{11 + 227, 11 + 76, 11 + 25, 11 + 8, 11 + 3, 11 + 1}},
		"as many slots as relays":           {100, 94, 3, []int{1, 1, 1}},
		"fewer slots than relays":           {100, 96, 3, []int{2, 0, 0}},
		"nothing is left for clients":       {64, 200, 1, []int{1}},
		"as good as unlimited, two of them": {1 << 20, 1 << 10, 2, []int{65472 + 261888, 65472 + 87296}},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSlotAllocator(c.limit, c.reserved)
			shares := addShares(s, c.relays)
			for i, want := range c.want {
				if got := shares[i].acquireAll(); got != want {
					t.Errorf("relay %d of %d got %d of %d slots, want %d", i+1, c.relays, got, s.total, want)
				}
			}
			if s.used > s.total {
				t.Errorf("%d of %d slots are used", s.used, s.total)
			}
		})
	}
}

func TestSlotAllocator_LeavesSlotsForLaterShare(t *testing.T) {
	s := NewSlotAllocator(1024, 104)
	first := s.addShare()
	first.acquireAll()
	second := s.addShare()
	if n := second.acquireAll(); n < s.guaranteedPerShare {
		t.Errorf("got %d slots, %d are guaranteed", n, s.guaranteedPerShare)
	}
	if first.acquire() {
		t.Error("the first relay got even more")
	}
}

func TestSlotAllocator_RebalancesWhenShareIsRemoved(t *testing.T) {
	s := NewSlotAllocator(1024, 104)
	shares := addShares(s, 2)
	n := shares[0].acquireAll()
	slotFreedCh, unsubscribe := s.subscribe()
	defer unsubscribe()
	shares[1].remove()
	receive(t, slotFreedCh)
	if more := shares[0].acquireAll(); n+more != 115+230 {
		t.Errorf("got %d slots", n+more)
	}
	for range shares[0].used {
		shares[0].release()
	}
	if s.used != 0 || s.takenFromPool != 0 {
		t.Errorf("%d slots are used, %d of them from the pool", s.used, s.takenFromPool)
	}
}

func TestSlotAllocator_ResizeKeepsUsedSlots(t *testing.T) {
	s := NewSlotAllocator(1024, 104)
	shares := addShares(s, 2)
	n := shares[0].acquireAll()
	s.Resize(256, 104)
	if shares[0].used != n || shares[0].acquire() || shares[1].acquire() {
		t.Errorf("%d of %d slots are used", s.used, s.total)
	}
	for s.used > s.total/2 {
		shares[0].release()
	}
	if !shares[1].acquire() {
		t.Error("the other relay gets none")
	}
}

func TestSlotAllocator_AllocatesNoMemory(t *testing.T) {
	sh := NewSlotAllocator(1024, 104).addShare()
	if n := testing.AllocsPerRun(1000, func() { sh.acquire(); sh.release() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
