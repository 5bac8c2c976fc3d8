package lockstate

import (
	"errors"
	"fmt"
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
	remaining, err := strconv.Atoi(os.Getenv(execAgainVariable))
	if err != nil {
		return
	}
	if remaining == 0 {
		os.Exit(0)
	}
	t.Setenv(execAgainVariable, strconv.Itoa(remaining-1))
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
	endedCh := make(chan error, 1)
	dead, recent := 0, 0 // recent results were wrong if it is alive again later; its end may be noticed late
	go func() { endedCh <- waitWithoutReaping(cmd.Process.Pid) }()
	for {
		alive := p.IsAlive()
		select {
		case err := <-endedCh:
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

func TestProcess_ParseStartTime(t *testing.T) {
	const rest = " 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 %s 0 3510283 0 0"
	for _, tt := range []struct {
		name, stat, threads string
		want                uint64
		wantErr             error
	}{
		{"running", "7 (sh) R", "1", 3510283, nil},
		{"name with parentheses", "7 (a) Z (b) S", "1", 3510283, nil},
		{"zombie", "7 (sh) Z", "1", 0, errEnded},
		{"zombie that is being released", "7 (sh) Z", "0", 0, errReleased},
		{"zombie with another thread, which calls execve", "7 (sh) Z", "2", 3510283, nil},
		{"dead", "7 (sh) X", "0", 0, errReleased},
		{"empty", "", "", 0, errEnded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stat := tt.stat
			if stat != "" {
				stat += fmt.Sprintf(rest, tt.threads)
			}
			if got, err := parseStartTime([]byte(stat)); got != tt.want || !errors.Is(err, tt.wantErr) {
				t.Errorf("%q: %d, %v; want %d, %v", stat, got, err, tt.want, tt.wantErr)
			}
		})
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
