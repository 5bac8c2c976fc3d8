package process

import "sync"

// ownChildren are the children that this process has started itself and has not waited for. The others are orphans that it has adopted.
var ownChildren = childSet{pids: make(map[int]bool)}

type childSet struct {
	mu   sync.Mutex // guards pids
	pids map[int]bool
}

func (s *childSet) add(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pids[pid] = true
}

func (s *childSet) remove(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pids, pid)
}

func (s *childSet) contains(pid int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pids[pid]
}

// RegisterChild says that this process has started a child without Start. The caller calls the returned function when it has waited for it.
func RegisterChild(pid int) (unregister func()) {
	ownChildren.add(pid)
	return func() { ownChildren.remove(pid) }
}
