package chaos

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// editEvent changes connect_timeout, and may add a service, or add one and remove it again, and allows each change. No tunnel may end.
func editEvent(p *project, r *rand.Rand) bool {
	if p.act.State == Up || p.act.State == Busy {
		p.tunnelsToKeep = p.listLastingTunnels()
	}
	p.config.hasOtherTimeout = true
	switch r.IntN(3) {
	case 0:
		p.config.hasExtraService = true
	case 1:
		p.config.hasExtraService = true
		p.writeFiles()
		p.runOrRepeatLater("allow")
		p.config.hasExtraService = false
	}
	p.logf("edit: %+v", p.config)
	p.writeFiles()
	p.runOrRepeatLater("allow")
	return true
}

// editOnlyEvent changes the config and does not allow it until the event ends. In one of two cases the config cannot be parsed.
func editOnlyEvent(p *project, r *rand.Rand) bool {
	p.config.isBroken = r.IntN(2) == 0
	return p.editWithoutAllow()
}

// editDotEnvEvent writes a .env beside the config and does not allow it until the event ends.
func editDotEnvEvent(p *project, _ *rand.Rand) bool {
	p.config.hasDotEnv = true
	p.allowInterruption(p.servicesWithProcesses(), false) // their environment changes
	return p.editWithoutAllow()
}

// findUnreportedChange describes a status that does not say that the config was changed. A status shows the last comparison if one takes long.
func (p *project) findUnreportedChange() string {
	if s, err := parseStatus(p.runLocalport("status", "--json").stdout); err == nil && s.State == stateRunning && s.Pending == "" {
		return "nothing is pending"
	}
	return ""
}

// editWithoutAllow writes the files, and allows them when the event ends.
func (p *project) editWithoutAllow() bool {
	p.logf("edit, not allowed: %+v", p.config)
	p.writeFiles()
	p.addUndo(func() {
		if p.act.Duration > time.Second && !p.isInTransition() && p.world.awaitNoProblem(recoveryLimit, p.findUnreportedChange) != "" {
			p.fail("the config was changed and is not allowed; status does not say so")
		}
		p.config.isBroken = false
		p.writeFiles()
		p.runOrRepeatLater("allow")
	})
	return true
}

func denyEvent(p *project, _ *rand.Rand) bool {
	p.allowInterruption(nil, true)
	p.isOutcomeUnknown = p.isOutcomeUnknown || p.isInTransition()
	p.hasStartLease, p.isDenied = false, true
	p.mayBeDownUnnoticed = true
	p.runOrRepeatLater("deny")
	p.isDown = false // only the denial keeps it down: allow is all that it takes, unless somebody also runs stop
	p.addUndo(func() {
		p.runOrRepeatLater("allow")
		p.isDenied = false
	})
	return true
}

