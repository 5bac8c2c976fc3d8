package lockstate

import "sync"

// leaseID identifies the holder of a lease.
type leaseID struct {
	kind LeaseKind
	Process
	namespace uint64
}

// marked are the leases whose processes are known to be running although they are not visible here.
var marked = struct {
	sync.Mutex
	leases map[leaseID]int
}{leases: make(map[leaseID]int)}

// MarkAlive says that a lease's process, which is not visible in this PID namespace, is running until unmark is called: the caller has a pidfd
// of it.
func (l Lease) MarkAlive() (unmark func()) {
	id := leaseID{l.Kind, l.Process, l.PIDNamespace}
	marked.Lock()
	defer marked.Unlock()
	marked.leases[id]++
	return sync.OnceFunc(func() {
		marked.Lock()
		defer marked.Unlock()
		if marked.leases[id]--; marked.leases[id] == 0 {
			delete(marked.leases, id)
		}
	})
}

func (l Lease) isMarkedAlive() bool {
	marked.Lock()
	defer marked.Unlock()
	return marked.leases[leaseID{l.Kind, l.Process, l.PIDNamespace}] > 0
}
