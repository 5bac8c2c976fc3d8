package chaos

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/localport-sh/localport/testdata/ports"
)

// project is one project, everybody who uses it, and what the driver knows that there must be.
type project struct {
	w      *world
	name   string
	dir    string
	config string // the path
	far    *farEnd
	shape  shape
	shells []*shell // two; kinds stay
	execs  []*exec.Cmd
	crowds []*crowd
	text   configText
	port   map[string]int // of services with a port of the driver's choice
	once   sync.Once      // its end

	// What must be, whoever did it.
	started bool // there is a start lease
	down    bool // somebody said stop or deny, and nobody came since
	denied  bool
	unsure  bool // what overlapped may have ended either way: a start settles it
	nudge   bool // it may be down without a prompt that would notice: an exec brings it back
	stopped []string
	away    string // where the directory is while it is renamed
	stateAt string // the state directory, once it is known

	act      Act
	orderly  bool           // of the act's event
	undos    []func()       // of what the act does
	async    sync.WaitGroup // what goes on in the background
	occupied *shell         // that is used in the background
	stopping bool           // a stop is under way in the background
	lastTerm time.Time      // when its supervisor last got a SIGTERM
	keep     []process      // tunnels that what happens must leave alone

	mu     sync.Mutex
	retry  [][]string // commands that met an event, and must succeed after it
	absent *shell     // whose cd met no directory
}

// shape is what kind of services a project has.
type shape struct {
	name         string
	technologies []string
	shells       [2]string
}

// shapes are taken in turn.
var shapes = []shape{
	{"shop", []string{"tcp", "command"}, [2]string{"bash", "zsh"}},
	{"data", []string{"tcp", "command", "ssh"}, [2]string{"zsh", "fish"}},
	{"lazy", []string{"tcp", "command"}, [2]string{"fish", "bash"}},
}

// configText is the config file as it stands.
type configText struct {
	revision int  // in a comment: no two texts are the same
	extra    bool // it has one service more
	changed  bool // all services have another connect_timeout: no tunnel and no connection depends on it
	broken   bool
	dotenv   bool // there is a .env beside it, which changes the same
}

func newProject(w *world, number int) (*project, error) {
	p := &project{w: w, shape: shapes[number%len(shapes)], port: map[string]int{}}
	p.name = p.shape.name
	if number >= len(shapes) {
		p.name += strconv.Itoa(number / len(shapes))
	}
	p.dir = filepath.Join(w.dir, "p", p.name)
	p.config = filepath.Join(p.dir, ".localport.toml")
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, err
	}
	for _, service := range []string{"web", "far", "extra"} {
		port, err := ports.Reserve()
		if err != nil {
			return nil, err
		}
		port.Release() // nobody else looks for ports in this network namespace but this loop, which has it noted
		p.port[service] = port.Number
	}
	var err error
	p.far, err = newFarEnd(p.fail)
	return p, err
}

func (p *project) note(format string, args ...any) { p.w.note(p.name, format, args...) }
func (p *project) fail(format string, args ...any) { p.w.fail(p.name, format, args...) }

// localport runs a command in the project.
func (p *project) localport(args ...string) result {
	limit := commandLimit
	if slices.Contains([]string{"start", "restart", "exec"}, args[0]) {
		limit = waitingLimit
	}
	dir := p.dir
	if _, err := os.Stat(dir); err != nil {
		dir = p.w.outside()
		args = append([]string{"-C", p.dir}, args...)
	}
	return p.w.localport(p.name, dir, limit, args...)
}

// mustRun runs a command that has every reason to succeed.
func (p *project) mustRun(args ...string) {
	if r := p.localport(args...); r.code != 0 && p.w.ctx.Err() == nil {
		p.fail("%s", r)
	}
}

// dotEnvTimeout is the value of WEB_TIMEOUT in a .env.
const dotEnvTimeout = "12"

