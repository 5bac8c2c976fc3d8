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

// address is where a service listens, as far as is known.
func (p *project) address(service string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(p.port[service]))
}

// learn notes what only status tells: the ports that were given out, and where the state is kept.
func (p *project) learn(s status) {
	for _, one := range s.Services {
		if one.Port != 0 {
			p.port[one.Name] = one.Port
		}
		p.stateAt = filepath.Dir(filepath.Dir(one.Log))
	}
}

// check waits until the project is as it must be, and fails where it does not become so.
func (p *project) check() {
	if left := p.w.eventually(quietLimit, p.complaint); left != "" {
		p.fail("%v after the event, %s", quietLimit, left)
		return
	}
	if p.w.ctx.Err() != nil || !p.isWanted() {
		return
	}
	for _, one := range p.keep {
		if !isAlive(one.pid) && !p.w.failed() {
			p.fail("the tunnel %s ended, which the config's change does not account for", one)
		}
	}
	for _, name := range p.services() {
		if p.state(name) == "stopped" {
			continue
		}
		if err := visit(p.address(name)); err != nil && p.w.ctx.Err() == nil {
			s, _ := parseStatus(p.localport("status", "--json").out)
			one, _ := s.service(name)
			p.fail("a new client of %s was not served: %v; status says %s: %q", name, err, one.State, one.LastError)
		}
	}
}

// isWanted reports whether the project must be up.
func (p *project) isWanted() bool { return p.hasLease() && !p.down && !p.denied }

// complaint says what is not as it must be.
func (p *project) complaint() string {
	for _, s := range p.shells {
		p.run(s, ":") // a prompt, at which the hook sees what has changed
	}
	r := p.localport("status", "--json")
	s, err := parseStatus(r.out)
	if r.code != 0 || err != nil {
		return r.String()
	}
	all := supervisors(processes(), p.config)
	if !p.isWanted() {
		return p.complaintDown(s, all)
	}
	if s.State != running || s.Supervisor == nil {
		return fmt.Sprintf("it is used, and status says %s: %s%s", s.State, s.Failure, s.Pending)
	}
	p.learn(s)
	for _, find := range []func(status, []process) string{
		p.complaintSupervisors, p.complaintLeases, p.complaintServices, p.complaintTunnels, p.complaintVariables,
	} {
		if text := find(s, all); text != "" {
			return text
		}
	}
	return ""
}

func (p *project) complaintDown(s status, all []process) string {
	if s.State == running || s.Supervisor != nil {
		return fmt.Sprintf("nobody uses it, or somebody said stop, and status says %s, with leases %v", s.State, s.Leases)
	}
	if len(all) > 0 {
		return fmt.Sprintf("status says %s, and there is a supervisor: %s", s.State, all[0])
	}
	for _, one := range s.Leases {
		if one.Kind == "start" && !p.started || one.PID != 0 && !isAlive(one.PID) {
			return fmt.Sprintf("status shows the lease %s, whose holder is gone", one)
		}
	}
	if !refuses(p.port["web"]) {
		return "it is down, and the port of web is open"
	}
	return p.complaintVariables(s, nil)
}

