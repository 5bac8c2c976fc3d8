// Package prompt is what a shell's hook runs at a prompt that has something to find out: `localport export SHELL --pid
// PID --root ROOT --line LINE --told TOLD --retry RETRY [--limit LIMIT]`. Hooks of older releases know neither of the last two.
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
	Shell    string
	PID      int           // the shell's: what the lease is for
	Root     string        // the project that the shell is in; empty for none
	Line     string        // the project's line as the shell saw it last
	Reported string        // a hash of the error that the shell printed last
	Retry    retry         // what could not be done at an earlier prompt
	Limit    time.Duration // how long a prompt may wait for us, whatever is stuck

	canRetry bool // the hook of this shell repeats a failed evaluation
	isRetry  bool // this is such a repetition: the user knows of the failure
}

// retry is what is still to be done that could not be done at a prompt. The hook keeps it, as JSON.
type retry struct {
	Left  []string `json:"left,omitempty"`  // the roots of projects whose lease is still to be released
	Enter bool     `json:"enter,omitempty"` // the project that the shell is in was not entered yet
	// BySocket are the roots of projects whose lease was released by socket. It is no work, but to be known on entering again.
	BySocket []string `json:"by_socket,omitempty"`
}

// encode is empty where there is nothing to do.
func (r retry) encode() string {
	if len(r.Left)+len(r.BySocket) == 0 && !r.Enter {
		return ""
	}
	data, _ := json.Marshal(r)
	return string(data)
}