const configHead = `# revision %[1]d
linger = "500ms"
[defaults]
connect_timeout = "%[4]ds"
[defaults.health_check]
type = "tcp"
interval = "1s"
timeout = "1s"
[defaults.restart_policy]
initial_delay = "100ms"
max_delay = "1s"
[services.web]
technology = "tcp"
local_port = %[2]d
remote_port = %[3]s
connection = { remote_host = "127.0.0.1" }
connect_timeout = "${WEB_TIMEOUT:-%[4]d}s"
`

// String is the text of the file.
func (p *project) String() string {
	farPort := p.far.addr[strings.LastIndexByte(p.far.addr, ':')+1:]
	timeout := 10
	if p.text.changed {
		timeout = 11
	}
	var b strings.Builder
	fmt.Fprintf(&b, configHead, p.text.revision, p.port["web"], farPort, timeout)
	program := func(name, tool, more string) {
		fmt.Fprintf(&b, "[services.%s]\ntechnology = \"command\"\nlocal_port = \"auto\"\ncommand = [%q, %q, \"{port}\", %q]\n%s",
			name, p.w.self, tool, p.far.addr, more)
	}
	switch p.shape.name {
	case "shop":
		program("fwd", "forward", "")
		program("stubborn", "stubborn", "depends_on = [\"web\"]\n")
	case "data":
		fmt.Fprintf(&b, "[services.far]\ntechnology = \"ssh\"\nlocal_port = %d\nremote_port = %s\n"+
			"connection = { host = \"127.0.0.1\", port = %d, config_file = %q, remote_host = \"127.0.0.1\" }\n",
			p.port["far"], farPort, p.w.ssh.port, p.w.ssh.config)
		program("base", "forward", "")
		program("middle", "forward", "depends_on = [\"base\"]\n")
	case "lazy":
		program("demand", "forward", "start = \"on-demand\"\nidle_timeout = \"1s\"\n")
		program("parent", "parent", "")
	}
	if p.text.extra {
		fmt.Fprintf(&b, "[services.extra]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = %s\nconnection = { remote_host = \"127.0.0.1\" }\n",
			p.port["extra"], farPort)
	}
	if p.text.broken {
		b.WriteString("[services.web\n")
	}
	return b.String()
}

// services are the names that the text declares.
func (p *project) services() []string {
	names := map[string][]string{
		"shop": {"web", "fwd", "stubborn"}, "data": {"web", "far", "base", "middle"}, "lazy": {"web", "demand", "parent"},
	}[p.shape.name]
	if p.text.extra {
		names = append(slices.Clone(names), "extra")
	}
	return names
}

// write writes the file as an editor does: a new one, moved into place.
func (p *project) write() {
	p.text.revision++
	temp := filepath.Join(p.dir, ".new")
	dotenv := filepath.Join(p.dir, ".env")
	var err error
	if p.text.dotenv {
		err = os.WriteFile(dotenv, fmt.Appendf(nil, "# revision %d\nWEB_TIMEOUT=%s\n", p.text.revision, dotEnvTimeout), 0o600)
	} else {
		_ = os.Remove(dotenv)
	}
	if err == nil {
		err = os.WriteFile(temp, []byte(p.String()), 0o644)
	}
	if err == nil {
		err = os.Rename(temp, p.config)
	}
	if err != nil && p.away == "" {
		p.fail("write the config: %v", err)
	}
}

