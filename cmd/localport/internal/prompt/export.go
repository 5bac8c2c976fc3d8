// Package prompt implements the command that a shell's hook runs at a prompt where something may have changed: `localport export SHELL
// --pid PID --root ROOT --line LINE --told TOLD --retry RETRY --saves [--cd] [--unfinished DIRECTORIES] [--limit LIMIT] [--hold]`. Hooks of older
// releases lack those after TOLD. Package shellhook documents the arguments.
package prompt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/cmd/localport/internal/version"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
	"github.com/localport-sh/localport/project/trust"
	"github.com/localport-sh/localport/shellhook"
)

// hookArgs are the arguments of a shell's hook.
type hookArgs struct {
	shell    string
	pid      int           // the shell's; it holds the lease
	root     string        // of the project that the shell is in; empty if it is in none
	line     string        // the project's line that the shell saw last
	reported string        // the hash of the error that this shell printed last
	retry    retry         // what failed at an earlier prompt
	limit    time.Duration // how long the prompt may take

	canRetry bool // the shell's hook repeats a failed evaluation
	canSave  bool // the shell's hook saves the user's variables, and looks at the variables that [env] uses
	hasTools bool // the shell's hook looks at what other tools with a prompt hook change
	// unfinished are the directories of exports whose output the shell has not evaluated. It may have a lease of their projects.
	unfinished []string
	hold       bool // a line is being edited: the next prompt prints the messages
	atCd       bool // a prompt follows before the next command: what is missing now may be set until then
	isRetry    bool // this evaluation is such a repetition: the user has already seen the error
}

// retry is what the next prompts have to try again. The hook stores it, as opaque JSON.
type retry struct {
	Unreleased []string `json:"left,omitempty"`  // roots of projects that the shell has left without releasing its lease
	Enter      bool     `json:"enter,omitempty"` // entering the shell's project has failed
	// BySocket are the roots of projects whose lease was released by socket only. It is passed on when the shell enters them again.
	BySocket []string `json:"by_socket,omitempty"`
}

// encode returns r as JSON; empty if r is.
func (r retry) encode() string {
	if len(r.Unreleased)+len(r.BySocket) == 0 && !r.Enter {
		return ""
	}
	data, _ := json.Marshal(r)
	return string(data)
}