// complaintSupervisors: one supervisor, whom status names; every other one only finishes connections.
func (p *project) complaintSupervisors(s status, all []process) string {
	found := false
	for _, one := range all {
		if one.pid == s.Supervisor.PID {
			found = true
		} else if !p.serves(one.pid) {
			return fmt.Sprintf("there is a second supervisor, which serves no connection: %s beside %d", one, s.Supervisor.PID)
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

// serves reports whether a process has the other end of one of our connections.
func (p *project) serves(pid int) bool {
	inodes := inodesOf(pid)
	for _, c := range p.crowds {
		_, ours, _ := net.SplitHostPort(c.stay.conn.LocalAddr().String())
		for _, one := range sockets() {
			if strconv.Itoa(one.remote) == ours && inodes[one.inode] {
				return true
			}
		}
	}
	return false
}

// complaintLeases: the leases are exactly those of whoever is there.
func (p *project) complaintLeases(s status, _ []process) string {
	var want, got []string
	if p.started {
		want = append(want, "start 0")
	}
	for _, one := range p.shells {
		if one.inside {
			want = append(want, fmt.Sprintf("shell %d", one.PID()))
		}
	}
	for _, cmd := range p.execs {
		want = append(want, fmt.Sprintf("exec %d", cmd.Process.Pid))
	}
	for _, one := range s.Leases {
		got = append(got, one.String())
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		return fmt.Sprintf("the leases are %v, and those who use it are %v", got, want)
	}
	return ""
}

// complaintServices: every service is up, or stopped by somebody, and the supervisor has its port.
func (p *project) complaintServices(s status, _ []process) string {
	inodes := inodesOf(s.Supervisor.PID)
	listening := sockets()
	for _, name := range p.services() {
		one, ok := s.service(name)
		if !ok {
			return name + " is declared, and status does not show it"
		}
		if p.state(name) == "stopped" {
			if one.State != "stopped" || one.Held {
				return fmt.Sprintf("%s was stopped, and status says %s, held %v", name, one.State, one.Held)
			}
			if !refuses(one.Port) {
				return fmt.Sprintf("%s was stopped, and port %d is open", name, one.Port)
			}
			continue
		}
		if one.State != "healthy" && one.State != "idle" || !one.Held {
			return fmt.Sprintf("%s is %s, held %v: %s", name, one.State, one.Held, one.LastError)
		}
		if !slices.ContainsFunc(listening, func(l socket) bool { return l.listening && l.local == one.Port && inodes[l.inode] }) {
			return fmt.Sprintf("status says that %s is %s and its port held, and the supervisor does not listen on %d", name, one.State, one.Port)
		}
	}
	if len(s.Services) != len(p.services()) {
		return fmt.Sprintf("status shows %d services, and %d are declared", len(s.Services), len(p.services()))
	}
	return ""
}

// complaintTunnels: the tunnels' processes have the values of the .env that is allowed.
func (p *project) complaintTunnels(status, []process) string {
	want := ""
	if p.text.dotenv {
		want = dotEnvTimeout
	}
	for _, one := range p.tunnels() {
		if got := one.variable("WEB_TIMEOUT"); one.tool(p.w.self) != "" && got != want {
			return fmt.Sprintf("$WEB_TIMEOUT of the tunnel %s is %q, and the .env that is allowed says %q", one, got, want)
		}
	}
	return ""
}

// complaintVariables: shells inside have the port of web, where it is to be had, and others have not.
func (p *project) complaintVariables(_ status, _ []process) string {
	for _, s := range p.shells {
		if s.dead || s.frozen {
			continue
		}
		want := ""
		if s.inside && p.isWanted() && p.state("web") == "" {
			want = strconv.Itoa(p.port["web"])
		}
		var got string
		if err := guard(func() { got = s.Eval(`"$WEB_PORT"`) }); err != nil {
			p.fail("%s: %v", s.kind, err)
			return ""
		}
		keeps := s.inside && !p.isWanted() // what is down keeps its variables until the shell leaves
		if got != want && !keeps {
			return fmt.Sprintf("$WEB_PORT of %s %d is %q instead of %q", s.kind, s.PID(), got, want)
		}
	}
	return ""
}

// checkNothingLeft has everybody leave every project, and waits until nothing remains.
func (w *world) checkNothingLeft() {
	w.each(func(p *project) {
		p.normalize()
		p.dropLeases()
		p.down = true
	})
	if left := w.eventually(quietLimit, w.leftovers); left != "" {
		w.fail("", "nobody uses anything, and after %v there remains %s", quietLimit, left)
	}
}

// leftovers are processes, listeners and sockets that the driver does not account for.
func (w *world) leftovers() string {
	known := map[int]bool{1: true, os.Getpid(): true, w.ssh.cmd.Process.Pid: true}
	ports := map[int]bool{w.ssh.port: true}
	for _, p := range w.projects {
		for _, s := range p.shells {
			known[s.PID()] = true
		}
		ports[portOfAddr(p.far.addr)] = true
	}
	var left []string
	all := processes()
	for _, p := range all {
		if !known[p.pid] {
			left = append(left, "process "+p.String())
		}
	}
	for _, s := range sockets() {
		if s.listening && !ports[s.local] {
			left = append(left, fmt.Sprintf("a listener on port %d", s.local))
		}
	}
	for _, dir := range []string{w.runtime(), "/tmp/localport-0"} {
		_ = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Type() == fs.ModeSocket {
				left = append(left, "socket "+path)
			}
			return nil
		})
	}
	return strings.Join(left, "; ")
}

func portOfAddr(addr string) int {
	_, port, _ := net.SplitHostPort(addr)
	number, _ := strconv.Atoi(port)
	return number
}
