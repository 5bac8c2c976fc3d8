package chaos

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// address returns the address of a service's port, as the config or the last status says.
func (p *project) address(service string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.ports[service]))
}

// updateFromStatus takes from status what the driver cannot know: the ports of services with local_port = "auto", and the path of
// the state directory.
func (p *project) updateFromStatus(s status) {
	for _, svc := range s.Services {
		if svc.Port != 0 {
			p.ports[svc.Name] = svc.Port
		}
		p.stateDir = filepath.Dir(filepath.Dir(svc.Log))
	}
}

// checkPromises waits until the project is as expected, then connects a client to each of its services. It is a violation if the project is
// not as expected within the event's limit.
func (p *project) checkPromises() {
	limit := recoveryLimit
	if e := findEvent(p.act.Event); e.recoveryLimit > 0 {
		limit = e.recoveryLimit
	}
	if problem := p.world.awaitNoProblem(limit, p.findProblem); problem != "" {
		p.fail("%v after the event, %s", limit, problem)
		return
	}
	if p.world.ctx.Err() != nil || !p.mustBeUp() {
		return
	}
	for _, tunnel := range p.tunnelsToKeep {
		isExplained := filepath.Base(tunnel.args[0]) == "ssh" && p.world.sshStops.Load() != p.sshStopsBefore // by another project's event
		if !isAlive(tunnel.pid) && !isExplained && !p.world.hasViolation() {
			p.fail("the tunnel %s ended, although the config changed nothing that it depends on", tunnel)
		}
	}
	for _, name := range p.services() {
		if p.isStopped(name) {
			continue
		}
		stops := p.world.sshStops.Load()
		err := sendOneRecord(p.address(name))
		if err != nil && usesSSH(name) && p.world.sshStops.Load() != stops {
			err = sendOneRecord(p.address(name)) // another project's event has ended the connection
		}
		if err != nil && p.world.ctx.Err() == nil {
			s, _ := parseStatus(p.runLocalport("status", "--json").stdout)
			svc, _ := s.service(name)
			p.fail("a new client of %s was not served: %v; status says %s: %q", name, err, svc.State, svc.LastError)
		}
	}
}

// mustBeUp reports whether the project is expected to run.
func (p *project) mustBeUp() bool { return p.hasLease() && !p.isDown && !p.isDenied }

// findProblem describes the first thing that is not as expected; "" if there is none.
func (p *project) findProblem() string {
	for _, s := range p.shells {
		p.run(s, ":") // a prompt, at which the hook sees what has changed
	}
	r := p.runLocalport("status", "--json")
	s, err := parseStatus(r.stdout)
	if r.exitCode != 0 || err != nil {
		return r.String()
	}
	all := supervisorsOf(listProcesses(), p.configPath)
	if !p.mustBeUp() {
		return p.findProblemWhenDown(s, all)
	}
	if s.State != stateRunning || s.Supervisor == nil {
		return fmt.Sprintf("it is used, and status says %s: %s%s", s.State, s.Failure, s.Pending)
	}
	p.updateFromStatus(s)
	for _, find := range []func(status, []process) string{
		p.findSupervisorProblem, p.findLeaseProblem, p.findServiceProblem, p.findTunnelProblem, p.findVariableProblem,
	} {
		if text := find(s, all); text != "" {
			return text
		}
	}
	return ""
}

// findProblemWhenDown checks a project that is expected not to run.
func (p *project) findProblemWhenDown(s status, all []process) string {
	if s.State == stateRunning || s.Supervisor != nil {
		return fmt.Sprintf("nobody uses it, or it was stopped, and status says %s, with leases %v", s.State, s.Leases)
	}
	if len(all) > 0 {
		return fmt.Sprintf("status says %s, and there is a supervisor: %s", s.State, all[0])
	}
	for _, l := range s.Leases {
		if l.Kind == "start" && !p.hasStartLease || l.PID != 0 && !isAlive(l.PID) {
			return fmt.Sprintf("status shows the lease %s, whose holder is gone", l)
		}
	}
	if !isPortClosed(p.ports["web"]) {
		return "it is down, and the port of web is open"
	}
	return p.findVariableProblem(s, nil)
}

// findSupervisorProblem checks that the supervisor and the keeper that status names run, and that every other supervisor has a
// connection to finish.
func (p *project) findSupervisorProblem(s status, all []process) string {
	found := false
	for _, supervisor := range all {
		if supervisor.pid == s.Supervisor.PID {
			found = true
		} else if !p.hasConnection(supervisor.pid) {
			return fmt.Sprintf("there is a second supervisor, which serves no connection: %s beside %d", supervisor, s.Supervisor.PID)
		}
	}
	if !found {
		return fmt.Sprintf("status names supervisor %d, which does not run", s.Supervisor.PID)
	}
	if s.Supervisor.Keeper == 0 || !isAlive(s.Supervisor.Keeper) {
		return fmt.Sprintf("status names keeper %d, which does not run", s.Supervisor.Keeper)
	}
	return ""
}

// hasConnection reports whether a process has the other end of one of the clients' lasting connections.
func (p *project) hasConnection(pid int) bool {
	inodes := socketInodes(pid)
	for _, c := range p.clients {
		clientPort := portFromAddr(c.longConn.conn.LocalAddr().String())
		for _, sock := range listSockets() {
			if sock.remote == clientPort && inodes[sock.inode] {
				return true
			}
		}
	}
	return false
}

