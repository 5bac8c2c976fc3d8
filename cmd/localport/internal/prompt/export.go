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

// hook is what the shell's hook says of itself.
type hook struct {
	Shell string
	PID   int           // the shell's: what the lease is for
	Root  string        // the project that the shell is in; empty for none
	Line  string        // the project's line as the shell saw it last
	Told  string        // what the shell was told last
	Retry retry         // what could not be done at an earlier prompt
	Limit time.Duration // how long a prompt may wait for us, whatever is stuck

	repeats bool // the hook of this shell repeats a look that failed
	again   bool // this is such a look: the user knows of the failure
}

// retry is what is still to be done that could not be done at a prompt. The hook keeps it, as JSON.
type retry struct {
	Left  []string `json:"left,omitempty"`  // the roots of projects whose lease is still to be released
	Enter bool     `json:"enter,omitempty"` // the project that the shell is in was not entered yet
	// BySocket are the roots of projects whose lease was released by socket. It is no work, but to be known on entering again.
	BySocket []string `json:"by_socket,omitempty"`
}

// text is empty where there is nothing to do.
func (r retry) text() string {
	if len(r.Left)+len(r.BySocket) == 0 && !r.Enter {
		return ""
	}
	data, _ := json.Marshal(r)
	return string(data)
}

func parse(args []string) (hook, error) {
	h := hook{Limit: client.Limit()}
	if len(args) > 0 {
		h.Shell, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("export", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&h.PID, "pid", 0, "")
	flags.StringVar(&h.Root, "root", "", "")
	flags.StringVar(&h.Line, "line", "", "")
	flags.StringVar(&h.Told, "told", "", "")
	var limit time.Duration
	flags.Func("retry", "", func(text string) error {
		h.repeats = true
		if text != "" {
			_ = json.Unmarshal([]byte(text), &h.Retry) // a hook hands back what it was given
		}
		return nil
	})
	flags.DurationVar(&limit, "limit", 0, "")
	if err := flags.Parse(args); err != nil {
		return h, output.Usage(err)
	}
	if h.again = limit > 0; h.again {
		h.Limit = min(h.Limit, limit)
	}
	return h, nil
}

// look is one look of a shell at where it is: what it was before, and what it is to become.
type look struct {
	hook
	err   io.Writer
	cwd   string // empty if it cannot be told
	shell shellhook.Shell
	was   environ.Env
	next  environ.Env

	root, dir, line, told string // the shell's bookkeeping from now on
	retry                 retry
	view                  uint64 // the number of the line that the view is as new as; 0: it cannot be told

	user func() (project.UserConfig, error) // what the user wants; read when there is something to say
}

// Export prints what the shell has to evaluate, and returns the exit code. Args are those behind `localport export`.
func Export(args []string) int {
	stderr := output.NewWriter(os.Stderr)
	return output.Exit(stderr, run(args, os.Stdout, stderr))
}

// run always prints the bookkeeping, also when something failed: a prompt that is told nothing would ask again and
// again.
func run(args []string, stdout, stderr io.Writer) error {
	h, err := parse(args)
	if err != nil {
		return err
	}
	shell, err := shellhook.Lookup(h.Shell)
	if err != nil {
		return output.Usage(err)
	}
	cwd, _ := os.Getwd() // one that was deleted lies in no project
	was := environ.Parse(os.Environ())
	l := &look{hook: h, err: stderr, cwd: cwd, shell: shell, was: was, next: environ.Undo(was), told: h.Told}
	l.user = sync.OnceValues(client.User)
	// The last tenth is for what is said when the rest was too short.
	ctx, cancel := context.WithTimeout(context.Background(), h.Limit-h.Limit/10)
	defer cancel()
	// A file system that hangs ignores every deadline; the prompt must come back all the same.
	watchdog := time.AfterFunc(h.Limit+200*time.Millisecond, func() {
		if !h.again {
			output.Info(stderr, "no result within %v in %s: the file system or the supervisor does not respond", h.Limit, cwd)
		}
		os.Exit(output.ExitFailed)
	})
	defer watchdog.Stop()

	err = l.look(ctx)
	l.changed()
	if _, werr := io.WriteString(stdout, l.statements()); werr != nil {
		return werr
	}
	return output.ReportOnOneLine(stderr, err)
}

func (l *look) look(ctx context.Context) error {
	root, _, err := project.Find(l.cwd)
	left := l.leaveAll(ctx, root)
	if err != nil {
		if left == nil {
			l.told = ""
		}
		return l.once(left) // no project here, or no directory: nothing else to say at a prompt
	}
	p, err := l.at(root)
	if err != nil {
		return l.once(errors.Join(left, err))
	}
	l.root, l.dir = root, p.Dir.Path
	l.line = p.Dir.PromptLine()
	err = l.enter(ctx, p)
	// What has changed since then was not seen by an attempt that ran out of time: the supervisor that it started may be ready
	// by now, and the next prompt is to look at once.
	if err == nil || ctx.Err() == nil {
		l.line = lineSeen(p.Dir.PromptLine(), l.view)
	}
	l.happened(p)
	return l.once(errors.Join(left, err))
}

// lineSeen is the line that the shell compares with from now on, of the file as it stands and the number that the view is as
// new as. What the file says beyond that number was not seen yet: the next prompt looks again.
func lineSeen(line string, view uint64) string {
	number, rest, _ := strings.Cut(line, " ")
	if view == 0 || lineNumber(number) <= view {
		return line
	}
	return strconv.FormatUint(view, 10) + " " + rest
}

func (l *look) at(root string) (*client.Place, error) {
	p, err := client.At(filepath.Join(root, project.ConfigName), func(text string) { output.Warn(l.err, text) }, os.Getenv("LOCALPORT_LOG_LEVEL"), version.Own())
	if err == nil {
		p.Limit = l.Limit
	}
	return p, err
}

// once lets an error through that this shell was not told yet.
func (l *look) once(err error) error {
	if err == nil {
		return nil
	}
	sum := sha256.Sum256([]byte(l.root + err.Error()))
	told := hex.EncodeToString(sum[:6])
	if told == l.told || l.again && l.told != "" {
		return output.Coded(output.ErrReported, output.Code(err))
	}
	l.told = told
	return err
}

// leaveAll leaves the project that the shell was in, if that is another one, and those that it could not leave before.
func (l *look) leaveAll(ctx context.Context, root string) error {
	roots := slices.Clone(l.Retry.Left)
	if l.Root != "" {
		roots = append(roots, l.Root)
	}
	l.retry.BySocket = slices.DeleteFunc(slices.Clone(l.Retry.BySocket), func(r string) bool { return slices.Contains(roots, r) })
	var errs []error
	for _, left := range roots {
		if left == root || slices.Contains(l.retry.Left, left) {
			continue
		}
		bySocket, err := l.leave(ctx, left)
		if bySocket {
			l.retry.BySocket = append(l.retry.BySocket, left)
		}
		if err != nil {
			l.retry.Left = append(l.retry.Left, left)
			errs = append(errs, fmt.Errorf("leave %s: %w", left, err))
		}
	}
	err := errors.Join(errs...)
	if err != nil && l.repeats {
		err = output.Hinted(err, "the next prompts retry")
	}
	return err
}

// leave drops the shell's lease: in the state file, or where that cannot be written by socket. Where it was written the
// supervisor is told, but not waited for: it looks at the leases by itself before it ends, and a shell that leaves has no
// use for it.
func (l *look) leave(ctx context.Context, root string) (bySocket bool, err error) {
	p, err := l.at(root)
	if err != nil {
		return false, err
	}
	shell, _ := lockstate.FindProcess(l.PID)
	return p.Leave(ctx, lockstate.Lease{Kind: lockstate.ShellLease, Process: shell})
}

// enter joins the project, or finds out why not.
func (l *look) enter(ctx context.Context, p *client.Place) error {
	entering := (l.Root != l.root || l.Retry.Enter) && environ.ReadDiff(l.was).Config != p.Config
	l.retry.Enter = entering // until it is done
	// Stamped before it is read: a change in between is seen at the next prompt.
	// Without a stamp, every prompt finds the file changed and looks: slower, but right.
	changed, _ := p.Dir.Stamp(l.root)
	verdict, files, err := p.Ask()
	if err != nil {
		return err
	}
	shell, alive := lockstate.FindProcess(l.PID)
	if !alive {
		return fmt.Errorf("no process has the shell's pid %d", l.PID)
	}
	j, err := p.Join(ctx, client.Entry{
		Lease:            lockstate.Lease{Kind: lockstate.ShellLease, Process: shell, Dir: l.cwd, Since: time.Now().UTC()},
		ReleasedBySocket: slices.Contains(l.Retry.BySocket, l.root),
		Heal:             entering, Allowed: verdict == trust.Allowed,
		Prepare: func(tx *lockstate.Tx, alive bool) {
			if changed {
				tx.Bump()
			}
			if entering && !alive {
				tx.Stopped, tx.Started, tx.Only = nil, nil, nil
			}
		},
	})
	if errors.Is(err, client.ErrDown) {
		l.retry.Enter = false
		return nil
	}
	var denied *client.NotAllowedError
	if errors.As(err, &denied) && verdict == trust.Denied {
		return nil // the user knows
	}
	if err != nil {
		return err
	}
	l.retry.Enter = false
	l.retry.BySocket = slices.DeleteFunc(l.retry.BySocket, func(r string) bool { return r == l.root })
	return l.export(ctx, p, j, verdict, files, entering)
}

// export sets the project's variables and says what there is to say.
func (l *look) export(ctx context.Context, p *client.Place, j *client.Joined, verdict trust.Verdict, files *project.Files, entering bool) error {
	var pending error
	if verdict != trust.Allowed {
		pending = output.Coded(output.Hinted(
			fmt.Errorf("the config in %s changed; still using the previous one", l.root),
			`review it, then run "localport allow"`,
		), output.ExitNotAllowed)
	} else if err := j.Current(ctx, files); err != nil {
		pending = fmt.Errorf("the config in %s changed; still using the previous one: %w", l.root, err)
		if _, refused := errors.AsType[*client.RefusedError](err); refused { // by the supervisor, which has read it
			pending = output.Coded(pending, output.ExitInvalid)
		}
	}
	l.view = j.View.Line
	pairs, err := client.Variables(j.View, l.next)
	l.next = environ.Enter(l.was, p.Config, pairs)
	if l.Root != l.root || entering || j.Started {
		l.entered(j.View)
	}
	if err := errors.Join(pending, err); err != nil {
		return err
	}
	l.told = ""
	return nil
}

// statements are the bookkeeping and the changes of the environment, in the shell's own words. The bookkeeping comes
// first: a variable that the user has made read-only must not keep the shell from knowing that it has looked.
func (l *look) statements() string {
	var b strings.Builder
	for _, v := range [][2]string{
		{shellhook.RootVariable, l.root}, {shellhook.DirVariable, l.dir}, {shellhook.LineVariable, l.line}, {shellhook.ToldVariable, l.told},
	} {
		b.WriteString(l.shell.Set(v[0], v[1]))
	}
	if l.repeats {
		b.WriteString(l.shell.Set(shellhook.RetryVariable, l.retry.text()))
	}
	for _, change := range environ.ListChanges(l.was, l.next) {
		if change.Value == nil {
			b.WriteString(l.shell.Unset(change.Name))
		} else {
			b.WriteString(l.shell.Export(change.Name, *change.Value))
		}
	}
	return b.String()
}
