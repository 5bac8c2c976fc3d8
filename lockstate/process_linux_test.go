package lockstate

import (
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// execAgainVariable makes TestProcess_ExecAgainHelper execute this program again so many times, each time from a thread that is not the
// first.
const execAgainVariable = "LOCALPORT_TEST_EXEC_AGAIN"

func TestProcess_ExecAgainHelper(t *testing.T) {
	left, err := strconv.Atoi(os.Getenv(execAgainVariable))
	if err != nil {
		return
	}
	if left == 0 {
		os.Exit(0)
	}
	t.Setenv(execAgainVariable, strconv.Itoa(left-1))
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		done <- syscall.Exec(os.Args[0], os.Args, os.Environ())
	}()
	t.Fatal(<-done)
}

func TestProcess_AliveThroughoutExec(t *testing.T) {
	const times = 40
	cmd := exec.Command(os.Args[0], "-test.run=^TestProcess_ExecAgainHelper$")
	cmd.Env = append(os.Environ(), execAgainVariable+"="+strconv.Itoa(times))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p, ok := FindProcess(cmd.Process.Pid)
	if !ok {
		t.Fatal("not found")
	}
	ended := make(chan error, 1)
	dead, recent := 0, 0 // recent ones are wrong if it is found alive again: that it has ended may be told late
	go func() { ended <- waitWithoutReaping(cmd.Process.Pid) }()
	for {
		alive := p.IsAlive()
		select {
		case err := <-ended:
			if err != nil || dead > 0 {
				t.Errorf("it was taken for dead %d times while it ran; %v", dead, err)
			}
			_ = cmd.Wait()
			return
		default:
		}
		if alive {
			dead, recent = dead+recent, 0
		} else {
			recent++
		}
	}
}

// waitWithoutReaping returns when a child has ended; it stays a zombie.
func waitWithoutReaping(pid int) error {
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err
		}
	}
}
