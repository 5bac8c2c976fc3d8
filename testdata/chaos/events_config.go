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

// editEvent changes what no tunnel depends on, adds a service, or adds one and removes it again, and allows it. All of it leaves
// the tunnels alone that there are.
func editEvent(p *project, r *rand.Rand) bool {
	if p.act.State == Up || p.act.State == Busy {
		p.keep = p.lastingTunnels()
	}
	p.text.changed = true
	switch r.IntN(3) {
	case 0:
		p.text.extra = true
	case 1: // added and removed again
		p.text.extra = true
		p.write()
		p.try("allow")
		p.text.extra = false
	}
	p.note("edit: %+v", p.text)
	p.write()
	p.try("allow")
	return true
}

// editOnlyEvent leaves the config changed, and not allowed, for a while; half of the times it cannot be parsed either.
func editOnlyEvent(p *project, r *rand.Rand) bool {
	p.text.broken = r.IntN(2) == 0
	return p.leaveEdited()
}

// editDotEnvEvent writes a .env beside the config, not allowed, for a while.
func editDotEnvEvent(p *project, _ *rand.Rand) bool {
	p.text.dotenv = true
	p.excuse(p.withProcesses(), false) // whose environment it is part of
	return p.leaveEdited()
}

// leaveEdited writes the files, and allows them after the event.
func (p *project) leaveEdited() bool {
	p.note("edit, not allowed: %+v", p.text)
	p.write()
	p.undo(func() {
		if s, err := parseStatus(p.localport("status", "--json").out); err == nil && p.act.Hold > time.Second &&
			s.State == running && s.Pending == "" && !p.overlaps() {
			p.fail("the config was changed and is not allowed; status does not say so")
		}
		p.text.broken = false
		p.write()
		p.try("allow")
	})
	return true
}

func denyEvent(p *project, _ *rand.Rand) bool {
	p.excuse(nil, true)
	p.unsure = p.unsure || p.overlaps()
	p.started, p.denied = false, true
	p.nudgeLater()
	p.try("deny")
	p.down = false // what holds a denied project down is its denial, unless somebody says stop besides
	p.undo(func() {
		p.try("allow")
		p.denied = false
	})
	return true
}

// stealPortEvent has another program take the port of web while the service is stopped.
func stealPortEvent(p *project, _ *rand.Rand) bool {
	p.excuse(p.withDependents("web"), true)
	if p.act.State != Down && !p.overlaps() {
		p.mustRun("stop", "web")
	}
	thief, err := p.startThief(p.port["web"])
	if err != nil {
		p.note("the port cannot be taken: %v", err)
		if p.act.State != Down && !p.overlaps() {
			p.fail("web is stopped, and its port cannot be taken: %v", err)
		}
		return false
	}
	p.note("program %d takes port %d", thief.Process.Pid, p.port["web"])
	p.undo(func() {
		p.checkThief(thief.Process.Pid)
		_ = thief.Process.Kill()
		_ = thief.Wait()
	})
	if p.act.State != Starting {
		p.unsure = p.unsure || p.act.State == Stopping
		p.started, p.down = true, false
		p.note("%s", p.localport(append([]string{"start", "--no-wait"}, p.withDependents("web")...)...))
		if p.act.State == Down { // it was started with web alone
			p.unsure = true
		}
	}
	return true
}

// startThief starts a program that listens on a port. It waits for a port that is just being given up.
func (p *project) startThief(port int) (*exec.Cmd, error) {
	deadline := time.Now().Add(5 * time.Second)
	for {
		cmd := exec.Command(p.w.self, "steal", strconv.Itoa(port))
		cmd.Env = p.w.environ()
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
			return nil, errors.New("it is in use")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// checkThief has status name the program that holds the port: this one, whatever inherited the socket from it.
func (p *project) checkThief(pid int) {
	p.async.Wait() // somebody may have said stop meanwhile
	if p.unsure || p.overlaps() || !p.isWanted() {
		return
	}
	if left := p.w.eventually(quietLimit, func() string {
		s, err := parseStatus(p.localport("status", "--json").out)
		if err != nil {
			return err.Error()
		}
		web, _ := s.service("web")
		if s.State != running || web.State != "failed" || web.Held || !strings.Contains(web.LastError, fmt.Sprintf("pid %d", pid)) {
			return fmt.Sprintf("%s, web is %s, held %v: %s", s.State, web.State, web.Held, web.LastError)
		}
		return ""
	}); left != "" {
		p.fail("the port of web is held by pid %d, and status does not say so after %v: %s", pid, quietLimit, left)
	}
}

func sshGoneEvent(p *project, _ *rand.Rand) bool {
	for _, one := range p.w.projects {
		one.excuse([]string{"far"}, false)
	}
	p.w.sshMu.Lock()
	defer p.w.sshMu.Unlock()
	p.note("the ssh server is gone")
	p.w.ssh.stop()
	p.undo(func() {
		p.w.sshMu.Lock()
		defer p.w.sshMu.Unlock()
		if err := p.w.ssh.start(); err != nil {
			p.fail("%v", err)
		}
	})
	return true
}

func farGoneEvent(p *project, _ *rand.Rand) bool {
	p.excuse(nil, false)
	if p.act.Meanwhile != "kill supervisor" { // whose connections the kernel ends
		p.expectReset("web")
	}
	p.note("the far end is gone")
	p.far.end()
	p.undo(func() {
		if err := p.far.begin(); err != nil {
			p.fail("%v", err)
		}
	})
	return true
}

// projectGoneEvent renames the project's directory, or removes it and makes it again.
func projectGoneEvent(p *project, r *rand.Rand) bool {
	removed := r.IntN(2) == 0
	p.excuse(nil, true)
	p.unsure = p.unsure || p.started || p.overlaps()
	p.nudgeLater()
	p.away = p.dir + ".away"
	p.note("the directory is gone, removed: %v", removed)
	var err error
	if removed {
		err = os.RemoveAll(p.dir)
	} else {
		err = os.Rename(p.dir, p.away)
	}
	if err != nil {
		p.fail("%v", err)
	}
	p.undo(func() { p.projectBack(removed) })
	return true
}

func (p *project) projectBack(removed bool) {
	p.async.Wait() // shells are needed
	if p.act.State != Starting && len(supervisors(processes(), p.config)) > 0 {
		if left := p.w.eventually(quietLimit, func() string {
			if all := supervisors(processes(), p.config); len(all) > 0 {
				return all[0].String()
			}
			return ""
		}); left != "" {
			p.fail("the project's directory is gone, and its supervisor runs %v later: %s", quietLimit, left)
		}
	}
	var err error
	if removed {
		err = os.MkdirAll(p.dir, 0o755)
	} else {
		err = os.Rename(p.away, p.dir)
	}
	if err != nil {
		p.fail("%v", err)
	}
	p.away = ""
	if !removed {
		return
	}
	p.write()
	p.try("allow")
	for _, s := range p.shells {
		if s.inside {
			p.enter(s) // it stands in a directory that does not exist any more
		}
	}
}

// refuses reports whether nobody listens on a port.
func refuses(port int) bool {
	conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return true
	}
	conn.Close()
	return false
}

// stateFile is a file of the project's state directory.
func (p *project) stateFile(name string) string { return filepath.Join(p.stateAt, name) }
