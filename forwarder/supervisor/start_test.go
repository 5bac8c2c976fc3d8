package supervisor

import (
	"os/exec"
	"testing"
	"time"

	"github.com/localport-sh/localport/lockstate"
)

func TestIsDeadWithin_WaitsForAProcessThatIsAboutToEnd(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "cat")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	ending, ok := lockstate.FindProcess(cmd.Process.Pid)
	if !ok || !ending.IsAlive() {
		t.Fatal("the process has ended already")
	}
	resultCh := make(chan bool)
	go func() { resultCh <- isDeadWithin(t.Context(), ending, 30*time.Second) }()
	_ = stdin.Close()
	if !<-resultCh {
		t.Error("a process that has ended does not count as dead")
	}
	if isDeadWithin(t.Context(), lockstate.Self(), deathTimeout) {
		t.Error("this process counts as dead")
	}
}
