// Package doctor checks what LocalPort depends on: the shell's hook, programs, hosts and clusters, ports, and what earlier processes have left. One
// file holds the checks of one subject.
package doctor

import (
	"cmp"
	"context"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/environ"
	"github.com/localport-sh/localport/project/trust"
)

// Status is the result of a check.
type Status string

// The results, from the best to the worst. Skip: there was nothing to check.
const (
	OK   Status = "ok"
	Skip Status = "skip"
	Warn Status = "warn"
	Fail Status = "fail"
)

// Finding is what a check has found about one thing.
type Finding struct {
	ID     string `json:"id"` // of the check
	Status Status `json:"status"`
	Text   string `json:"text"` // one line
	// Fix is what removes a warning or a failure: a command for a shell or, if no command can do it, what to do.
	Fix string `json:"fix,omitempty"`
}

// Subject is what is checked: this machine and user, and a project if there is one.
type Subject struct {
	Env     environ.Env // of the process, without what LocalPort has exported
	Exe     string      // this program, by the path with which it was called
	Version string

	// Project and what follows are nil and zero outside of a project.
	Project *client.Project
	Verdict trust.Verdict
	// Config is the parsed config; nil if it is invalid, which ConfigErr says.
	Config    *project.Project
	ConfigErr error
	Running   *api.Status // of the supervisor; nil if none runs, or if it does not answer
	StatusErr error       // why it does not

	socketDir string // for the sockets of the checks; Run makes it, and removes it also when it leaves a check behind
}

// isReviewed reports whether what the config names may be run and connected to.
func (s *Subject) isReviewed() bool {
	return s.Project != nil && s.Config != nil && s.Verdict == trust.Allowed
}

// check is one check. Its findings need no ID. It may go on after ctx has ended: nobody waits for it.
type check struct {
	id           string
	needsProject bool
	run          func(ctx context.Context, s *Subject) []Finding
}

// checks are all checks, in the order in which they are shown.
var checks = []check{
	{"hook", false, checkHook},
	{"path", false, checkPath},
	{"config", true, checkConfig},
	{"trust", true, checkTrust},
	{"supervisor", true, checkSupervisor},
	{"ports", true, checkPorts},
	{"kubectl", false, checkKubectl},
	{"ssh", false, checkSSH},
	{"destinations", true, checkDestinations},
	{"leases", false, checkLeases},
	{"leftovers", false, checkLeftovers},
	{"files", false, checkFiles},
	{"clock", false, checkClock},
	{"network", false, checkNetwork},
	{"runtime-dir", false, checkRuntimeDir},
	{"state-dir", false, checkStateDir},
}

// IDs returns the ids of all checks.
func IDs() []string {
	ids := make([]string, len(checks))
	for i, c := range checks {
		ids[i] = c.id
	}
	return ids
}

// checkTimeout is how long a check may take.
const checkTimeout = 3 * time.Second

// Run runs the checks, all at the same time, and returns their findings in the order of the checks. One that takes longer than checkTimeout is
// reported, and left behind.
func Run(ctx context.Context, s *Subject) []Finding {
	dir, err := os.MkdirTemp("/tmp", "lpd") // a short path
	if err != nil {
		return append(runChecks(ctx, s, checks, checkTimeout), Finding{ID: "runtime-dir", Status: Warn, Text: err.Error(), Fix: "make /tmp writable"})
	}
	defer os.RemoveAll(dir)
	s.socketDir = dir
	return runChecks(ctx, s, checks, checkTimeout)
}

func runChecks(ctx context.Context, s *Subject, checks []check, timeout time.Duration) []Finding {
	findings := make([][]Finding, len(checks))
	var wg sync.WaitGroup
	for i, c := range checks {
		if c.needsProject && s.Project == nil {
			continue
		}
		wg.Go(func() { findings[i] = c.runWithin(ctx, s, timeout) })
	}
	wg.Wait()
	return slices.Concat(findings...)
}

// runWithin returns the findings of the check, or the one that it took too long.
func (c check) runWithin(ctx context.Context, s *Subject, timeout time.Duration) []Finding {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	resultCh := make(chan []Finding, 1)
	go func() { resultCh <- c.run(ctx, s) }()
	var found []Finding
	select {
	case found = <-resultCh:
	case <-ctx.Done():
		// A check that honours ctx returns soon after it ends.
		grace := time.NewTimer(timeout / 10)
		defer grace.Stop()
		select {
		case found = <-resultCh:
		case <-grace.C:
			found = []Finding{{Status: Warn, Text: "took longer than " + timeout.String(), Fix: `run "localport doctor" again; if this repeats, see what hangs: a network file system, a name server, a helper`}}
		}
	}
	for i := range found {
		found[i].ID = cmp.Or(found[i].ID, c.id) // a check may find something about the subject of another one
	}
	return found
}

// Worst is the worst result.
func Worst(findings []Finding) Status {
	order := []Status{OK, Skip, Warn, Fail}
	worst := OK
	for _, f := range findings {
		if slices.Index(order, f.Status) > slices.Index(order, worst) {
			worst = f.Status
		}
	}
	return worst
}

func ok(text string) []Finding   { return []Finding{{Status: OK, Text: text}} }
func skip(text string) []Finding { return []Finding{{Status: Skip, Text: text}} }
func warn(text, fix string) []Finding {
	return []Finding{{Status: Warn, Text: text, Fix: fix}}
}

func fail(text, fix string) []Finding {
	return []Finding{{Status: Fail, Text: text, Fix: fix}}
}

// orOK returns the findings or, if there are none, that all is well.
func orOK(findings []Finding, text string) []Finding {
	if len(findings) == 0 {
		return ok(text)
	}
	return findings
}

// plural returns "1 file" or "3 files".
func plural(n int, singular, pluralForm string) string {
	return cmp.Or(map[int]string{1: "1 " + singular}[n], formatCount(n)+" "+pluralForm)
}
