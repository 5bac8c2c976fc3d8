package shellhook_test

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"
)

// becomeZombie kills the process and waits until it has ended, without reaping it.
func (p *process) becomeZombie(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Kill()
	if err := unix.Waitid(unix.P_PID, p.pid, nil, unix.WEXITED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
}

func TestHook_DetectsADeadSupervisor(t *testing.T) {
	eachShell(t, func(t *testing.T, shell string, w *testEnv) {
		root := w.project("p")
		for _, name := range []string{"localport-x", "a) S 1 (b) c"} {
			alive := startProcess(t, name)
			w.setLine(root, alive.line(1))
			s := w.start(shell)
			s.Run(cd(root))
			w.expectQuiet(s)
			w.expectQuiet(s)

			alive.becomeZombie(t)
			w.expectExports(s, "true", 1) // a zombie is dead
			w.setLine(root, "2 0 0")
			w.expectExports(s, "true", 1)
			w.expectQuiet(s)

			next := startProcess(t, name)
			w.setLine(root, next.line(3))
			w.expectExports(s, "true", 1)
			w.expectQuiet(s)
			next.end()
			w.expectExports(s, "true", 1)

			other := startProcess(t, name)
			w.setLine(root, fmt.Sprintf("4 %d %s1", other.pid, other.start))
			w.expectExports(s, "true", 1) // the line is new
			w.expectExports(s, "true", 1) // and its pid has been recycled
		}
	})
}
