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

// project is one project, its users (shells, execs, a start lease, clients), and the state that the driver expects it to be in.
type project struct {
	world      *world
	name       string
	dir        string
	configPath string
	upstream   *upstreamServer
	cluster    *apiServer // nil: the project has no service in a cluster
	agent      *sshAgent  // nil: it has no service whose key is in an agent
	template   projectTemplate
	shells     []*shell // two, of the kinds that the template names
	execs      []*exec.Cmd
	clients    []*serviceClients
	config     configVariant
	ports      map[string]int // by service: those that the config names, and those that status has shown
	stateDir   string         // from status
	closeOnce  sync.Once

	reservedPorts []*ports.Port // those that the config names, while the project lasts: nothing else may get one of them

	// The expected state.
	hasStartLease      bool
	isDown             bool // somebody ran stop, and nobody has entered, started or run an exec since
	isDenied           bool
	isOutcomeUnknown   bool // commands overlapped and may have taken effect in either order: a start decides
	mayBeDownUnnoticed bool // the project may be down and no prompt will notice: an exec starts it again
	stoppedServices    []string
	movedDir           string // where the project's directory is while it is renamed

	// The act that is being performed.
	act                 Act
	commandsMustSucceed bool           // as the act's event says
	undoFuncs           []func()       // end the event, in reverse order
	background          sync.WaitGroup // commands that run in the background
	busyShell           *shell         // the shell that runs a command in the background
	isStopping          bool           // a stop runs in the background
	tunnelsToKeep       []process      // tunnels that the event must not end
	sshStopsBefore      int32          // world.sshStops when the act began
	lastTermAt          time.Time      // when a supervisor of the project was last sent a SIGTERM, also by an earlier act

	mu               sync.Mutex // guards the fields that follow
	commandsToRepeat [][]string // commands that failed because of the event, and must succeed after it
	shellWithoutDir  *shell     // the shell whose cd failed, because the directory did not exist
}

// projectTemplate says which services a project has and which shells use it.
type projectTemplate struct {
	name         string
	technologies []string
	shells       [2]string
}

// projectTemplates are used in turn for the projects of a run.
var projectTemplates = []projectTemplate{
	{"shop", []string{"tcp", "command", technologyKubectl, technologyLoginHelper}, [2]string{"bash", "zsh"}},
	{"data", []string{"tcp", "command", "ssh", technologySSHAgent}, [2]string{"zsh", "fish"}},
	{"lazy", []string{"tcp", "command", technologyKubectl}, [2]string{"fish", "bash"}},
}

// configVariant says how the config differs from the first one of its project.
type configVariant struct {
	revision        int  // stands in a comment, so that no two texts are the same
	hasExtraService bool // it declares the service extra
	hasOtherTimeout bool // connect_timeout is another one, which must end no tunnel and no connection
	isBroken        bool // it cannot be parsed
	hasDotEnv       bool // there is a .env, which sets the connect_timeout of web through ${WEB_TIMEOUT}
}

func newProject(w *world, number int) (*project, error) {
	p := &project{world: w, template: projectTemplates[number%len(projectTemplates)], ports: map[string]int{}}
	p.name = p.template.name
	if number >= len(projectTemplates) {
		p.name += strconv.Itoa(number / len(projectTemplates))
	}
	p.dir = filepath.Join(w.dir, "p", p.name)
	p.configPath = filepath.Join(p.dir, ".localport.toml")
	if err := os.MkdirAll(p.dir, 0o755); err != nil {
		return nil, err
	}
	for _, service := range []string{"web", "remote", agentServiceName, "extra", clusterServiceName} {
		port, err := ports.Reserve()
		if err != nil {
			return nil, err
		}
		p.reservedPorts = append(p.reservedPorts, port)
		p.ports[service] = port.Number
	}
	var err error
	if slices.Contains(p.template.technologies, technologySSHAgent) {
		if p.agent, err = newSSHAgent(filepath.Join(w.dir, "a", p.name), w.ssh.agentKeyFile, w.environment()); err != nil {
			return nil, err
		}
	}
	if p.upstream, err = startUpstreamServer(p.fail); err != nil || !slices.Contains(p.template.technologies, technologyKubectl) {
		return p, err
	}
	credential := tokenInKubeconfig
	if slices.Contains(p.template.technologies, technologyLoginHelper) {
		credential = tokenFromHelper
	} else if number >= len(projectTemplates) {
		credential = tokenInFile
	}
	p.cluster, err = newAPIServer(filepath.Join(w.dir, "k", p.name), w.self, p.upstream.addr, credential)
	return p, err
}

