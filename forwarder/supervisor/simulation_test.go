package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/service"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// A simulation is one project with its shells and supervisors. The supervisors' elections, leases, writes of the state, reloads and services
// are the real ones, on the clock of a synctest bubble. The files are real too, but each file system call waits until the simulation has it
// made, or fail. Processes, ports and tunnels are simulated, and there is no keeper and no control socket: a command calls the supervisor.
//
// A seed determines the events, the order of the calls, and which of them fail. Nothing else may influence the trace.

// simulation is a run of events. Its fields belong to the goroutine of run, unless they say otherwise.
type simulation struct {
	t      *testing.T
	random *rand.Rand
	seed   uint64
	trace  bytes.Buffer
	number int // of the current event

	home      string // the directories of the state and the sockets
	dir       *lockstate.Dir
	calls     simCalls
	processes simProcesses
	network   *simNetwork
	disk      simDisk
	tasks     sync.WaitGroup

	shells        []*simShell
	config        simConfig
	oldState      []byte // a copy of the state file, older than the last change of the prompt's line
	lastState     []byte
	lastLine      uint64
	lastWriter    *simProcess // of the state file
	lockFile      *os.File    // the lock file, locked by another program; nil: it is not
	supervisorNum int
	promptNumber  uint64 // the number that prompts have seen in the line; 0: none

	// Whether an older copy of the state file was put in place, and the prompt's file deleted, since the last repair. Both together hide from whoever
	// writes the state next that it is an older copy: a "stop" may then number it like the current one, and end the supervisor that has the rest.
	hasLostState, hasLostPrompt bool

	mu                 sync.Mutex // guards the fields below
	supervisors        []*simSupervisor
	acked              map[lockstate.Process]bool      // the leases that were acknowledged; the zero Process is the start lease
	releasedAt         map[lockstate.Process]time.Time // when a lease was last released
	nanoseconds        time.Duration                   // see now
	destroyed          int                             // how often files were destroyed
	destroyedElections int                             // how often that was the election file
	ended              []*simSupervisor                // those that have ended by themselves, until checkEnded
	endedCount         int                             // how many supervisors have ended
	operations         int                             // of commands and reloads that run
	begunOps           int                             // all such operations
	unusedSince        time.Time                       // since when no lease has been found or asked for; zero: there is one
	severalSince       time.Time                       // since when more than one supervisor has run undisturbed; zero: there is one at most
	disturbedAt        time.Time                       // when something last hindered supervisors: a full disk, destroyed files, a guard that hangs
	brokenAt           time.Time                       // the same, without what must prevent no supervisor from recording its end
	isStopAcked        bool                            // the last command that starts or stops the project was a stop, and it succeeded
	starts             int                             // commands that start the project and have not ended
	begunStarts        int                             // all such commands
	failure            string
}

// simSupervisor is a supervisor that was elected.
type simSupervisor struct {
	*Supervisor
	process  *simProcess
	cancel   context.CancelFunc
	isHung   bool // the file system calls of its guard hang
	hasBegun bool // its loops run
	// isAskedToEnd: a stop has asked it to end, whatever the leases; guarded by simulation.mu.
	isAskedToEnd bool
	begunAt      time.Time       // when its loops began
	stopped      map[string]bool // the services that the user has stopped, as far as is known; guarded by simulation.mu
}

// simShell is a user of the project.
type simShell struct {
	process  *simProcess
	isInside bool
	isBusy   bool // a command of it runs; guarded by simulation.mu
	// mayKeepLease: its release of the lease may have been lost.
	mayKeepLease       bool
	isReleasedBySocket bool // see client.JoinOptions
}

const simShells = 4

func newSimulation(t *testing.T, seed uint64, home string) *simulation {
	config := filepath.Join(home, "project", ".localport.toml")
	dir, err := lockstate.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	s := &simulation{
		t: t, seed: seed, random: rand.New(rand.NewPCG(seed, 0)), home: home, dir: dir, network: newSimNetwork(seed),
		calls:     simCalls{roles: map[string]string{}},
		processes: simProcesses{running: map[lockstate.Process]*simProcess{}}, acked: map[lockstate.Process]bool{},
		releasedAt: map[lockstate.Process]time.Time{},
	}
	for range simShells {
		s.shells = append(s.shells, &simShell{process: s.processes.start(fmt.Sprintf("shell%d", s.processes.lastPID+1))})
	}
	return s
}

func (s *simulation) logf(format string, args ...any) {
	fmt.Fprintf(&s.trace, "%d %s ", s.number, time.Now().Format("15:04:05.000000"))
	fmt.Fprintf(&s.trace, format, args...)
	s.trace.WriteByte('\n')
}

