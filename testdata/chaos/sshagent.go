package chaos

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// sshAgent is a real ssh-agent with one key.
type sshAgent struct {
	dir     string // for the sockets
	keyFile string
	env     []string

	mu     sync.Mutex // guards the fields that follow
	cmd    *exec.Cmd  // nil while none runs
	number int        // of starts
	socket string     // of the last one that was started
}

// newSSHAgent starts an agent that has the key.
func newSSHAgent(dir, keyFile string, env []string) (*sshAgent, error) {
	a := &sshAgent{dir: dir, keyFile: keyFile, env: env}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return a, a.start()
}

// start starts an agent at a new socket, unless one runs, and returns when it has the key.
func (a *sshAgent) start() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd != nil {
		return nil
	}
	a.number++
	a.socket = filepath.Join(a.dir, strconv.Itoa(a.number))
	cmd := exec.Command("ssh-agent", "-D", "-a", a.socket)
	cmd.Env = a.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	a.cmd = cmd
	if line, _ := bufio.NewReader(out).ReadString('\n'); !strings.HasPrefix(line, "SSH_AUTH_SOCK=") { // printed when it listens
		return fmt.Errorf("ssh-agent printed %q", line)
	}
	return a.runSSHAdd(a.keyFile)
}

// stop kills the agent and removes its socket, as the end of a login session does.
func (a *sshAgent) stop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd == nil {
		return
	}
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
	_ = os.Remove(a.socket)
	a.cmd = nil
}

func (a *sshAgent) addKey() error     { return a.runSSHAdd(a.keyFile) }
func (a *sshAgent) removeKeys() error { return a.runSSHAdd("-D") }

func (a *sshAgent) runSSHAdd(arg string) error {
	cmd := exec.Command("ssh-add", arg)
	cmd.Env = append(slices.Clip(a.env), "SSH_AUTH_SOCK="+a.socket)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ssh-add %s: %w: %s", arg, err, out)
	}
	return nil
}

// socketPath returns the socket of the agent that was started last, which may be gone.
func (a *sshAgent) socketPath() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.socket
}

// pid returns 0 while no agent runs.
func (a *sshAgent) pid() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.cmd == nil {
		return 0
	}
	return a.cmd.Process.Pid
}
