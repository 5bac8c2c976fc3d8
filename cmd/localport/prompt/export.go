// Package prompt is what a shell's hook runs at a prompt that has something to find out: `localport export SHELL --pid
// PID --root ROOT --line LINE --told TOLD`.
package prompt

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/cmd/localport/fail"
	"github.com/localport-sh/localport/cmd/localport/place"
	"github.com/localport-sh/localport/forwarder/control"
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
	Limit time.Duration // how long a prompt may wait for us, whatever is stuck
}

func parse(args []string) (hook, error) {
	h := hook{Limit: place.Limit()}
	if len(args) > 0 {
		h.Shell, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet("export", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.IntVar(&h.PID, "pid", 0, "")
	flags.StringVar(&h.Root, "root", "", "")
	flags.StringVar(&h.Line, "line", "", "")
	flags.StringVar(&h.Told, "told", "", "")
	if err := flags.Parse(args); err != nil {
		return h, fail.Usage(err)
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

	user func() (project.User, error) // what the user wants; read when there is something to say
}

// Export prints what the shell has to evaluate, and returns the exit code. Args are those behind `localport export`.
func Export(args []string) int { return fail.Exit(os.Stderr, run(args, os.Stdout, os.Stderr)) }

// run always prints the bookkeeping, also when something failed: a prompt that is told nothing would ask again and
// again.
func run(args []string, stdout, stderr io.Writer) error {
	h, err := parse(args)
	if err != nil {
		return err
	}
	shell, err := shellhook.Lookup(h.Shell)
	if err != nil {
		return fail.Usage(err)
	}
	cwd, _ := os.Getwd() // one that was deleted lies in no project
	was := environ.Parse(os.Environ())
	l := &look{hook: h, err: stderr, cwd: cwd, shell: shell, was: was, next: environ.Undo(was), told: h.Told}
	l.user = sync.OnceValues(place.User)
	ctx, cancel := context.WithTimeout(context.Background(), h.Limit)
	defer cancel()
	// A file system that hangs ignores every deadline; the prompt must come back all the same.
	watchdog := time.AfterFunc(h.Limit+200*time.Millisecond, func() {
		fmt.Fprintf(stderr, "localport: gave up after %v in %s\n", h.Limit, cwd)
		os.Exit(fail.ExitFailed)
	})
	defer watchdog.Stop()

	err = l.look(ctx)
	l.changed()
	if _, werr := io.WriteString(stdout, l.statements()); werr != nil {
		return werr
	}
	return oneLine(stderr, err)
}

// oneLine shows an error in the one line that a prompt has for us, hint and all. What is wrong with a config takes a
// line for each mistake.
func oneLine(w io.Writer, err error) error {
	_, invalid := errors.AsType[*project.Invalid](err)
	if err == nil || invalid {
		return err
	}
	text := "localport: " + err.Error()
	if h := fail.Hint(err); h != "" {
		text += "; " + h
	}
	fmt.Fprintln(w, text)
	return fail.Coded(fail.ErrReported, fail.Code(err))
}

func (l *look) look(ctx context.Context) error {
	root, _, err := project.Find(l.cwd)
	if l.Root != "" && l.Root != root {
		l.leave(ctx, l.Root)
	}
	if err != nil {
		l.told = ""
		return nil // no project here, or no directory: nothing to say at a prompt
	}
	p, err := l.at(root)
	if err != nil {
		return err
	}
	l.root, l.dir = root, p.Dir.Path
	err = l.enter(ctx, p)
	l.line = p.Dir.PromptLine()
	l.happened(p)
	return l.once(err)
}

func (l *look) at(root string) (*place.Place, error) {
	return place.At(filepath.Join(root, project.ConfigName), l.err, os.Getenv("LOCALPORT_LOG_LEVEL"))
}

// once lets an error through that this shell was not told yet.
func (l *look) once(err error) error {
	if err == nil {
		return nil
	}
	sum := sha256.Sum256([]byte(l.root + err.Error()))
	told := hex.EncodeToString(sum[:6])
	if told == l.told {
		return nil
	}
	l.told = told
	return err
}

// leave drops the shell's lease. The supervisor is told, but not waited for: it looks at the leases by itself
// before it ends, and a shell that leaves has no use for it.
func (l *look) leave(ctx context.Context, root string) {
	p, err := l.at(root)
	if err != nil {
		return
	}
	shell, _ := lockstate.Find(l.PID)
	state, err := p.Dir.Update(ctx, func(tx *lockstate.Tx) error {
		tx.Release(lockstate.ShellLease, shell)
		return nil
	})
	if err != nil || state.Supervisor == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	_ = control.Client{Socket: state.Supervisor.Socket}.Leave(ctx, control.LeaveRequest{})
}

// enter joins the project, or finds out why not.
func (l *look) enter(ctx context.Context, p *place.Place) error {
	entering := l.Root != l.root && environ.Of(l.was).Config != p.Config
	// Stamped before it is read: a change in between is seen at the next prompt.
	// Without a stamp, every prompt finds the file changed and looks: slower, but right.
	changed, _ := p.Dir.Stamp(l.root)
	verdict, files, err := p.Ask()
	if err != nil {
		return err
	}
	shell, alive := lockstate.Find(l.PID)
	if !alive {
		return fmt.Errorf("there is no shell with pid %d", l.PID)
	}
	j, err := p.Join(ctx, place.Entry{
		Lease: lockstate.Lease{Kind: lockstate.ShellLease, Process: shell, Dir: l.cwd, Since: time.Now().UTC()},
		Heal:  entering, Allowed: verdict == trust.Allowed,
		Prepare: func(tx *lockstate.Tx, alive bool) {
			if changed {
				tx.Bump()
			}
			if entering && !alive {
				tx.Stopped, tx.Started, tx.Only = nil, nil, nil
			}
		},
	})
	if errors.Is(err, place.ErrDown) {
		return nil
	}
	var denied *fail.NotAllowedError
	if errors.As(err, &denied) && verdict == trust.Denied {
		return nil // the user knows
	}
	if err != nil {
		return err
	}
	return l.export(ctx, p, j, verdict, files)
}

// export sets the project's variables and says what there is to say.
func (l *look) export(ctx context.Context, p *place.Place, j *place.Joined, verdict trust.Verdict, files *project.Files) error {
	var pending error
	if verdict != trust.Allowed {
		pending = fail.Hinted(
			fmt.Errorf("%s changed; the forwards stay as they were", l.root),
			"read it, then run: localport allow",
		)
	} else if err := j.Current(ctx, files); err != nil {
		pending = fmt.Errorf("%s changed; the forwards stay as they were: %w", l.root, err)
	}
	pairs, err := place.Variables(j.View, l.next)
	l.next = environ.Enter(l.was, p.Config, pairs)
	if l.Root != l.root || j.Started {
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
		{shellhook.Root, l.root}, {shellhook.Dir, l.dir}, {shellhook.Line, l.line}, {shellhook.Told, l.told},
	} {
		b.WriteString(l.shell.Set(v[0], v[1]))
	}
	for _, change := range environ.Changes(l.was, l.next) {
		if change.Value == nil {
			b.WriteString(l.shell.Unset(change.Name))
		} else {
			b.WriteString(l.shell.Export(change.Name, *change.Value))
		}
	}
	return b.String()
}