// startExec starts a command under exec. It holds a lease from some moment on, until it ends.
func (p *project) startExec() {
	cmd := exec.Command(p.w.binary, "exec", "--wait", "20s", "-s", "web", "--", p.w.self, "idle")
	cmd.Dir, cmd.Env = p.dir, append(p.w.environ(), "PWD="+p.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	switch err := cmd.Start(); {
	case errors.Is(err, fs.ErrNotExist) && p.away != "":
		p.note("exec: the directory is not there")
		return
	case err != nil:
		p.fail("exec: %v", err)
		return
	}
	p.note("exec %d", cmd.Process.Pid)
	p.execs = append(p.execs, cmd)
}

// isIdle reports whether an exec has become its command.
func (p *project) isIdle(cmd *exec.Cmd) bool {
	now, ok := findProcess(cmd.Process.Pid)
	return ok && len(now.args) > 1 && now.args[1] == "idle"
}

// settleExecs returns when each exec has become its command or ended, and forgets those that have ended.
func (p *project) settleExecs() {
	p.execs = slices.DeleteFunc(p.execs, func(cmd *exec.Cmd) bool {
		if late := p.w.eventually(waitingLimit, func() string {
			if isAlive(cmd.Process.Pid) && !p.isIdle(cmd) {
				return "it has neither begun its command nor given up"
			}
			return ""
		}); late != "" {
			p.fail("exec %d: %s after %v", cmd.Process.Pid, late, waitingLimit)
		}
		if isAlive(cmd.Process.Pid) {
			return false
		}
		_ = cmd.Wait()
		return true
	})
}

func (p *project) endExec(cmd *exec.Cmd, signal syscall.Signal) {
	p.note("%v to exec %d", signal, cmd.Process.Pid)
	_ = cmd.Process.Signal(signal)
	_ = cmd.Wait()
	p.execs = slices.DeleteFunc(p.execs, func(one *exec.Cmd) bool { return one == cmd })
}

// supervisor is the process that supervises the project now.
func (p *project) supervisor() (process, bool) {
	all := supervisors(processes(), p.config)
	if len(all) == 0 {
		return process{}, false
	}
	if len(all) > 1 { // the others drain
		if s, err := parseStatus(p.localport("status", "--json").out); err == nil && s.Supervisor != nil {
			return findProcess(s.Supervisor.PID)
		}
	}
	return all[0], true
}

// hasLease reports whether anybody uses the project, as far as the driver knows.
func (p *project) hasLease() bool {
	return p.started || len(p.execs) > 0 || slices.ContainsFunc(p.shells, func(s *shell) bool { return s.inside })
}

// try runs a command that may fail because of what happens to the project: then it is repeated later.
func (p *project) try(args ...string) bool {
	r := p.localport(args...)
	p.note("%s", r)
	switch {
	case r.code == 0 || p.w.ctx.Err() != nil:
	case p.orderly && (args[0] != "start" || !p.unsure):
		p.fail("%s", r) // nothing happened to it that would account for it, such as a stop that overtakes a start
	default:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.retry = append(p.retry, args)
	}
	return r.code == 0
}

// liveShell is a shell that is inside, or outside, and not used in the background; nil where there is none.
func (p *project) liveShell(r *rand.Rand, inside bool) *shell {
	for _, at := range r.Perm(len(p.shells)) {
		if s := p.shells[at]; s != p.occupied && !s.dead && !s.frozen && s.inside == inside {
			return s
		}
	}
	return nil
}

// excuse says which services' clients may find their connections ended, and new ones turned away.
func (p *project) excuse(services []string, refuse bool) {
	for _, c := range p.crowds {
		if services == nil || slices.Contains(services, c.service) {
			c.mayBreak.Store(true)
			if refuse {
				c.mayRefuse.Store(true)
			}
		}
	}
}

// expectReset says that the far end is about to reset a service's connections.
func (p *project) expectReset(service string) {
	for _, c := range p.crowds {
		if c.service == service {
			c.isReset.Store(true)
		}
	}
}

func (p *project) stopCrowds() {
	for _, c := range p.crowds {
		c.stop()
	}
	p.crowds = nil
}

func (p *project) end() {
	p.once.Do(func() {
		p.excuse(nil, true)
		p.stopCrowds()
		for _, s := range p.shells {
			if !s.dead {
				s.close()
			}
		}
		for _, cmd := range p.execs {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		p.far.end()
	})
}
