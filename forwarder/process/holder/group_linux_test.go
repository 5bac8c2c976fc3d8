package holder

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

func TestGroupListensOn_OnlyTheGroupsOwnListeners(t *testing.T) {
	addr := listen(t, "tcp4", "127.0.0.1:0")
	if !GroupListensOn(syscall.Getpgrp(), addr) {
		t.Error("our own listener is not found")
	}
	stranger := exec.CommandContext(t.Context(), "sleep", "1000")
	stranger.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stranger.Process.Kill(); _ = stranger.Wait() })
	if GroupListensOn(stranger.Process.Pid, addr) {
		t.Error("another group's process counts as the listener")
	}
	free := netip.AddrPortFrom(addr.Addr(), 1)
	if GroupListensOn(syscall.Getpgrp(), free) {
		t.Error("the group listens on a free port")
	}
}

func TestOutermostHolder_IsTheOneThatDidNotInheritTheSocket(t *testing.T) {
	parents := map[int]int{10678: 9000, 9000: 1, 10700: 10678, 300: 9000} // 300: pids wrap around
	holders := map[int]Holder{}
	for pid := range parents {
		holders[pid] = Holder{PID: pid}
	}
	if got := outermostHolder(holders, func(pid int) int { return parents[pid] }); got.PID != 9000 {
		t.Errorf("got %+v", got)
	}
	delete(holders, 9000) // it closed the socket
	if got := outermostHolder(holders, func(pid int) int { return parents[pid] }); got.PID != 300 {
		t.Errorf("without it, got %+v", got)
	}
	if got := parentPID(os.Getpid()); got != os.Getppid() {
		t.Errorf("our parent is %d, not %d", got, os.Getppid())
	}
}

func TestFind_ListenerBelongsToTheChildOnceItsParentClosesIt(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), "sleep", "1000")
	child.ExtraFiles = []*os.File{file}
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = child.Process.Kill(); _ = child.Wait() })
	_ = file.Close()
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	if got, ok := Find(addr); !ok || got.PID != os.Getpid() {
		t.Errorf("while we have it too, got %+v, %v", got, ok)
	}
	_ = l.Close()
	if !GroupListensOn(child.Process.Pid, addr) {
		t.Error("the child's group does not own it")
	}
	if got, ok := Find(addr); !ok || got.PID != child.Process.Pid || !strings.HasPrefix(got.Name, "sleep") {
		t.Errorf("got %+v, %v", got, ok)
	}
}