// stealPortEvent stops web, starts another program on its port, and starts web again.
func stealPortEvent(p *project, _ *rand.Rand) bool {
	p.allowInterruption(p.withDependents("web"), true)
	if p.act.State != Down && !p.isInTransition() {
		p.mustRun("stop", "web")
	}
	holder, err := p.startPortHolder(p.ports["web"])
	if err != nil {
		p.logf("no program can listen on the port: %v", err)
		if p.act.State != Down && !p.isInTransition() {
			p.fail("web is stopped, and its port cannot be taken: %v", err)
		}
		return false
	}
	p.logf("program %d listens on port %d", holder.Process.Pid, p.ports["web"])
	p.addUndo(func() {
		p.checkPortHolderIsNamed(holder.Process.Pid)
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	if p.act.State != Starting {
		p.isOutcomeUnknown = p.isOutcomeUnknown || p.act.State == Stopping
		p.hasStartLease, p.isDown = true, false
		p.logf("%s", p.runLocalport(append([]string{"start", "--no-wait"}, p.withDependents("web")...)...))
		if p.act.State == Down { // only web and its dependents were started
			p.isOutcomeUnknown = true
		}
	}
	return true
}

// startPortHolder starts a program and returns when it listens on a port. It tries for 5 s: the port may be about to be closed.
func (p *project) startPortHolder(port int) (*exec.Cmd, error) {
	deadline := time.Now().Add(5 * time.Second)
	for {
		cmd := exec.Command(p.world.self, "hold-port", strconv.Itoa(port))
		cmd.Env = p.world.environment()
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		if line, _ := bufio.NewReader(out).ReadString('\n'); line == "listening\n" {
			return cmd, nil
		}
		_ = cmd.Wait()
		if time.Now().After(deadline) {
			return nil, errors.New("the port is in use")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// checkPortHolderIsNamed checks that status says that web's port is held by a program, and names that program's pid, not its child's.
func (p *project) checkPortHolderIsNamed(pid int) {
	p.background.Wait() // a stop may be running
	if p.isOutcomeUnknown || p.isInTransition() || !p.mustBeUp() {
		return
	}
	if problem := p.world.awaitNoProblem(recoveryLimit, func() string {
		s, err := parseStatus(p.runLocalport("status", "--json").stdout)
		if err != nil {
			return err.Error()
		}
		web, _ := s.service("web")
		if s.State != stateRunning || web.State != "failed" || web.Held || !strings.Contains(web.LastError, fmt.Sprintf("pid %d", pid)) {
			return fmt.Sprintf("%s, web is %s, held %v: %s", s.State, web.State, web.Held, web.LastError)
		}
		return ""
	}); problem != "" {
		p.fail("the port of web is held by pid %d, and status does not say so after %v: %s", pid, recoveryLimit, problem)
	}
}

func sshServerGoneEvent(p *project, _ *rand.Rand) bool {
	p.world.sshMu.Lock()
	defer p.world.sshMu.Unlock()
	p.logf("the ssh server is gone")
	p.world.sshStops.Add(1) // all projects' connections through it may end
	p.world.ssh.stop()
	p.addUndo(func() {
		p.world.sshMu.Lock()
		defer p.world.sshMu.Unlock()
		if err := p.world.ssh.start(); err != nil {
			p.fail("%v", err)
		}
	})
	return true
}

func upstreamGoneEvent(p *project, _ *rand.Rand) bool {
	p.allowInterruption(nil, false)
	if p.act.Meanwhile != "kill supervisor" { // the kernel ends the connections of a killed one
		p.expectReset("web")
	}
	p.logf("the upstream is gone")
	p.upstream.stop()
	p.addUndo(func() {
		if err := p.upstream.start(); err != nil {
			p.fail("%v", err)
		}
	})
	return true
}

// projectGoneEvent renames or removes the project's directory until the event ends.
func projectGoneEvent(p *project, r *rand.Rand) bool {
	isRemoved := r.IntN(2) == 0
	p.allowInterruption(nil, true)
	p.isOutcomeUnknown = p.isOutcomeUnknown || p.hasStartLease || p.isInTransition()
	p.mayBeDownUnnoticed = true
	p.movedDir = p.dir + ".away"
	p.logf("the directory is gone, removed: %v", isRemoved)
	var err error
	if isRemoved {
		err = os.RemoveAll(p.dir)
	} else {
		err = os.Rename(p.dir, p.movedDir)
	}
	if err != nil {
		p.fail("%v", err)
	}
	p.addUndo(func() { p.restoreDirectory(isRemoved) })
	return true
}

// restoreDirectory checks that the supervisor has ended, and makes the directory or renames it back.
func (p *project) restoreDirectory(isRemoved bool) {
	p.background.Wait() // the shells are used below
	if p.act.State != Starting {
		if supervisor := p.awaitNoSupervisor(); supervisor != "" {
			p.fail("the project's directory is gone, and its supervisor runs %v later: %s", recoveryLimit, supervisor)
		}
	}
	var err error
	if isRemoved {
		err = os.MkdirAll(p.dir, 0o755)
	} else {
		err = os.Rename(p.movedDir, p.dir)
	}
	if err != nil {
		p.fail("%v", err)
	}
	p.movedDir = ""
	if !isRemoved {
		return
	}
	p.writeFiles()
	p.runOrRepeatLater("allow")
	for _, s := range p.shells {
		if s.isInside {
			p.enter(s) // its working directory is the one that was removed
		}
	}
}

// isPortClosed reports whether a connection to a port of 127.0.0.1 fails.
func isPortClosed(port int) bool {
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return true
	}
	conn.Close()
	return false
}

// stateFile returns the path of a file in the project's state directory.
func (p *project) stateFile(name string) string { return filepath.Join(p.stateDir, name) }