// fail records the first broken promise.
func (s *simulation) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failLocked(format, args...)
}

// failLocked is fail for callers that have s.mu locked.
func (s *simulation) failLocked(format string, args ...any) {
	if s.failure == "" {
		s.failure = strings.ReplaceAll(fmt.Sprintf(format, args...), s.dir.Path, "STATE")
	}
}

func (s *simulation) hasFailed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failure != ""
}

// run performs events until their number is reached or a promise is broken.
func (s *simulation) run(events int) {
	for s.number = 1; s.number <= events && !s.hasFailed(); s.number++ {
		s.performEvent()
		// Some calls are left for the next events.
		limit := -1
		if s.random.IntN(3) == 0 {
			limit = s.random.IntN(20)
		}
		if s.makeCalls(limit) {
			s.check()
		}
		if s.number%50 == 0 && !s.hasFailed() {
			s.repairAndCheck()
		}
		s.logState()
	}
	s.end()
}

// timeStep is the longest step of time. It is no round number: the goroutine of run must not wake at the same moment as another one.
const timeStep = 193_477_013 * time.Nanosecond

// simOffset makes a duration no round number.
const simOffset = 1_234_567 * time.Nanosecond

// pass lets time pass, and has the calls made that begin meanwhile.
func (s *simulation) pass(d time.Duration) {
	for deadline := time.Now().Add(d); ; {
		s.makeCalls(-1)
		left := time.Until(deadline)
		if left <= 0 {
			return
		}
		time.Sleep(min(left, timeStep))
	}
}

// makeCalls makes the calls that wait, and those that follow, in random order. limit is the largest number; -1 means all. It reports
// whether none is left.
func (s *simulation) makeCalls(limit int) bool {
	for n := 0; ; n++ {
		synctest.Wait()
		s.recordDisturbance()
		s.checkEnded()
		waiting := s.calls.list(s.hangs)
		if len(waiting) == 0 {
			return true
		}
		if n == limit {
			return false
		}
		call := waiting[s.random.IntN(len(waiting))]
		err := s.disk.result(call, s.exists(call.name), s.random.IntN)
		s.logf("%v: %v, of %d", call, err, len(waiting))
		if call.call == lockstate.CallRename && call.name == "state.json" && err == nil {
			s.lastWriter = call.process
		}
		if call.call == lockstate.CallFlock && call.name == "election" {
			call.process.electionsBefore = s.destroyedElections // it is locked now
		}
		s.calls.finish(call, err)
	}
}

// hangs reports whether a call is not made now: one of a guard that hangs.
func (s *simulation) hangs(call *simCall) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.supervisors, func(other *simSupervisor) bool {
		return other.isHung && other.process == call.process && call.role == roleGuard && !other.process.hasEnded()
	})
}

func (s *simulation) path(name string) string { return filepath.Join(s.dir.Path, name) }

func (s *simulation) exists(name string) bool {
	_, err := os.Lstat(s.path(name))
	return err == nil
}

// The roles of a supervisor's goroutines.
const (
	roleStart   = "start"
	roleLeases  = "leases"
	roleGuard   = "guard"
	roleWrites  = "writes"
	roleCommand = "command"
)

// goAs runs fn in a goroutine of a process.
func (s *simulation) goAs(role string, fn func()) {
	s.tasks.Go(func() { s.calls.run(role, fn) })
}

// answering returns the supervisor that answers at the control socket; nil if none does.
func (s *simulation) answering() *simSupervisor {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, other := range slices.Backward(s.supervisors) {
		if other.hasBegun && !other.process.hasEnded() && !other.isClosing.Load() {
			return other
		}
	}
	return nil
}

// maxSimSupervisors is the number of supervisors that are started at the same time.
const maxSimSupervisors = 6

// startSupervisor starts a supervisor process, which stands for election.
func (s *simulation) startSupervisor() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.supervisors) >= maxSimSupervisors {
		return
	}
	s.supervisorNum++
	p := s.processes.start(fmt.Sprintf("supervisor%d", s.supervisorNum))
	sup := &simSupervisor{process: p}
	s.supervisors = append(s.supervisors, sup)
	s.goAs(roleStart, func() {
		if err := s.runSupervisor(sup); err != nil {
			s.fail("start %s: %v", p.name, err)
		}
	})
}

