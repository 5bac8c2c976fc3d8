package sshd

import (
	"bytes"
	"fmt"
	"os/exec"
	"syscall"
)

// Kill ends the server and every login by force, as a crash of the machine would seem to its clients. It may be
// called more than once.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	select {
	case <-s.process.Done():
		return
	default:
	}
	logins := s.suspendAndListLogins()
	s.process.Stop(0)
	for _, pid := range logins {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// Freeze stops the server and every login where they stand, as a network that drops all packets would seem to
// their clients. Kill ends them.
func (s *Server) Freeze() {
	for _, pid := range s.suspendAndListLogins() {
		_ = syscall.Kill(pid, syscall.SIGSTOP)
	}
}

// Thaw lets a frozen server and its logins go on.
func (s *Server) Thaw() {
	for _, pid := range append(s.suspendAndListLogins(), s.process.Pid()) {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// suspendAndListLogins stops the listener, so that there will be no more, and returns the processes of those that there are: each is
// in a session of its own.
func (s *Server) suspendAndListLogins() []int {
	_ = syscall.Kill(s.process.Pid(), syscall.SIGSTOP)
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=").Output()
	if err != nil {
		s.t.Errorf("ps: %v", err)
	}
	children := map[int][]int{}
	for line := range bytes.Lines(out) {
		var pid, parent int
		if _, err := fmt.Sscan(string(line), &pid, &parent); err == nil {
			children[parent] = append(children[parent], pid)
		}
	}
	all := children[s.process.Pid()]
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}
