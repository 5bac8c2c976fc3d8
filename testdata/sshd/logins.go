package sshd

import (
	"bytes"
	"fmt"
	"os/exec"
	"syscall"
)

// Kill kills the server and the processes of every login. To clients this looks like a crash of the machine. It may be called more than
// once.
func (s *Server) Kill() {
	if s.process == nil {
		return
	}
	select {
	case <-s.process.Done():
		return
	default:
	}
	for logins := s.suspendLogins(); len(logins) > 0; logins = s.suspendLogins() {
		for _, pid := range logins {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
	s.process.Stop(0)
}

// suspendLogins suspends the server and the processes of every login, and returns these. ps lists processes one after the other, and may miss one that was
// just forked: it is found the next time, while its parent is suspended. If the parent were killed first, it would be found no more.
func (s *Server) suspendLogins() []int {
	suspended := map[int]bool{}
	for {
		logins, isComplete := s.suspendAndListLogins(), true
		for _, pid := range logins {
			if !suspended[pid] {
				suspended[pid], isComplete = true, false
				_ = syscall.Kill(pid, syscall.SIGSTOP)
			}
		}
		if isComplete {
			return logins
		}
	}
}

// Freeze sends SIGSTOP to the server and the processes of every login. To clients this looks like a network that drops all packets.
func (s *Server) Freeze() {
	s.suspendLogins()
}

// Thaw continues a frozen server and its logins.
func (s *Server) Thaw() {
	for _, pid := range append(s.suspendAndListLogins(), s.process.Pid()) {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// suspendAndListLogins sends SIGSTOP to the listener, so that no login is added, and returns the processes of all logins. They are found
// by parent: each login has its own session and process group.
func (s *Server) suspendAndListLogins() []int {
	_ = syscall.Kill(s.process.Pid(), syscall.SIGSTOP)
	out, err := exec.Command("ps", "-A", "-o", "pid=,ppid=,stat=").Output()
	if err != nil {
		s.t.Errorf("ps: %v", err)
	}
	children := map[int][]int{}
	for line := range bytes.Lines(out) {
		var pid, parent int
		var state string
		if _, err := fmt.Sscan(string(line), &pid, &parent, &state); err == nil && state[0] != 'Z' {
			children[parent] = append(children[parent], pid)
		}
	}
	all := children[s.process.Pid()]
	for i := 0; i < len(all); i++ {
		all = append(all, children[all[i]]...)
	}
	return all
}