func (p *project) logf(format string, args ...any) { p.world.logf(p.name, format, args...) }
func (p *project) fail(format string, args ...any) { p.world.fail(p.name, format, args...) }

// runLocalport runs localport in the project's directory or, while that does not exist, for it.
func (p *project) runLocalport(args ...string) commandResult {
	limit := commandLimit
	if slices.Contains([]string{"start", "restart", "exec"}, args[0]) {
		limit = waitingCommandLimit
	}
	dir := p.dir
	if _, err := os.Stat(dir); err != nil {
		dir = p.world.outsideDir()
		args = append([]string{"-C", p.dir}, args...)
	}
	return p.world.runLocalport(p.name, dir, p.environment(), limit, args...)
}

// environment is that of the project's commands and shells.
func (p *project) environment() []string {
	env := p.world.environment()
	if p.agent != nil {
		env = append(env, "SSH_AUTH_SOCK="+p.agent.socketPath())
	}
	return env
}

// mustRun runs a command. It is a violation if the command fails.
func (p *project) mustRun(args ...string) {
	if r := p.runLocalport(args...); r.exitCode != 0 && p.world.ctx.Err() == nil {
		p.fail("%s", r)
	}
}

// dotEnvConnectTimeout is the value of WEB_TIMEOUT in a .env.
const dotEnvConnectTimeout = "12"