// findLeaseProblem checks that the leases are exactly those of the shells inside, the execs, and the start lease.
func (p *project) findLeaseProblem(s status, _ []process) string {
	var want, got []string
	if p.hasStartLease {
		want = append(want, "start 0")
	}
	for _, sh := range p.shells {
		if sh.isInside {
			want = append(want, fmt.Sprintf("shell %d", sh.PID()))
		}
	}
	for _, cmd := range p.execs {
		want = append(want, fmt.Sprintf("exec %d", cmd.Process.Pid))
	}
	for _, l := range s.Leases {
		got = append(got, l.String())
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		return fmt.Sprintf("the leases are %v, expected %v", got, want)
	}
	return ""
}

// findServiceProblem checks that status shows every service in the expected state, and that the supervisor listens on the service's port
// unless somebody stopped it.
func (p *project) findServiceProblem(s status, _ []process) string {
	inodes := socketInodes(s.Supervisor.PID)
	sockets := listSockets()
	for _, name := range p.services() {
		svc, ok := s.service(name)
		if !ok {
			return name + " is declared, and status does not show it"
		}
		if p.isStopped(name) {
			if svc.State != "stopped" || svc.Held {
				return fmt.Sprintf("%s was stopped, and status says %s, held %v", name, svc.State, svc.Held)
			}
			if !isPortClosed(svc.Port) {
				return fmt.Sprintf("%s was stopped, and port %d is open", name, svc.Port)
			}
			continue
		}
		if svc.State != "healthy" && svc.State != "idle" || !svc.Held {
			return fmt.Sprintf("%s is %s, held %v: %s", name, svc.State, svc.Held, svc.LastError)
		}
		if !slices.ContainsFunc(sockets, func(sock socket) bool { return sock.isListening && sock.local == svc.Port && inodes[sock.inode] }) {
			return fmt.Sprintf("status says that %s is %s and its port held, and the supervisor does not listen on %d", name, svc.State, svc.Port)
		}
	}
	if len(s.Services) != len(p.services()) {
		return fmt.Sprintf("status shows %d services, and %d are declared", len(s.Services), len(p.services()))
	}
	return ""
}

// findTunnelProblem checks that the tunnels' processes have the values of the .env that is allowed.
func (p *project) findTunnelProblem(status, []process) string {
	want := ""
	if p.config.hasDotEnv {
		want = dotEnvConnectTimeout
	}
	for _, tunnel := range p.listTunnels() {
		if got := tunnel.environmentValue("WEB_TIMEOUT"); tunnel.program(p.world.self) != "" && got != want {
			return fmt.Sprintf("$WEB_TIMEOUT of the tunnel %s is %q, and the .env that is allowed says %q", tunnel, got, want)
		}
	}
	return ""
}

// findVariableProblem checks that $WEB_PORT is set in the shells that are inside while the port is available, and in no other.
func (p *project) findVariableProblem(_ status, _ []process) string {
	for _, s := range p.shells {
		if s.isDead || s.isFrozen {
			continue
		}
		want := ""
		if s.isInside && p.mustBeUp() && !p.isStopped("web") {
			want = strconv.Itoa(p.ports["web"])
		}
		var got string
		if err := catchHelperError(func() { got = s.Eval(`"$WEB_PORT"`) }); err != nil {
			p.fail("%s: %v", s.kind, err)
			return ""
		}
		mayKeep := s.isInside && !p.mustBeUp() // a shell keeps the variables of a project that is down until it leaves
		if got != want && !mayKeep {
			return fmt.Sprintf("$WEB_PORT of %s %d is %q, expected %q", s.kind, s.PID(), got, want)
		}
	}
	return ""
}

// checkNothingLeft makes everybody leave every project. Processes, listeners or sockets that remain are a violation.
func (w *world) checkNothingLeft() {
	w.forEachProject(func(p *project) {
		p.restore()
		p.dropLeases()
		p.isDown = true
	})
	if left := w.awaitNoProblem(recoveryLimit, w.findLeftovers); left != "" {
		w.fail("", "nobody uses anything, and after %v there remains %s", recoveryLimit, left)
	}
}

// findLeftovers lists processes, listeners and sockets that are not the driver's own; "" if there are none.
func (w *world) findLeftovers() string {
	known := map[int]bool{1: true, os.Getpid(): true, w.ssh.cmd.Process.Pid: true}
	ports := map[int]bool{w.ssh.port: true}
	for _, p := range w.projects {
		for _, s := range p.shells {
			known[s.PID()] = true
		}
		ports[portFromAddr(p.upstream.addr)] = true
		if p.cluster != nil {
			ports[p.cluster.port] = true
		}
		if p.agent != nil {
			known[p.agent.pid()] = true
		}
	}
	var left []string
	for _, p := range listProcesses() {
		if !known[p.pid] {
			left = append(left, "process "+p.String())
		}
	}
	for _, s := range listSockets() {
		if s.isListening && !ports[s.local] {
			left = append(left, fmt.Sprintf("a listener on port %d", s.local))
		}
	}
	_ = filepath.WalkDir(w.runtimeDir(), func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.Type() == fs.ModeSocket {
			left = append(left, "socket "+path)
		}
		return nil
	})
	for _, p := range w.projects { // other programs of the machine use this directory too
		path := filepath.Join("/tmp/localport-0", filepath.Base(p.stateDir)+".sock")
		if _, err := os.Lstat(path); err == nil {
			left = append(left, "socket "+path)
		}
	}
	return strings.Join(left, "; ")
}

// portFromAddr returns the port of HOST:PORT; 0 if there is none.
func portFromAddr(addr string) int {
	_, port, _ := net.SplitHostPort(addr)
	number, _ := strconv.Atoi(port)
	return number
}
