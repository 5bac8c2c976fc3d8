package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// sshServer is a real sshd that accepts two keys, which were made for it.
type sshServer struct {
	dir    string
	port   int
	env    []string
	cmd    *exec.Cmd
	config string // an ssh_config for clients, with the user's key and the known host key
	// agentConfig is one for clients whose key is in the agent at SSH_AUTH_SOCK. Its host is agentServiceName.
	agentConfig  string
	agentKeyFile string // for ssh-add
}

func newSSHServer(dir string, port int, env []string) (*sshServer, error) {
	s := &sshServer{
		dir: dir, port: port, env: env, config: filepath.Join(dir, "ssh_config"),
		agentConfig: filepath.Join(dir, "ssh_config_agent"), agentKeyFile: filepath.Join(dir, "agent"),
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil { // as root, sshd does not start without it
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	for _, key := range []string{"host", "user", "agent"} {
		out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", filepath.Join(dir, key)).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("ssh-keygen: %w: %s", err, out)
		}
	}
	host, err := os.ReadFile(filepath.Join(dir, "host.pub"))
	if err != nil {
		return nil, err
	}
	files := map[string]string{
		"known_hosts": fmt.Sprintf("[127.0.0.1]:%d %s", port, host),
		"ssh_config": fmt.Sprintf("Host *\nUserKnownHostsFile %s/known_hosts\nGlobalKnownHostsFile /dev/null\nIdentityFile %s/user\n"+
			"IdentityAgent none\nIdentitiesOnly yes\n", dir, dir),
		"ssh_config_agent": fmt.Sprintf("Host %s\nHostName 127.0.0.1\nUserKnownHostsFile %s/known_hosts\nGlobalKnownHostsFile /dev/null\n"+
			"IdentityFile none\nIdentityAgent SSH_AUTH_SOCK\n", agentServiceName, dir),
		"sshd_config": fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %s/host\nAuthorizedKeysFile %s/user.pub %s/agent.pub\nPidFile none\nStrictModes no\n"+
			"UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\n", port, dir, dir, dir),
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return nil, err
		}
	}
	return s, s.start()
}

// start starts the server unless it runs, and returns when it listens.
func (s *sshServer) start() error {
	if s.cmd != nil {
		return nil
	}
	program, err := exec.LookPath("sshd")
	if err != nil {
		program = "/usr/sbin/sshd"
	}
	cmd := exec.Command(program, "-D", "-e", "-f", filepath.Join(s.dir, "sshd_config"))
	cmd.Env = s.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	s.cmd = cmd
	listeningCh := make(chan bool, 1)
	go func() {
		lines := bufio.NewScanner(stderr)
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "Server listening on") {
				listeningCh <- true
			}
		}
		close(listeningCh)
	}()
	select {
	case ok := <-listeningCh:
		if ok {
			return nil
		}
		return errors.New("sshd ended without listening on port " + strconv.Itoa(s.port))
	case <-time.After(10 * time.Second):
		return errors.New("sshd does not listen after 10 s")
	}
}

// stop kills the server and the processes that serve its clients.
func (s *sshServer) stop() {
	if s.cmd == nil {
		return
	}
	all := listProcesses()
	var kill func(pid int)
	kill = func(pid int) {
		_ = syscall.Kill(pid, syscall.SIGSTOP) // so that it starts no other child meanwhile
		for _, child := range childrenOf(all, pid) {
			kill(child.pid)
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	kill(s.cmd.Process.Pid)
	_ = s.cmd.Wait()
	s.cmd = nil
}
