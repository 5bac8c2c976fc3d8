//go:build linux

package lockstate

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

const otherNamespace = 12345

func TestLease_OfAnotherNamespaceIsAliveWhileItIsMarked(t *testing.T) {
	if ownNamespaces().pid != initialPIDNamespace {
		t.Skip("a lease that is not visible is never judged dead in a container")
	}
	lease := Lease{Kind: ShellLease, Process: Process{PID: 1 << 30, Start: 1}, PIDNamespace: otherNamespace, Since: time.Now().Add(-time.Hour)}
	if _, isVisible := lease.VisibleProcess(); isVisible || lease.IsAlive() || !lease.hasExpired() {
		t.Errorf("visible %v, alive %v, expired %v", isVisible, lease.IsAlive(), lease.hasExpired())
	}
	first, second := lease.MarkAlive(), lease.MarkAlive()
	for range 2 {
		first() // only the first call counts
	}
	if !lease.IsAlive() || lease.hasExpired() {
		t.Error("it is not alive although it is marked once")
	}
	st := State{Leases: []Lease{lease}}
	st.PruneLeases()
	if len(st.Leases) != 1 {
		t.Error("the marked lease was pruned")
	}
	second()
	if lease.IsAlive() {
		t.Error("it is alive although it is not marked")
	}
	if taken := time.Now(); (Lease{PIDNamespace: otherNamespace, Since: taken}).hasExpired() {
		t.Error("a new lease has expired")
	}
	if taken := time.Now().Add(24 * time.Hour); !(Lease{PIDNamespace: otherNamespace, Since: taken}).hasExpired() {
		t.Error("a lease of before the clock was set back has not expired")
	}
}

func TestLease_OfANamespaceBelowIsFoundByItsPIDThere(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root can make PID namespaces")
	}
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL}
	requireNoError(t, cmd.Start())
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	outer, _ := FindProcess(cmd.Process.Pid)
	namespace, err := namespaceOf(strconv.Itoa(cmd.Process.Pid), "pid")
	requireNoError(t, err)
	inner := Process{PID: 1, Start: outer.Start}
	lease := Lease{Kind: ShellLease, Process: inner, PIDNamespace: namespace}
	if found, ok := lease.VisibleProcess(); !ok || found != outer || !lease.IsAlive() {
		t.Errorf("found %v (%v), alive %v; want %v", found, ok, lease.IsAlive(), outer)
	}
	supervisor := &Supervisor{Process: inner, PIDNamespace: namespace}
	if found, ok := supervisor.VisibleProcess(); !ok || found != outer {
		t.Errorf("found the supervisor %v (%v); want %v", found, ok, outer)
	}
}

func TestSupervisor_KnowsInWhichNamespacesItDiffers(t *testing.T) {
	own := (&Supervisor{Process: Self()}).Here()
	if kinds := own.ForeignNamespaces(); len(kinds) > 0 || own.IsForeign() || own.IsOnOtherNetwork() || own.IsInUserNamespaceAbove() || !own.IsAlive() {
		t.Errorf("of this process: %q", kinds)
	}
	if p, ok := own.VisibleProcess(); !ok || p != Self() {
		t.Errorf("it is visible as %v (%v)", p, ok)
	}
	other := &Supervisor{PIDNamespace: otherNamespace, NetNamespace: otherNamespace, MountNamespace: otherNamespace, UserNamespace: otherNamespace}
	if kinds := other.ForeignNamespaces(); !slices.Equal(kinds, []string{"user", "mount", "PID"}) || !other.IsForeign() || !other.IsOnOtherNetwork() {
		t.Errorf("of another one: %q", kinds)
	}
	if _, ok := other.VisibleProcess(); ok || !other.IsAlive() {
		t.Error("a supervisor that is not visible was judged dead, or found")
	}
	if got, want := other.IsInUserNamespaceAbove(), ownNamespaces().user != initialUserNamespace; got != want {
		t.Errorf("in a user namespace above: %v, want %v", got, want)
	}
}

func TestPIDFD_TellsTheEndOfAProcess(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	requireNoError(t, cmd.Start())
	p, _ := FindProcess(cmd.Process.Pid)
	pidfd, err := OpenPIDFD(p)
	requireNoError(t, err)
	defer pidfd.Close()
	requireNoError(t, cmd.Process.Signal(syscall.SIGSTOP))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for !p.IsStopped() {
		if ctx.Err() != nil {
			t.Fatal("SIGSTOP has not stopped it")
		}
	}
	canceled, cancelNow := context.WithCancel(ctx)
	cancelNow()
	if err := WaitPIDFD(canceled, pidfd); err == nil {
		t.Error("it has ended although it has not")
	}
	requireNoError(t, pidfd.SetReadDeadline(time.Time{}))
	requireNoError(t, cmd.Process.Kill())
	requireNoError(t, WaitPIDFD(ctx, pidfd))
	_ = cmd.Wait()
	if p.IsStopped() {
		t.Error("a process that has ended is stopped")
	}
	if _, err := OpenPIDFD(p); err == nil {
		t.Error("a process that has ended was opened")
	}
	if _, err := OpenPIDFD(Process{PID: os.Getpid(), Start: 1}); err == nil {
		t.Error("a later process with the pid was opened")
	}
}