func parseArgs(args []string) (hookArgs, error) {
	h := hookArgs{Limit: client.PromptTimeout()}
	if len(args) > 0 {
		h.Shell, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("export", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&h.PID, "pid", 0, "")
	flags.StringVar(&h.Root, "root", "", "")
	flags.StringVar(&h.Line, "line", "", "")
	flags.StringVar(&h.Reported, "told", "", "")
	var limit time.Duration
	flags.Func("retry", "", func(text string) error {
		h.canRetry = true
		if text != "" {
			_ = json.Unmarshal([]byte(text), &h.Retry) // a hook hands back what it was given
		}
		return nil
	})
	flags.DurationVar(&limit, "limit", 0, "")
	if err := flags.Parse(args); err != nil {
		return h, output.Usage(err)
	}
	if h.isRetry = limit > 0; h.isRetry {
		h.Limit = min(h.Limit, limit)
	}
	return h, nil
}

// evaluation is the evaluation of one prompt: the shell's environment before it, and after.
type evaluation struct {
	hookArgs
	err    io.Writer
	cwd    string // empty if it cannot be told
	shell  shellhook.Shell
	before environ.Env
	after  environ.Env

	root, dir, line, reported string // the shell's bookkeeping from now on
	retry                     retry
	viewLine                  uint64 // the number of the line that the view is as new as; 0: it cannot be told

	user func() (project.UserConfig, error) // what the user wants; read when there is something to say
}

// Export prints what the shell has to evaluate, and returns the exit code. Args are those behind `localport export`.
func Export(args []string) int {
	stderr := output.NewWriter(os.Stderr)
	return output.PrintError(stderr, run(args, os.Stdout, stderr))
}

// run always prints the bookkeeping, also when something failed: a prompt that gets none would run export each
// time.
func run(args []string, stdout, stderr io.Writer) error {
	h, err := parseArgs(args)
	if err != nil {
		return err
	}
	shell, err := shellhook.Lookup(h.Shell)
	if err != nil {
		return output.Usage(err)
	}
	cwd, _ := os.Getwd() // one that was deleted lies in no project
	was := environ.Parse(os.Environ())
	e := &evaluation{hookArgs: h, err: stderr, cwd: cwd, shell: shell, before: was, after: environ.Undo(was), reported: h.Reported}
	e.user = sync.OnceValues(client.ReadUser)
	// The last tenth is for the message if the rest was too short.
	ctx, cancel := context.WithTimeout(context.Background(), h.Limit-h.Limit/10)
	defer cancel()
	// A hanging file system ignores deadlines; the prompt must return anyway.
	watchdog := time.AfterFunc(h.Limit+200*time.Millisecond, func() {
		if !h.isRetry {
			output.Info(stderr, "no result within %v in %s: the file system or the supervisor does not respond", h.Limit, cwd)
		}
		os.Exit(output.ExitFailed)
	})
	defer watchdog.Stop()

	err = e.evaluate(ctx)
	e.printChangedVariables()
	if _, werr := io.WriteString(stdout, e.shellCode()); werr != nil {
		return werr
	}
	return output.ReportOnOneLine(stderr, err)
}

func (e *evaluation) evaluate(ctx context.Context) error {
	root, _, err := project.Find(e.cwd)
	left := e.leaveProjects(ctx, root)
	if err != nil {
		if left == nil {
			e.reported = ""
		}
		return e.reportOnce(left) // no project here, or no directory: nothing else to say at a prompt
	}
	p, err := e.openProject(root)
	if err != nil {
		return e.reportOnce(errors.Join(left, err))
	}
	e.root, e.dir = root, p.Dir.Path
	e.line = p.Dir.PromptLine()
	err = e.enterProject(ctx, p)
	// What has changed since then was not seen by an attempt that ran out of time: the supervisor that it started may be ready
	// by now, and the next prompt is to look at once.
	if err == nil || ctx.Err() == nil {
		e.line = seenLine(p.Dir.PromptLine(), e.viewLine)
	}
	e.printNewEvents(p)
	return e.reportOnce(errors.Join(left, err))
}

// seenLine is the line that the shell compares with from now on, of the file as it stands and the number that the view is as
// new as. If the file has a higher number, the next prompt evaluates again.
func seenLine(line string, view uint64) string {
	number, rest, _ := strings.Cut(line, " ")
	if view == 0 || parseLineNumber(number) <= view {
		return line
	}
	return strconv.FormatUint(view, 10) + " " + rest
}

func (e *evaluation) openProject(root string) (*client.Project, error) {
	p, err := client.Open(filepath.Join(root, project.ConfigName), func(text string) { output.Warn(e.err, text) }, os.Getenv("LOCALPORT_LOG_LEVEL"), version.Own())
	if err == nil {
		p.AnswerTimeout = e.Limit
	}
	return p, err
}

// reportOnce returns an error that this shell has not printed yet, else output.ErrReported with the exit code.
func (e *evaluation) reportOnce(err error) error {
	if err == nil {
		return nil
	}
	sum := sha256.Sum256([]byte(e.root + err.Error()))
	told := hex.EncodeToString(sum[:6])
	if told == e.reported || e.isRetry && e.reported != "" {
		return output.WithExitCode(output.ErrReported, output.ExitCode(err))
	}
	e.reported = told
	return err
}

// leaveProjects leaves the project that the shell was in, if that is another one, and those that it could not leave before.
func (e *evaluation) leaveProjects(ctx context.Context, root string) error {
	roots := slices.Clone(e.Retry.Left)
	if e.Root != "" {
		roots = append(roots, e.Root)
	}
	e.retry.BySocket = slices.DeleteFunc(slices.Clone(e.Retry.BySocket), func(r string) bool { return slices.Contains(roots, r) })
	var errs []error
	for _, left := range roots {
		if left == root || slices.Contains(e.retry.Left, left) {
			continue
		}
		bySocket, err := e.leaveProject(ctx, left)
		if bySocket {
			e.retry.BySocket = append(e.retry.BySocket, left)
		}
		if err != nil {
			e.retry.Left = append(e.retry.Left, left)
			errs = append(errs, fmt.Errorf("leave %s: %w", left, err))
		}
	}
	err := errors.Join(errs...)
	if err != nil && e.canRetry {
		err = output.WithHint(err, "the next prompts retry")
	}
	return err
}

// leaveProject drops the shell's lease: in the state file, or where that cannot be written by socket. Where it was written the
// supervisor is told, but not waited for: it looks at the leases by itself before it ends, and a shell that leaves has no
// use for it.
func (e *evaluation) leaveProject(ctx context.Context, root string) (bySocket bool, err error) {
	p, err := e.openProject(root)
	if err != nil {
		return false, err
	}
	shell, _ := lockstate.FindProcess(e.PID)
	return p.Leave(ctx, lockstate.Lease{Kind: lockstate.ShellLease, Process: shell})
}

// enterProject joins the project, or finds out why not.
func (e *evaluation) enterProject(ctx context.Context, p *client.Project) error {
	entering := (e.Root != e.root || e.Retry.Enter) && !environ.ReadDiff(e.before).IsOf(p.Config)
	e.retry.Enter = entering // until it is done
	// Stamped before it is read: a change in between is seen at the next prompt.
	// Without a stamp, every prompt finds the file changed and evaluates: slower, but correct.
	changed, _ := p.Dir.Stamp(e.root)
	verdict, files, err := p.AskTrust()
	if err != nil {
		return err
	}
	shell, alive := lockstate.FindProcess(e.PID)
	if !alive {
		return fmt.Errorf("no process has the shell's pid %d", e.PID)
	}
	j, err := p.Join(ctx, client.JoinOptions{
		Lease:            lockstate.Lease{Kind: lockstate.ShellLease, Process: shell, Dir: e.cwd, Since: time.Now().UTC()},
		ReleasedBySocket: slices.Contains(e.Retry.BySocket, e.root),
		RestartStopped:   entering, Allowed: verdict == trust.Allowed,
		OnUpdate: func(tx *lockstate.Tx, alive bool) {
			if changed {
				tx.Bump()
			}
			if entering && !alive {
				tx.Stopped, tx.Started, tx.Only = nil, nil, nil
			}
		},
	})
	if errors.Is(err, client.ErrDown) {
		e.retry.Enter = false
		return nil
	}
	var denied *client.NotAllowedError
	if errors.As(err, &denied) && verdict == trust.Denied {
		return nil // the user knows
	}
	if err != nil {
		return err
	}
	e.retry.Enter = false
	e.retry.BySocket = slices.DeleteFunc(e.retry.BySocket, func(r string) bool { return r == e.root })
	return e.exportVariables(ctx, p, j, verdict, files, entering)
}

// exportVariables sets the project's variables and prints the summary and pending changes.
func (e *evaluation) exportVariables(ctx context.Context, p *client.Project, j *client.JoinedProject, verdict trust.Verdict, files *project.Files, entering bool) error {
	var pending error
	if verdict != trust.Allowed {
		pending = output.WithExitCode(output.WithHint(
			fmt.Errorf("the config in %s changed; still using the previous one", e.root),
			`review it, then run "localport allow"`,
		), output.ExitNotAllowed)
	} else if err := j.ReloadIfChanged(ctx, files); err != nil {
		pending = fmt.Errorf("the config in %s changed; still using the previous one: %w", e.root, err)
		if _, refused := errors.AsType[*client.RefusedError](err); refused { // by the supervisor, which has read it
			pending = output.WithExitCode(pending, output.ExitInvalid)
		}
	}
	e.viewLine = j.View.Line
	pairs, err := client.Variables(j.View, e.after)
	e.after = environ.Enter(e.before, p.Config, pairs)
	if e.Root != e.root || entering || j.Started {
		e.printSummary(j.View)
	}
	if err := errors.Join(pending, err); err != nil {
		return err
	}
	e.reported = ""
	return nil
}

// shellCode are the bookkeeping and the changes of the environment, in the shell's own words. The bookkeeping comes
// first: a variable that the user has made read-only must not keep the shell from recording that it has evaluated.
func (e *evaluation) shellCode() string {
	var b strings.Builder
	for _, v := range [][2]string{
		{shellhook.RootVariable, e.root}, {shellhook.DirVariable, e.dir}, {shellhook.LineVariable, e.line}, {shellhook.ReportedVariable, e.reported},
	} {
		b.WriteString(e.shell.Set(v[0], v[1]))
	}
	if e.canRetry {
		b.WriteString(e.shell.Set(shellhook.RetryVariable, e.retry.encode()))
	}
	for _, change := range environ.ListChanges(e.before, e.after) {
		if change.Value == nil {
			b.WriteString(e.shell.Unset(change.Name))
		} else {
			b.WriteString(e.shell.Export(change.Name, *change.Value))
		}
	}
	return b.String()
}
