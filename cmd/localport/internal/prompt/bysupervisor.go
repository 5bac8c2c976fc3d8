package prompt

import (
	"context"
	"errors"
	"os"
	"strings"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/output"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/filelimit"
	"github.com/localport-sh/localport/forwarder/promptapi"
)

// Evaluator evaluates prompts in the process of a project's supervisor. It is safe for concurrent use.
type Evaluator struct {
	config     string
	log        func(text string) // of the supervisor
	executable string
	slots      chan struct{} // one is held by each evaluation
}

// maxEvaluations is how many prompts are evaluated at the same time: on a file system that hangs, each keeps a thread.
const maxEvaluations = 64

// filesPerEvaluation is how many file descriptors an evaluation has open at most: the state and its lock, files of the project and both ends
// of a connection to the supervisor.
const filesPerEvaluation = 12

// NewEvaluator returns an evaluator for the project with this config, and for clients that run the same file as this process does. It is called
// when the process starts: later the file may have been replaced. Bugs are logged.
func NewEvaluator(config string, log func(text string)) *Evaluator {
	return &Evaluator{config: config, log: log, executable: promptapi.ExecutableID(), slots: make(chan struct{}, maxEvaluations)}
}

// errOtherProject says that a prompt is not one in, or at leaving, the supervisor's own project. A client in a sandbox, which may use the
// socket but not read the files of other projects, must not get their variables.
var errOtherProject = errors.New("the shell is in another project than the supervisor's")

// Accept returns how long the evaluation of a client's prompt may take, and a function that evaluates it. It is nil if the client has to do that
// itself: its program is another one, or its directory or its environment means something else to this process. The client must be in
// the same namespaces. The function returns false if the client has to report an error, which it finds again.
func (v *Evaluator) Accept(r promptapi.Request) (limit time.Duration, evaluate func(context.Context) (promptapi.Response, bool)) {
	if r.Executable == "" || r.Executable != v.executable || r.DirID == "" || promptapi.DirID(r.Dir) != r.DirID || !hasSameDirectories(r.Environment) {
		return 0, nil
	}
	if !filelimit.HasFree(filesPerEvaluation * (len(v.slots) + 1)) {
		return 0, nil // the free descriptors are for the clients of services, and for what only this process can do
	}
	var stdout, stderr strings.Builder
	messages := output.NewWriter(&stderr)
	e, err := newEvaluation(r.Args, r.Dir, r.Environment, messages)
	if err != nil {
		return 0, nil
	}
	select {
	case v.slots <- struct{}{}:
	default:
		return 0, nil
	}
	e.supervisorConfig = v.config
	limit = e.args.limit + watchdogDelay
	return limit + watchdogDelay, func(ctx context.Context) (promptapi.Response, bool) {
		ctx, cancel := context.WithTimeout(ctx, e.args.limit-e.args.limit/10)
		defer cancel()
		doneCh := make(chan bool, 1)
		go func() {
			defer func() { <-v.slots }()
			forwarder.CatchPanic(func() {
				err := e.evaluate(ctx)
				if err == nil {
					e.printChangedVariables()
					stdout.WriteString(e.shellCode())
					_ = messages.Flush()
				}
				doneCh <- err == nil
			}, func(_ *forwarder.Failure, stack []byte) { // the client evaluates the prompt, and reports it
				v.log("evaluate a prompt: " + string(stack))
				doneCh <- false
			})
		}()
		watchdog := time.NewTimer(limit)
		defer watchdog.Stop()
		select {
		case ok := <-doneCh:
			return promptapi.Response{Stdout: []byte(stdout.String()), Stderr: []byte(stderr.String())}, ok
		case <-watchdog.C: // a call to a file system hangs, unless it has just returned
			select {
			case ok := <-doneCh:
				return promptapi.Response{Stdout: []byte(stdout.String()), Stderr: []byte(stderr.String())}, ok
			default:
			}
			var text strings.Builder
			if !e.args.isRetry && !e.args.hold {
				e.printNoResult(output.NewWriter(&text))
			}
			return promptapi.Response{ExitStatus: output.ExitFailed, Stderr: []byte(text.String())}, true
		}
	}
}

// hasSameDirectories reports whether the variables that name the directories of state, trust and configs are the same in an environment as in
// this process.
func hasSameDirectories(env []string) bool {
	names := []string{"HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"}
	values := make(map[string]string, len(names))
	for _, entry := range env {
		name, value, _ := strings.Cut(entry, "=")
		values[name] = value
	}
	for _, name := range names {
		if values[name] != os.Getenv(name) {
			return false
		}
	}
	return true
}