// runSupervisor is Run without files of the project, keeper and sockets.
func (s *simulation) runSupervisor(sup *simSupervisor) error {
	p := sup.process
	sv, err := newSupervisor(Options{
		Config: s.dir.Config, RunID: p.name, LogLevel: new(slog.LevelVar), OnStartResult: func(client.Readiness) {},
	})
	if err != nil {
		return err
	}
	var ctx context.Context
	s.mu.Lock()
	sup.Supervisor = sv
	ctx, sup.cancel = context.WithCancel(s.t.Context())
	s.mu.Unlock()
	driver := simDriver{s.network, p}
	sv.logFile.Close()
	sv.log = slog.New(slog.DiscardHandler)
	sv.store.log, sv.keeper.log = sv.log, sv.log
	sv.self, sv.store.self = p.Process, p.Process
	sv.dir.Warn, sv.dir.BeforeCall = nil, s.calls.beforeCall(p)
	yield := s.calls.beforeCall(p)
	sv.store.yield = func() { _ = yield(callYield, "") }
	sv.startTask = taskStarter(ctx)
	sv.socket.closeListener() // the guard leaves it alone then
	sv.bindPort = func(_ context.Context, svc project.Service, o relay.Options) (service.Port, error) {
		return s.network.bind(p, svc, o)
	}
	sv.handOver = func(ctx context.Context) error { return s.handOver(ctx, sup) }
	s.mu.Lock()
	before := s.endedCount
	s.mu.Unlock()
	_, err = sv.elect(ctx)
	s.checkElection(sup, err, before)
	if err != nil || sv.election == nil {
		s.endProcess(sup)
		return nil //nolint:nilerr // the next prompt starts another
	}
	if err := sv.runDir.create(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	config := s.config
	s.mu.Unlock()
	l, err := config.load(driver)
	if err != nil {
		return err
	}
	active := newActiveConfig(l)
	for _, svc := range l.project.Services {
		active.services[svc.Name] = sv.addService(l.definitions[svc.Name])
	}
	sv.active.Store(active)
	active.startServices(wantedServices(l.project, sv.selection()), service.StartOptions{})
	s.mu.Lock()
	sup.hasBegun, sup.begunAt, sup.stopped = true, time.Now(), map[string]bool{}
	s.mu.Unlock()
	sv.recordStart(ctx, l.ports)
	s.goAs(roleLeases, func() { sv.awaitShutdown(ctx) })
	s.goAs(roleGuard, func() { sv.guardFiles(ctx, nil) })
	s.goAs(roleWrites, func() { sv.store.retryWrites(ctx, sv.endedCh) })
	s.goAs("successor", func() { sv.keepSuccessorUpdated(ctx) })
	s.tasks.Go(func() {
		select {
		case <-sv.endedCh:
			s.endProcess(sup)
			s.mu.Lock()
			s.ended = append(s.ended, sup)
			s.mu.Unlock()
		case <-p.endedCh:
		}
	})
	return nil
}

// checkElection checks the outcome of an election. before is the number of supervisors that had ended when it began.
func (s *simulation) checkElection(sup *simSupervisor, err error, before int) {
	isDown := s.dir.ReadOrZero().Down
	s.mu.Lock()
	defer s.mu.Unlock()
	isAlone := len(s.supervisors) == 1 && s.endedCount == before
	switch {
	case err != nil || sup.process.hasEnded():
	case sup.election == nil && isAlone && !isDown:
		s.failLocked("%s was not elected, although there is no other supervisor", sup.process.name)
	case sup.election != nil:
		if isHeld, err := sup.election.IsHeld(); err == nil && !isHeld && sup.process.electionsBefore == s.destroyedElections {
			s.failLocked("%s has locked an election file that was deleted before", sup.process.name)
		}
	}
}

// handOver leaves the ports of a superseded supervisor to the elected one.
func (s *simulation) handOver(ctx context.Context, sup *simSupervisor) error {
	s.mu.Lock()
	var elected *simSupervisor
	for _, other := range s.supervisors {
		if other != sup && other.hasBegun && !other.isClosing.Load() && !other.isSuperseded.Load() && !other.process.hasEnded() {
			elected = other
		}
	}
	s.mu.Unlock()
	if elected == nil {
		return errors.New("the elected supervisor does not answer")
	}
	sup.leaveTo(sup.watchExit(ctx, elected.process.Process))
	return nil
}

// endProcess ends a supervisor's process, as SIGKILL does.
func (s *simulation) endProcess(sup *simSupervisor) {
	s.processes.end(sup.process)
	s.network.releaseAll(sup.process.name)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.supervisors = slices.DeleteFunc(s.supervisors, func(other *simSupervisor) bool { return other == sup })
	s.endedCount++
	if sup.Supervisor == nil {
		return
	}
	if sup.election != nil {
		_ = sup.election.Handover() // the kernel closes it
	}
	sup.cancel()
	s.tasks.Go(func() {
		if active := sup.active.Load(); active != nil {
			for _, svc := range active.services {
				svc.stopRun()
			}
		}
		sup.leaseWatcher.close()
		sup.tasks.Wait()
		sup.events.notifier.Close()
		_ = sup.runDir.remove()
	})
	for _, call := range s.calls.list(func(call *simCall) bool { return call.process != sup.process }) {
		s.calls.finish(call, nil) // its goroutine ends
	}
}

// end ends every process and goroutine.
func (s *simulation) end() {
	s.disk = simDisk{}
	s.unlockFile()
	for _, sh := range s.shells {
		s.processes.end(sh.process)
	}
	for range 100 {
		s.mu.Lock()
		all := slices.Clone(s.supervisors)
		s.mu.Unlock()
		for _, sup := range all {
			s.endProcess(sup)
		}
		s.makeCalls(-1)
		time.Sleep(time.Second + simOffset)
	}
	s.tasks.Wait()
}

// check checks what must hold whenever no call waits.
func (s *simulation) check() {
	s.mu.Lock()
	var elected []string
	for _, sup := range s.supervisors {
		if !sup.hasBegun || sup.election == nil {
			continue
		}
		if isHeld, err := sup.election.IsHeld(); isHeld && err == nil {
			elected = append(elected, sup.process.name)
		}
	}
	s.mu.Unlock()
	if len(elected) > 1 {
		s.fail("more than one supervisor is elected: %v", elected)
	}
	recorded := s.recordedLeases(true)
	if s.answering() == nil && (s.disk != simDisk{} || s.lockFile != nil) {
		for _, sh := range s.shells { // the supervisor that knew of a release ended and could not write it
			sh.mayKeepLease = sh.mayKeepLease || !sh.isInside && recorded[sh.process.Process]
		}
	}
	for _, p := range s.ackedLeases() {
		if !recorded[p] && (p == lockstate.Process{} || s.processes.IsAlive(p)) {
			s.fail("the lease of %s was acknowledged, and neither the state nor a supervisor has it", s.nameOf(p))
		}
	}
	if number := s.lineNumber(); number > 0 { // without a line every prompt evaluates
		if number < s.promptNumber {
			s.fail("the line's number is %d after %d: one that a prompt has seen may come again", number, s.promptNumber)
		}
		s.promptNumber = number
	}
	if sup := s.answering(); sup != nil && !sup.isHung && !sup.isSuperseded.Load() {
		problem := s.network.findServiceProblem(sup.Supervisor, sup.process)
		if problem == "" {
			problem = s.findUseProblem(sup)
		}
		if problem != "" {
			s.fail("%s: %s", sup.process.name, problem)
		}
	}
}

// findUseProblem describes what a supervisor has not noticed in time: that nobody uses the project, that files must be restored, or what
// the user has stopped.
func (s *simulation) findUseProblem(sup *simSupervisor) string {
	recorded := s.recordedLeases(true)
	isUsed := recorded[lockstate.Process{}]
	for p := range recorded {
		isUsed = isUsed || s.processes.IsAlive(p)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	isAlone := len(s.supervisors) == 1
	switch {
	case isUsed || !isAlone || !s.isQuiet(s.disturbedAt):
		s.unusedSince = time.Time{}
	case s.unusedSince.IsZero():
		s.unusedSince = time.Now()
	case time.Since(s.unusedSince) > settleTime && time.Since(sup.begunAt) > settleTime:
		return "it runs, although no lease has been there since " + s.unusedSince.Format("15:04:05")
	}
	if !isAlone || sup.isClosing.Load() {
		sup.stopped = map[string]bool{} // what another one writes is the project's
		return ""
	}
	if s.isQuiet(s.disturbedAt) && time.Since(sup.begunAt) > settleTime {
		if problem := s.findRecordProblem(sup, s.dir.ReadOrZero()); problem != "" {
			return problem
		}
	}
	for _, name := range simServiceNames {
		if sup.stopped[name] && s.operations == 0 && !slices.Contains(sup.store.state().Stopped, name) {
			return "the user has stopped " + name + ", and it does not know that"
		}
	}
	return ""
}

// findRecordProblem describes what of the only supervisor's election, record and line is not as it must be.
func (s *simulation) findRecordProblem(sup *simSupervisor, st lockstate.State) string {
	if isHeld, err := sup.election.IsHeld(); !isHeld || err != nil || sup.isSuperseded.Load() {
		return fmt.Sprintf("the supervisor is not elected: held %v, superseded %v, %v", isHeld, sup.isSuperseded.Load(), err)
	}
	if s.isElectionFree() {
		return sup.process.name + " runs, and another process could lock the election file"
	}
	if st.Supervisor == nil || st.Supervisor.Process != sup.process.Process {
		return fmt.Sprintf("the state does not record %s", sup.process.name)
	}
	if line, want := s.dir.PromptLine(), fmt.Sprintf("%d %d %d", st.Line, st.Supervisor.PID, st.Supervisor.Start); line != want {
		return fmt.Sprintf("the prompt's line is %q, expected %q", line, want)
	}
	return ""
}

// isElectionFree reports whether another process could win the election.
func (s *simulation) isElectionFree() bool {
	file, err := os.Open(s.path("election"))
	if err != nil {
		return os.IsNotExist(err)
	}
	defer file.Close()
	return unix.Flock(int(file.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil
}

// beginOperation is called when a command or a reload begins. What changes with each prompt's line must have changed when it has succeeded
// and nothing hindered it; end reports whether no other operation ran meanwhile.
func (s *simulation) beginOperation(sup *simSupervisor) (end func(err error) (isAlone bool)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.network.countOperation(1)
	s.operations++
	s.begunOps++
	begun, isFirst, before := s.begunOps, s.operations == 1, s.lineNumber()
	return func(err error) bool {
		s.network.countOperation(-1)
		s.mu.Lock()
		s.operations--
		isAlone := isFirst && s.operations == 0 && s.begunOps == begun && err == nil && !sup.process.hasEnded()
		isQuiet := s.isQuiet(s.disturbedAt)
		s.mu.Unlock()
		if now := s.lineNumber(); isAlone && isQuiet && now == before && len(sup.store.pendingChanges()) == 0 && !sup.isClosing.Load() {
			s.fail("%s has changed services, and the number of the prompt's line is still %d", sup.process.name, now)
		}
		return isAlone
	}
}

// lineNumber returns the number of the prompt's line; 0 if there is none.
func (s *simulation) lineNumber() uint64 {
	first, _, _ := strings.Cut(s.dir.PromptLine(), " ")
	number, _ := strconv.ParseUint(first, 10, 64)
	return number
}

// beginStart is called when a command that starts the project begins, and end when it ends.
func (s *simulation) beginStart() (end func()) {
	change := func(by int) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.starts += by
		s.begunStarts += max(0, by)
		s.isStopAcked = false
	}
	change(1)
	return func() { change(-1) }
}

// beginStop is called when a stop begins, and ack when it has succeeded. One that overlaps with a start may have been before it. If files were
// destroyed since it began, it may have been lost.
func (s *simulation) beginStop() (ack func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	destroyed, begunStarts, isAlone := s.destroyed, s.begunStarts, s.starts == 0
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.isStopAcked = isAlone && s.begunStarts == begunStarts && s.destroyed == destroyed
	}
}

// ackedLeases returns the processes whose leases were acknowledged, in the order of their start.
func (s *simulation) ackedLeases() []lockstate.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []lockstate.Process
	for p := range s.acked {
		all = append(all, p)
	}
	slices.SortFunc(all, func(a, b lockstate.Process) int { return a.PID - b.PID })
	return all
}

func (s *simulation) setAcked(p lockstate.Process, isAcked bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if delete(s.acked, p); isAcked {
		s.acked[p] = true
	}
}

// isReleased reports whether the lease of a process in a state is older than its release.
func (s *simulation) isReleased(st lockstate.State, p lockstate.Process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(st.Leases, func(l lockstate.Lease) bool { return l.Process == p && !l.Since.After(s.releasedAt[p]) })
}

// recordedLeases returns the leases that the state file or the memory of a supervisor has. withReleased includes those that are older than
// their release: they may still go.
func (s *simulation) recordedLeases(withReleased bool) map[lockstate.Process]bool {
	leases := s.dir.ReadOrZero().Leases
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, sup := range s.supervisors {
		if sup.hasBegun {
			leases = append(leases, sup.store.state().Leases...)
		}
	}
	found := map[lockstate.Process]bool{}
	for _, lease := range leases {
		if withReleased || lease.Since.After(s.releasedAt[lease.Process]) {
			found[lease.Process] = true
		}
	}
	return found
}

// forgetLostLeases is called when somebody has destroyed files, or a supervisor was killed or stopped. The leases that are recorded nowhere are
// gone: no file and no supervisor that lives has them. In the same way a release may be lost.
func (s *simulation) forgetLostLeases() {
	recorded, remaining := s.recordedLeases(false), s.recordedLeases(true)
	for _, sh := range s.shells {
		sh.mayKeepLease = sh.mayKeepLease || !sh.isInside && remaining[sh.process.Process]
	}
	for _, p := range s.ackedLeases() {
		if !recorded[p] {
			s.logf("the lease of %s is lost", s.nameOf(p))
			s.setAcked(p, false)
		}
	}
}

// checkEnded is called before the next call is made, and checks what supervisors that have just ended by themselves have recorded. A stop ends
// a supervisor whatever the leases, also if that one cannot write the state: the leases that only it had are lost then. If it has written the
// state, they must be there.
func (s *simulation) checkEnded() {
	s.mu.Lock()
	ended, others := s.ended, len(s.supervisors)
	s.ended = nil
	s.mu.Unlock()
	mayLose := false
	for _, sup := range ended {
		st, err := s.dir.Read()
		isHiddenCopy := s.hasLostState && s.hasLostPrompt
		mayLose = mayLose || sup.isAskedToEnd && (s.lastWriter != sup.process || !st.Down || st.Supervisor != nil || isHiddenCopy)
		if err == nil && others == 0 && !sup.isSuperseded.Load() && s.isQuiet(s.brokenAt) {
			s.checkLastWrite(sup, st)
		}
	}
	if mayLose {
		s.forgetLostLeases()
	}
}

// checkLastWrite checks the state after the end of the only supervisor. It may be in a file beside the socket: a full disk prevents nothing.
func (s *simulation) checkLastWrite(sup *simSupervisor, st lockstate.State) {
	st.PruneLeases()
	switch {
	case st.Supervisor != nil && st.Supervisor.Process == sup.process.Process:
		s.fail("%s has ended, and the state records it", sup.process.name)
	case len(st.Stopped)+len(st.Started) > 0:
		s.fail("%s has ended, and the next one would not start %v, and start %v", sup.process.name, st.Stopped, st.Started)
	case !sup.isAskedToEnd && !st.Down && len(st.Leases) > 0: // one that finds the project recorded as down ends
		s.fail("%s has ended as unused, and the state has leases of %v", sup.process.name, s.namesOf(st.Leases))
	}
}

// settleTime is how long supervisors may take to make up for a disturbance.
const settleTime = 8 * time.Second

// isQuiet reports whether the last disturbance is long enough ago.
func (s *simulation) isQuiet(disturbedAt time.Time) bool { return time.Since(disturbedAt) > settleTime }

// recordDisturbance is called at every step of time.
func (s *simulation) recordDisturbance() {
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	isHung := slices.ContainsFunc(s.supervisors, func(sup *simSupervisor) bool { return sup.isHung })
	if s.disk.isBroken || s.lockFile != nil || isHung {
		s.brokenAt = now
	}
	if s.disk != (simDisk{}) || len(s.supervisors) > 1 || s.brokenAt.After(s.disturbedAt) {
		s.disturbedAt = now
	}
	switch isAlone := len(s.supervisors) < 2; {
	case isAlone || s.disk != (simDisk{}) || s.brokenAt.Equal(now):
		s.severalSince = time.Time{}
	case s.severalSince.IsZero():
		s.severalSince = now
	case now.Sub(s.severalSince) > 2*settleTime:
		s.failLocked("%d supervisors run since %s", len(s.supervisors), s.severalSince.Format("15:04:05"))
	}
}

func (s *simulation) nameOf(p lockstate.Process) string {
	for _, sh := range s.shells {
		if sh.process.Process == p {
			return sh.process.name
		}
	}
	if p == (lockstate.Process{}) {
		return "start"
	}
	return fmt.Sprintf("process %d", p.PID-1<<23)
}

// repairAndCheck ends every disturbance, lets time pass and checks that everything has recovered.
func (s *simulation) repairAndCheck() {
	s.logf("repair")
	s.disk = simDisk{}
	s.unlockFile()
	s.mu.Lock()
	for _, sup := range s.supervisors {
		sup.isHung = false
	}
	s.mu.Unlock()
	for i := range simServiceNames {
		s.network.setTaken(simBasePort+i, false)
		s.network.setTaken(simBasePort+i+100, false)
		s.network.setOutcome(simServiceNames[i], simOpens)
	}
	s.pass(5*time.Second + simOffset)
	for range 3 {
		for _, sh := range s.shells {
			if sh.isInside {
				s.command(sh, "prompt", func() { s.join(sh, shellLease(sh.process.Process), false) })
				s.pass(3*time.Second + simOffset)
			}
		}
	}
	if st := s.dir.ReadOrZero(); s.answering() == nil && len(st.Leases) > 0 && !st.Down {
		s.startSupervisor() // as a command in a project with a start lease
		s.pass(3*time.Second + simOffset)
	}
	s.pass(longestAttempt + simOffset)
	if sup := s.answering(); sup != nil {
		active := sup.active.Load()
		for _, svc := range active.project.Services {
			if now := active.services[svc.Name].Snapshot(); now.State == forwarder.Starting || now.State == forwarder.Restarting {
				s.fail("everything is repaired, and after %v %s is %s: %s", longestAttempt, svc.Name, now.State, now.LastError)
			}
		}
		s.network.excuseAttempts()
		active.onNetworkChange() // brings services back that failed permanently
		s.pass(5*time.Second + simOffset)
	}
	if problem := s.findProblem(); problem != "" {
		s.fail("everything is repaired, and after %v %s", longestAttempt, problem)
	}
	s.hasLostState, s.hasLostPrompt = false, false
}

// findProblem describes the first thing that is not as it must be after a repair.
func (s *simulation) findProblem() string {
	st, readErr := s.dir.Read()
	wanted := map[lockstate.Process]bool{}
	for _, sh := range s.shells {
		if sh.isInside {
			wanted[sh.process.Process] = true
		}
	}
	for _, lease := range st.Leases {
		if lease.Kind == lockstate.StartLease || slices.ContainsFunc(s.shells, func(sh *simShell) bool {
			return sh.mayKeepLease && sh.process.Process == lease.Process
		}) {
			wanted[lease.Process] = true
		}
	}
	s.mu.Lock()
	all := slices.Clone(s.supervisors)
	s.mu.Unlock()
	isWanted := len(wanted) > 0 && !st.Down
	s.mu.Lock()
	isStopped := s.isStopAcked
	s.mu.Unlock()
	switch {
	case isStopped && len(all) > 0:
		return all[0].process.name + " runs, although a stop has succeeded and nobody has started the project since"
	case !isWanted && len(all) == 0:
		return ""
	case !isWanted:
		return fmt.Sprintf("%s runs, although nobody uses the project or it is down: %v", all[0].process.name, st.Down)
	case len(all) != 1:
		return fmt.Sprintf("%d supervisors run", len(all))
	case readErr != nil:
		return readErr.Error()
	}
	sup := all[0]
	if problem := s.findRecordProblem(sup, st); problem != "" {
		return problem
	}
	if len(sup.store.pendingChanges()) > 0 || sup.store.writeError() != nil {
		return fmt.Sprintf("the state is not written: %v", sup.store.writeError())
	}
	for _, leases := range [][]lockstate.Lease{st.Leases, sup.store.state().Leases} {
		if len(leases) != len(wanted) || slices.ContainsFunc(leases, func(l lockstate.Lease) bool { return !wanted[l.Process] }) {
			return fmt.Sprintf("the leases are %v, and the living are %v", s.namesOf(leases), len(wanted))
		}
	}
	for name, svc := range sup.active.Load().services {
		now := svc.Snapshot()
		if !now.State.IsReady() && now.State != forwarder.Stopped && !dependsOnStopped(sup.active.Load(), now.Service) {
			return fmt.Sprintf("%s is %s: %s", name, now.State, now.LastError)
		}
	}
	return s.network.findServiceProblem(sup.Supervisor, sup.process)
}

// dependsOnStopped reports whether a service depends on one that the user has stopped.
func dependsOnStopped(active *activeConfig, svc project.Service) bool {
	return slices.ContainsFunc(svc.DependsOn, func(name string) bool {
		other := active.services[name].Snapshot()
		return other.IsStopped() || dependsOnStopped(active, other.Service)
	})
}

func (s *simulation) namesOf(leases []lockstate.Lease) []string {
	var names []string
	for _, l := range leases {
		names = append(names, s.nameOf(l.Process))
	}
	slices.Sort(names)
	return names
}

// logState writes to the trace what an event has led to.
func (s *simulation) logState() {
	var b strings.Builder
	s.mu.Lock()
	for _, sup := range s.supervisors {
		fmt.Fprintf(&b, " %s", sup.process.name)
		if !sup.hasBegun {
			continue
		}
		isHeld, _ := sup.election.IsHeld()
		fmt.Fprintf(&b, "(held %v, closing %v, pending %d", isHeld, sup.isClosing.Load(), len(sup.store.pendingChanges()))
		active := sup.active.Load()
		for _, svc := range active.project.Services {
			state := active.services[svc.Name].Snapshot().State
			if state == forwarder.Restarting {
				state = forwarder.Starting // which of them depends on the order of goroutines
			}
			fmt.Fprintf(&b, ", %s %s", svc.Name, state)
		}
		b.WriteString(")")
	}
	s.mu.Unlock()
	st := s.dir.ReadOrZero()
	s.keepCopy(st.Line)
	s.logf("= disk %v, down %v, leases %v, stopped %v, line %d;%s", s.disk, st.Down, s.namesOf(st.Leases), st.Stopped, st.Line, b.String())
}

// command runs a command of a shell, unless one runs already.
func (s *simulation) command(sh *simShell, name string, fn func()) bool {
	s.mu.Lock()
	isBusy := sh.isBusy
	sh.isBusy = true
	s.mu.Unlock()
	if isBusy {
		return false
	}
	s.logf("%s: %s", sh.process.name, name)
	s.goAs(roleCommand, func() {
		defer func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			sh.isBusy = false
		}()
		fn()
	})
	return true
}

