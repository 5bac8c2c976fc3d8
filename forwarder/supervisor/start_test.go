package supervisor

import (
	"os/exec"
	"testing"

	"github.com/localport-sh/localport/lockstate"
)

func TestIsDead_WaitsForAProcessThatIsAboutToEnd(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sleep", "0.1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Wait() }()
	ending, ok := lockstate.FindProcess(cmd.Process.Pid)
	if !ok || !ending.IsAlive() {
		t.Fatal("the process has ended already")
	}
	if !isDead(t.Context(), ending) {
		t.Error("a process that ends after 0.1 s does not count as dead")
	}
	if isDead(t.Context(), lockstate.Self()) {
		t.Error("this process counts as dead")
	}
}