func parseArgs(args []string, getenv func(string) string) (hookArgs, error) {
	h := hookArgs{limit: client.PromptTimeoutFrom(getenv)}
	if len(args) > 0 {
		h.shell, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("export", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&h.pid, "pid", 0, "")
	flags.StringVar(&h.root, "root", "", "")
	flags.StringVar(&h.line, "line", "", "")
	flags.StringVar(&h.reported, "told", "", "")
	var limit time.Duration
	flags.Func("retry", "", func(text string) error {
		h.canRetry = true
		if text != "" {
			_ = json.Unmarshal([]byte(text), &h.retry) // the hook passes what encode has returned
		}
		return nil
	})
	flags.BoolVar(&h.canSave, "saves", false, "")
	flags.BoolVar(&h.hasTools, "tools", false, "")
	flags.BoolVar(&h.atCd, "cd", false, "")
	flags.BoolVar(&h.hold, "hold", false, "")
	flags.Func("unfinished", "", func(text string) error {
		h.unfinished = slices.DeleteFunc(strings.Split(text, "\n"), func(dir string) bool { return dir == "" })
		return nil
	})
	flags.DurationVar(&limit, "limit", 0, "")
	if err := flags.Parse(args); err != nil {
		return h, output.Usage(err)
	}
	if h.isRetry = limit > 0; h.isRetry {
		h.limit = min(h.limit, limit)
	}
	return h, nil
}

// evaluation is the evaluation of one prompt: the shell's environment and bookkeeping before and after it.
type evaluation struct {
	args   hookArgs
	err    io.Writer
	cwd    string // empty if it was deleted
	shell  shellhook.Shell
	before environ.Env
	after  environ.Env

	root, stateDir, line, reported string // what the shell stores until the next prompt
	retry                          retry
	used                           []string        // the variables that [env] uses
	recheck                        bool            // the next prompt must evaluate again
	isUnjoined                     bool            // the project is not allowed, or down
	isStamped                      bool            // the ages of the files are recorded
	isPending                      bool            // the files wait for "localport allow"
	held                           strings.Builder // messages for the next prompt, if the shell is editing a line
	viewLine                       uint64          // the line's number when the supervisor made the view; 0: unknown
	bumpedLine                     uint64          // the number to which this evaluation has raised the line; 0: it has not

	userConfig func() (project.UserConfig, error) // read once, and only if there is a message
	// supervisorConfig is set if a supervisor evaluates the prompt, and not a process that the shell has started: the config of its project. It
	// starts nothing: no supervisor, and no program that looks for mistakes.
	supervisorConfig string
}

// Export prints the statements that the shell evaluates, and returns the exit code. args are the arguments of `localport export`.
func Export(args []string) int {
	stderr := output.NewWriter(os.Stderr)
	return output.PrintError(stderr, run(args, os.Stdout, stderr))
}

// run prints the bookkeeping even if something failed: without it, the hook would run export at every prompt.
func run(args []string, stdout, stderr io.Writer) error {
	cwd, _ := os.Getwd() // a deleted directory is in no project
	e, err := newEvaluation(args, cwd, os.Environ(), stderr)
	if err != nil {
		return err
	}
	// The last tenth of the limit is for the error message.
	ctx, cancel := context.WithTimeout(context.Background(), e.args.limit-e.args.limit/10)
	defer cancel()
	// Calls to a file system that hangs do not return at a deadline, but the prompt must.
	watchdog := time.AfterFunc(e.args.limit+watchdogDelay, func() {
		if !e.args.isRetry && !e.args.hold {
			e.printNoResult(stderr)
		}
		os.Exit(output.ExitFailed)
	})
	defer watchdog.Stop()

	err = e.evaluate(ctx)
	e.printChangedVariables() // which may read the user's config
	watchdog.Stop()           // on a busy machine, what follows must not be cut off
	if e.args.hold {
		err = output.ReportOnOneLine(e.err, err)
		if code := output.PrintError(e.err, err); err != nil {
			err = output.WithExitCode(output.ErrReported, code)
		}
	}
	if _, writeErr := io.WriteString(stdout, e.shellCode()); writeErr != nil {
		return output.DescribeWriteError(writeErr)
	}
	return output.ReportOnOneLine(e.err, err)
}

// printNoResult prints that the evaluation has not ended in time.
func (e *evaluation) printNoResult(stderr io.Writer) {
	output.Info(stderr, "no result within %v in %s: the file system or the supervisor does not respond", e.args.limit, e.cwd)
}

// watchdogDelay is how long after its limit a prompt ends at the latest.
const watchdogDelay = 200 * time.Millisecond

// newEvaluation returns the evaluation of a prompt of a shell in the directory cwd, with the environment env. Messages are written to stderr or,
// if the shell is editing a line, kept for its next prompt.
func newEvaluation(args []string, cwd string, env []string, stderr io.Writer) (*evaluation, error) {
	before := environ.Parse(env)
	h, err := parseArgs(args, before.Get)
	if err != nil {
		return nil, err
	}
	shell, err := shellhook.Lookup(h.shell)
	if err != nil {
		return nil, output.Usage(err)
	}
	e := &evaluation{
		args: h, err: stderr, cwd: cwd, shell: shell, before: before, after: environ.Undo(before), reported: h.reported,
		userConfig: sync.OnceValues(client.ReadUser),
	}
	if h.hold {
		e.err = output.NewWriter(&e.held)
	}
	return e, nil
}

func (e *evaluation) isBySupervisor() bool { return e.supervisorConfig != "" }

func (e *evaluation) evaluate(ctx context.Context) error {
	root, _, err := project.Find(e.cwd)
	if e.isBySupervisor() {
		ours := root
		if err != nil {
			ours = e.args.root
		}
		if filepath.Join(ours, project.ConfigName) != e.supervisorConfig {
			return errOtherProject
		}
	}
	leaveErr := e.leaveProjects(ctx, root)
	if err != nil {
		if leaveErr == nil {
			e.reported = ""
		}
		return e.reportOnce(leaveErr) // the shell is in no project: that is not an error at a prompt
	}
	p, err := e.openProject(root)
	if err != nil {
		return e.reportOnce(errors.Join(leaveErr, err))
	}
	e.root = root
	err = e.evaluateProject(ctx, p)
	e.printNewEvents(p)
	return e.reportOnce(errors.Join(leaveErr, err))
}

// evaluateProject enters the project at e.root, and chooses the line that the shell stores.
func (e *evaluation) evaluateProject(ctx context.Context, p *client.Project) error {
	e.stateDir, e.line = p.Dir.Path, p.Dir.PromptLine()
	err := e.enterProject(ctx, p)
	// After a timeout, keep the line that was read before: the supervisor may have become ready since, and the next prompt must notice.
	// In a project that was not joined, an "allow" or "start" may have changed the line since it was found to be not allowed, or down.
	switch isOwn := e.bumpedLine != 0 && e.bumpedLine == parseLineNumber(e.line)+1; {
	case !e.isUnjoined && (err == nil || ctx.Err() == nil):
		e.line = storedLine(p.Dir.PromptLine(), e.viewLine)
	case e.isUnjoined && isOwn: // nobody else has changed the line since
		e.line = storedLine(p.Dir.PromptLine(), e.bumpedLine)
	}
	return err
}

// storedLine returns the line that the shell stores: the one in the file, but with the number viewLine if that is lower. In that case
// something has changed since the view was made: the next prompt finds a different line in the file and evaluates again.
func storedLine(line string, viewLine uint64) string {
	number, rest, _ := strings.Cut(line, " ")
	if viewLine == 0 || parseLineNumber(number) <= viewLine {
		return line
	}
	return strconv.FormatUint(viewLine, 10) + " " + rest
}

func (e *evaluation) openProject(root string) (*client.Project, error) {
	p, err := client.Open(filepath.Join(root, project.ConfigName), func(text string) { output.Warn(e.err, text) }, e.before.Get("LOCALPORT_LOG_LEVEL"), version.Own())
	if err == nil {
		p.AnswerTimeout, p.Getenv = e.args.limit, e.before.Get
	}
	return p, err
}

// reportOnce returns err if this shell did not print the same error last, else output.ErrReported with the exit code of err.
func (e *evaluation) reportOnce(err error) error {
	if err == nil {
		return nil
	}
	sum := sha256.Sum256([]byte(e.root + err.Error()))
	hash := hex.EncodeToString(sum[:6])
	if hash == e.reported || e.args.isRetry && e.reported != "" {
		return output.WithExitCode(output.ErrReported, output.ExitCode(err))
	}
	e.reported = hash
	return err
}

// leaveProjects leaves the project that the shell was in, unless it is the one at root, and those that it could not leave before.
func (e *evaluation) leaveProjects(ctx context.Context, root string) error {
	previousRoots := slices.Clone(e.args.retry.Unreleased)
	if e.args.root != "" {
		previousRoots = append(previousRoots, e.args.root)
	}
	for _, dir := range e.args.unfinished {
		if unfinishedRoot, _, err := project.Find(dir); err == nil {
			previousRoots = append(previousRoots, unfinishedRoot)
		}
	}
	e.retry.BySocket = slices.DeleteFunc(slices.Clone(e.args.retry.BySocket), func(r string) bool { return slices.Contains(previousRoots, r) })
	var errs []error
	for _, previousRoot := range previousRoots {
		if previousRoot == root || slices.Contains(e.retry.Unreleased, previousRoot) {
			continue
		}
		departure, err := e.leaveProject(ctx, previousRoot)
		e.printOpenConnections(previousRoot, departure.Left)
		if departure.BySocket {
			e.retry.BySocket = append(e.retry.BySocket, previousRoot)
		}
		if err != nil {
			e.retry.Unreleased = append(e.retry.Unreleased, previousRoot)
			errs = append(errs, fmt.Errorf("leave %s: %w", previousRoot, err))
		}
	}
	err := errors.Join(errs...)
	if err != nil && e.args.canRetry {
		err = output.WithHint(err, "the next prompts retry")
	}
	return err
}

// leaveProject releases the shell's lease in the state file or, if that cannot be written, through the supervisor's socket.
func (e *evaluation) leaveProject(ctx context.Context, root string) (client.Departure, error) {
	p, err := e.openProject(root)
	if err != nil {
		return client.Departure{}, err
	}
	shell, _ := lockstate.FindProcess(e.args.pid)
	return p.Leave(ctx, lockstate.Lease{Kind: lockstate.ShellLease, Process: shell})
}

// enterProject joins the project and prepares its variables. A project that was stopped or denied by the user is no error.
func (e *evaluation) enterProject(ctx context.Context, p *client.Project) error {
	isEntering := (e.args.root != e.root || e.args.retry.Enter) && !environ.ReadDiff(e.before).IsOf(p.Config)
	e.retry.Enter = isEntering // until it has succeeded
	// The stamp is written before the files are read, so that the next prompt sees a change in between. If it cannot be written, every
	// prompt evaluates again: slower, but correct.
	isStampChanged, err := p.Dir.Stamp(e.root)
	e.isStamped = err == nil
	verdict, files, err := p.AskTrust()
	if err != nil {
		return err
	}
	shell, isAlive := lockstate.FindProcess(e.args.pid)
	if !isAlive {
		return fmt.Errorf("no process has the shell's pid %d", e.args.pid)
	}
	j, err := p.Join(ctx, client.JoinOptions{
		Lease:            lockstate.Lease{Kind: lockstate.ShellLease, Process: shell, Dir: e.cwd, Since: time.Now().UTC()},
		ReleasedBySocket: slices.Contains(e.args.retry.BySocket, e.root),
		RestartStopped:   isEntering, Allowed: verdict == trust.Allowed, OnlyRunning: e.isBySupervisor(),
		OnUpdate: func(tx *lockstate.Tx, isAlive bool) {
			if isStampChanged && (e.bumpedLine == 0 || tx.Line < e.bumpedLine) { // once, also if it is called again
				tx.Bump()
				e.bumpedLine = tx.BumpedLine()
			}
			if isEntering && !isAlive {
				tx.Stopped, tx.Started, tx.Only = nil, nil, nil
			}
		},
	})
	if errors.Is(err, client.ErrDown) {
		e.retry.Enter, e.isUnjoined = false, true
		return nil
	}
	if _, hasNoAnswer := errors.AsType[*client.NoAnswerError](err); (hasNoAnswer || err != nil && ctx.Err() != nil) && environ.ReadDiff(e.before).IsOf(p.Config) {
		e.after = e.before // the ports stay open while a supervisor is busy or being replaced, and the next prompts ask again
	}
	_, e.isUnjoined = errors.AsType[*client.NotAllowedError](err)
	if e.isUnjoined && verdict == trust.Denied {
		return nil
	}
	if e.isUnjoined && !e.isBySupervisor() {
		if mistake := findMistake(ctx, p); mistake.Text != "" {
			err = output.WithExitCode(errors.New(mistake.Describe(false)), output.ExitNotAllowed)
		}
		e.isPending = e.isStamped
	}
	if err != nil {
		return err
	}
	e.retry.Enter = false
	e.retry.BySocket = slices.DeleteFunc(e.retry.BySocket, func(r string) bool { return r == e.root })
	return e.exportVariables(ctx, p, j, verdict, files, isEntering)
}

// exportVariables adds the project's variables to the environment and prints its summary. It returns an error for a changed config that
// is not in use.
func (e *evaluation) exportVariables(ctx context.Context, p *client.Project, j *client.JoinedProject, verdict trust.Verdict, files *project.Files, isEntering bool) error {
	var pending error
	if verdict != trust.Allowed {
		text := files.DescribeChange(j.View.Files) + `; still using the previous config until you run "localport allow"`
		if e.isBySupervisor() {
			return errors.New(text)
		}
		if mistake := findMistake(ctx, p); mistake.Text != "" {
			text = mistake.Describe(true)
		}
		e.isPending = e.isStamped
		pending = output.WithExitCode(errors.New(text), output.ExitNotAllowed)
	} else if err := j.ReloadIfChanged(ctx, files); err != nil {
		pending = fmt.Errorf("%s; still using the previous config: %w", files.DescribeChange(j.View.Files), err)
		if _, isRefused := errors.AsType[*client.RefusedError](err); isRefused { // the supervisor has found mistakes in the config
			pending = output.WithExitCode(pending, output.ExitInvalid)
		}
	}
	e.viewLine = j.View.Line
	pairs, err := client.VariablesFrom(j.View, func(name string) (string, bool) {
		e.used = append(e.used, name)
		return e.after.Lookup(name)
	})
	if err != nil && e.args.atCd {
		e.recheck, err = true, nil
	}
	e.after = environ.Enter(e.before, p.Config, pairs)
	if e.args.root != e.root || isEntering || j.Started {
		e.printSummary(j.View)
	}
	if err := errors.Join(pending, err); err != nil {
		return err
	}
	e.reported = ""
	return nil
}

// shellCode returns the statements that set the bookkeeping and change the environment. The bookkeeping comes first: a statement that
// fails, because the user has made its variable read-only, must not prevent it.
func (e *evaluation) shellCode() string {
	var b strings.Builder
	for _, v := range [][2]string{
		{shellhook.RootVariable, e.root}, {shellhook.DirVariable, e.stateDir}, {shellhook.LineVariable, e.line}, {shellhook.ReportedVariable, e.reported},
	} {
		b.WriteString(e.shell.Set(v[0], v[1]))
	}
	if e.args.canRetry {
		b.WriteString(e.shell.Set(shellhook.RetryVariable, e.retry.encode()))
	}
	if e.args.canSave {
		if e.isPending && e.args.hasTools {
			b.WriteString(e.shell.Set(shellhook.TriedVariable, ""))
		}
		b.WriteString(e.shell.Set(shellhook.DiffVariable, e.after[environ.DiffVariable]))
		recheck := ""
		if e.recheck {
			recheck = "1"
		}
		b.WriteString(e.shell.Set(shellhook.RecheckVariable, recheck))
		b.WriteString(e.shell.Set(shellhook.VariablesVariable, strings.Join(environ.ReadDiff(e.after).Names(e.after), " ")))
	}
	if e.args.hold {
		b.WriteString(e.shell.Set(shellhook.HeldVariable, e.held.String()))
	}
	for _, change := range environ.ListChanges(e.before, e.after) {
		b.WriteString(e.changeVariable(change))
	}
	if !e.args.canSave {
		return b.String()
	}
	for _, name := range environ.ReadDiff(e.after).Names(e.after) {
		if e.before[name] == e.after[name] && e.isPreviousChanged(name) {
			b.WriteString(e.saveAgain(name))
		}
		if base, hasBase := environ.ReadDiff(e.after).Base(name); hasBase && e.args.hasTools {
			b.WriteString(e.shell.SaveBase(name, base))
			e.used = append(e.used, environ.SessionVariables...)
		}
	}
	if diff, isSet := e.after[environ.DiffVariable]; isSet {
		b.WriteString(e.shell.Export(environ.DiffVariable, diff)) // also if it is unchanged: the user may have unset it
	} else if e.args.root != "" {
		b.WriteString(e.shell.Left())
	}
	slices.Sort(e.used)
	b.WriteString(e.shell.Watch(slices.Compact(e.used)))
	b.WriteString(e.shell.Set(shellhook.UnfinishedVariable, ""))
	return b.String()
}

// changeVariable returns the statement for one change of the environment. What the user has is saved by the shell, if its hook can.
func (e *evaluation) changeVariable(change environ.Change) string {
	if e.args.canSave && change.Name != environ.DiffVariable {
		before := environ.ReadDiff(e.before)
		wasOurs := before.IsUnchanged(e.before, change.Name)
		isOurs := environ.ReadDiff(e.after).IsUnchanged(e.after, change.Name)
		switch {
		case isOurs && (e.isPreviousChanged(change.Name) || !wasOurs && before.HasEntries(change.Name)):
			return e.saveAgain(change.Name)
		case isOurs:
			return e.shell.Save(change.Name, *change.Value, wasOurs)
		case wasOurs && e.isBase(change.Name, change.Value):
			return e.shell.RestoreBase(change.Name, change.Value)
		case wasOurs:
			return e.shell.Restore(change.Name, change.Value)
		}
	}
	return e.assign(change.Name, change.Value)
}

// assign returns the statement that exports a variable, or removes it.
func (e *evaluation) assign(name string, value *string) string {
	switch {
	case e.args.hasTools && name != environ.DiffVariable:
		return e.shell.Assign(name, value)
	case value == nil:
		return e.shell.Unset(name)
	default:
		return e.shell.Export(name, *value)
	}
}

// isBase reports whether value is not what the shell has saved last of a variable: another tool had set that, and is gone.
func (e *evaluation) isBase(name string, value *string) bool {
	base, hasBase := environ.ReadDiff(e.before).Base(name)
	return e.args.hasTools && hasBase && isSameValue(base, value) && !isSameValue(base, environ.ReadDiff(e.before).Previous(name))
}

// isPreviousChanged reports whether the shell has saved another value of a variable than the one that is to be restored: a list that has our
// entries was changed, or a tool that had set the variable is gone.
func (e *evaluation) isPreviousChanged(name string) bool {
	saved, previous := environ.ReadDiff(e.before), environ.ReadDiff(e.after).Previous(name)
	return e.isBase(name, previous) || saved.HasEntries(name) && !isSameValue(saved.Previous(name), previous)
}

func isSameValue(a, b *string) bool { return a == b || a != nil && b != nil && *a == *b }

// saveAgain returns statements with which the shell saves the value that is to be restored, instead of the one it has saved.
func (e *evaluation) saveAgain(name string) string {
	save := e.shell.Save(name, e.after[name], false)
	previous := environ.ReadDiff(e.after).Previous(name)
	if e.isBase(name, previous) {
		return e.shell.RestoreBase(name, previous) + save
	}
	return e.assign(name, previous) + save
}