func (s *simulation) recordRelease(p lockstate.Process) {
	now := s.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.releasedAt[p] = now
}

func (s *simulation) destroyedCount() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.destroyed
}

// now returns a time that is later than any that it returned before, also while no time passes.
func (s *simulation) now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.nanoseconds++
	return time.Now().Add(s.nanoseconds)
}

var errSimElectionFree = errors.New("the election is free")

// join records a lease and starts a supervisor if none runs, as client.Join does.
func (s *simulation) join(sh *simShell, lease lockstate.Lease, restartsStopped bool) {
	lease.Since = s.now()
	s.mu.Lock()
	s.unusedSince = time.Time{}
	s.mu.Unlock()
	if restartsStopped {
		defer s.beginStart()()
	}
	request := api.JoinRequest{Lease: &api.Lease{Kind: string(lease.Kind), PID: lease.PID, StartTime: lease.Start, Since: lease.Since}}
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	for hasAsked := false; ; {
		var isRunning bool
		destroyed := s.destroyedCount()
		st, err := s.dirOf(sh).Update(ctx, func(tx *lockstate.Tx) error {
			isRunning = tx.IsSupervisorRunning() || hasAsked && s.answering() != nil
			if !isRunning && !hasAsked {
				return errSimElectionFree
			}
			if restartsStopped {
				tx.Down = false
				tx.RemoveLease(lease.Kind, lease.Process)
			}
			tx.PruneLeases()
			tx.AddLease(lease)
			return nil
		})
		if errors.Is(err, errSimElectionFree) {
			hasAsked = true
			continue
		}
		if err != nil {
			sup := s.answering()
			if sup == nil {
				return
			}
			if _, err := sup.Join(ctx, request); err == nil {
				s.setAcked(lease.Process, true)
			}
			return
		}
		if s.destroyedCount() == destroyed && !s.isReleased(st, lease.Process) { // else it may have been written before that, or may still go
			s.setAcked(lease.Process, true)
		}
		if !isRunning && !st.Down {
			s.startSupervisor()
		} else if sup := s.answering(); sup != nil {
			if !sh.isReleasedBySocket {
				request.Lease = nil
			}
			_, _ = sup.Join(ctx, request)
		}
		return
	}
}

// leave releases a lease as client.Leave does. It reports whether that was recorded.
func (s *simulation) leave(sh *simShell, lease lockstate.Lease) bool {
	s.recordRelease(lease.Process)
	ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
	defer cancel()
	_, err := s.dirOf(sh).Update(ctx, func(tx *lockstate.Tx) error {
		tx.RemoveLease(lease.Kind, lease.Process)
		return nil
	})
	released := api.Lease{Kind: string(lease.Kind), PID: lease.PID, StartTime: lease.Start}
	sup := s.answering()
	if sup != nil {
		_, _ = sup.Leave(ctx, api.LeaveRequest{Lease: &released, At: s.now()})
	}
	sh.isReleasedBySocket = err != nil
	return err == nil || sup != nil
}

// dirOf is the state directory as a shell's commands use it.
func (s *simulation) dirOf(sh *simShell) *lockstate.Dir {
	return &lockstate.Dir{Path: s.dir.Path, Config: s.dir.Config, BeforeCall: s.calls.beforeCall(sh.process)}
}

func (s *simulation) unlockFile() {
	if s.lockFile != nil {
		s.lockFile.Close()
		s.lockFile = nil
	}
}