const configTemplate = `# revision %[1]d
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

// String returns the text of the config file.
func (p *project) String() string {
	upstreamPort := p.upstream.addr[strings.LastIndexByte(p.upstream.addr, ':')+1:]
	timeout := 10
	if p.config.hasOtherTimeout {
		timeout = 11
	}
	var b strings.Builder
	fmt.Fprintf(&b, configTemplate, p.config.revision, p.ports["web"], upstreamPort, timeout)
	addCommandService := func(name, program, moreKeys string) {
		fmt.Fprintf(&b, "[services.%s]\ntechnology = \"command\"\nlocal_port = \"auto\"\ncommand = [%q, %q, \"{port}\", %q]\n%s",
			name, p.world.self, program, p.upstream.addr, moreKeys)
	}
	switch p.template.name {
	case "shop":
		addCommandService("fwd", "forward", "")
		addCommandService("stubborn", "stubborn", "depends_on = [\"web\"]\n")
	case "data":
		fmt.Fprintf(&b, "[services.remote]\ntechnology = \"ssh\"\nlocal_port = %d\nremote_port = %s\n"+
			"connection = { host = \"127.0.0.1\", port = %d, config_file = %q, remote_host = \"127.0.0.1\" }\n",
			p.ports["remote"], upstreamPort, p.world.ssh.port, p.world.ssh.config)
		fmt.Fprintf(&b, "[services.%s]\ntechnology = \"ssh\"\nlocal_port = %d\nremote_port = %s\n"+
			"connection = { host = %q, port = %d, config_file = %q, remote_host = \"127.0.0.1\" }\n",
			agentServiceName, p.ports[agentServiceName], upstreamPort, agentServiceName, p.world.ssh.port, p.world.ssh.agentConfig)
		addCommandService("base", "forward", "")
		addCommandService("middle", "forward", "depends_on = [\"base\"]\n")
	case "lazy":
		addCommandService("demand", "forward", "start = \"on-demand\"\nidle_timeout = \"1s\"\n")
		addCommandService("parent", "parent", "")
	}
	if p.cluster != nil {
		fmt.Fprintf(&b, "[services.%s]\ntechnology = \"kubectl\"\nlocal_port = %d\nremote_port = 7000\n"+
			"connection = { resource_name = \"web\", context = \"chaos\", kubeconfig = %q }\n",
			clusterServiceName, p.ports[clusterServiceName], p.cluster.kubeconfig())
	}
	if p.config.hasExtraService {
		fmt.Fprintf(&b, "[services.extra]\ntechnology = \"tcp\"\nlocal_port = %d\nremote_port = %s\nconnection = { remote_host = \"127.0.0.1\" }\n",
			p.ports["extra"], upstreamPort)
	}
	if p.config.isBroken {
		b.WriteString("[services.web\n")
	}
	return b.String()
}

// services returns the names of the services that the config declares.
func (p *project) services() []string {
	names := map[string][]string{
		"shop": {"web", "fwd", "stubborn", clusterServiceName}, "data": {"web", "remote", agentServiceName, "base", "middle"}, "lazy": {"web", "demand", "parent", clusterServiceName},
	}[p.template.name]
	if p.config.hasExtraService {
		names = append(slices.Clone(names), "extra")
	}
	return names
}

// writeFiles writes the config file as an editor does, a new file that is renamed into place, and writes or removes .env.
func (p *project) writeFiles() {
	p.config.revision++
	temp := filepath.Join(p.dir, ".new")
	dotenv := filepath.Join(p.dir, ".env")
	var err error
	if p.config.hasDotEnv {
		err = os.WriteFile(dotenv, fmt.Appendf(nil, "# revision %d\nWEB_TIMEOUT=%s\n", p.config.revision, dotEnvConnectTimeout), 0o600)
	} else {
		_ = os.Remove(dotenv)
	}
	if err == nil {
		err = os.WriteFile(temp, []byte(p.String()), 0o644)
	}
	if err == nil {
		err = os.Rename(temp, p.configPath)
	}
	if err != nil && p.movedDir == "" {
		p.fail("write the config: %v", err)
	}
}

// startExec starts `localport exec` in the background. At some moment it takes a lease, which it holds until it ends.
func (p *project) startExec() {
	cmd := exec.Command(p.world.binary, "exec", "--wait", "20s", "-s", "web", "--", p.world.self, "idle")
	cmd.Dir, cmd.Env = p.dir, append(p.environment(), "PWD="+p.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	switch err := cmd.Start(); {
	case errors.Is(err, fs.ErrNotExist) && p.movedDir != "":
		p.logf("exec: the directory does not exist")
		return
	case err != nil:
		p.fail("exec: %v", err)
		return
	}
	p.logf("exec %d", cmd.Process.Pid)
	p.execs = append(p.execs, cmd)
}

// hasBegunCommand reports whether an exec has replaced itself with its command.
func (p *project) hasBegunCommand(cmd *exec.Cmd) bool {
	current, ok := findProcess(cmd.Process.Pid)
	return ok && current.program(p.world.self) == "idle"
}

// awaitExecs returns when each exec has begun its command or ended, and removes those that have ended from the list.
func (p *project) awaitExecs() {
	p.execs = slices.DeleteFunc(p.execs, func(cmd *exec.Cmd) bool {
		if problem := p.world.awaitNoProblem(waitingCommandLimit, func() string {
			if isAlive(cmd.Process.Pid) && !p.hasBegunCommand(cmd) {
				return "it has neither begun its command nor ended"
			}
			return ""
		}); problem != "" {
			p.fail("exec %d: %s after %v", cmd.Process.Pid, problem, waitingCommandLimit)
		}
		if isAlive(cmd.Process.Pid) {
			return false
		}
		_ = cmd.Wait()
		return true
	})
}

func (p *project) endExec(cmd *exec.Cmd, signal syscall.Signal) {
	p.logf("%v to exec %d", signal, cmd.Process.Pid)
	_ = cmd.Process.Signal(signal)
	_ = cmd.Wait()
	p.execs = slices.DeleteFunc(p.execs, func(other *exec.Cmd) bool { return other == cmd })
}

// findSupervisor returns the project's supervisor, ignoring those that are only draining their connections.
func (p *project) findSupervisor() (process, bool) {
	all := supervisorsOf(listProcesses(), p.configPath)
	if len(all) == 0 {
		return process{}, false
	}
	if len(all) > 1 { // all but one are draining
		if s, err := parseStatus(p.runLocalport("status", "--json").stdout); err == nil && s.Supervisor != nil {
			return findProcess(s.Supervisor.PID)
		}
	}
	return all[0], true
}

// hasLease reports whether the project is expected to have a lease.
func (p *project) hasLease() bool {
	return p.hasStartLease || len(p.execs) > 0 || slices.ContainsFunc(p.shells, func(s *shell) bool { return s.isInside })
}

// runOrRepeatLater runs a command. If it fails and the event may be the cause, finishAct runs it again; otherwise it is a violation.
func (p *project) runOrRepeatLater(args ...string) bool {
	r := p.runLocalport(args...)
	p.logf("%s", r)
	switch {
	case r.exitCode == 0 || p.world.ctx.Err() != nil:
	case p.act.Meanwhile == "kill supervisor": // it may be the one that the command waits for
		p.repeatLater(args)
	case p.commandsMustSucceed && (args[0] != "start" || !p.isOutcomeUnknown):
		p.fail("%s", r) // nothing explains it; a stop that overtakes a start would
	default:
		p.repeatLater(args)
	}
	return r.exitCode == 0
}

// repeatLater has finishAct run a command again, which then must succeed.
func (p *project) repeatLater(args []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.commandsToRepeat = append(p.commandsToRepeat, args)
}

// canUseShell reports whether a shell can run a command now, and is inside, or outside, the project's directory.
func (p *project) canUseShell(s *shell, inside bool) bool {
	return s != p.busyShell && !s.isDead && !s.isFrozen && s.isInside == inside
}

// chooseShell returns a random idle shell that is inside, or outside, the project's directory; nil if there is none.
func (p *project) chooseShell(r *rand.Rand, inside bool) *shell {
	for _, at := range r.Perm(len(p.shells)) {
		if s := p.shells[at]; p.canUseShell(s, inside) {
			return s
		}
	}
	return nil
}

// allowInterruption allows that connections of services (nil: all) end and, if mayRefuse, that new ones are refused, until
// the act is finished.
func (p *project) allowInterruption(services []string, mayRefuse bool) {
	for _, c := range p.clients {
		if services == nil || slices.Contains(services, c.service) {
			c.mayLoseConn.Store(true)
			if mayRefuse {
				c.mayBeRefused.Store(true)
			}
		}
	}
}

// expectReset records that the upstream is about to reset the connections of a service.
func (p *project) expectReset(service string) {
	for _, c := range p.clients {
		if c.service == service {
			c.expectsReset.Store(true)
		}
	}
}

func (p *project) disconnectClients() {
	for _, c := range p.clients {
		c.stop()
	}
	p.clients = nil
}

func (p *project) close() {
	p.closeOnce.Do(func() {
		p.allowInterruption(nil, true)
		p.disconnectClients()
		for _, s := range p.shells {
			if !s.isDead {
				s.close()
			}
		}
		for _, cmd := range p.execs {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		p.upstream.stop()
		if p.cluster != nil {
			p.cluster.stop()
		}
		if p.agent != nil {
			p.agent.stop()
		}
		for _, port := range append(p.reservedPorts, p.upstream.port) {
			port.Release()
		}
	})
}
