package doctor

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/supervisor"
	"github.com/localport-sh/localport/project"
)

// destination is a host or a cluster that services of the project lead to.
type destination struct {
	name     string // as the login calls it
	services []string
	verify   func(ctx context.Context, run forwarder.Run) forwarder.Verification
}

// destinationsOf returns the destinations of the project's enabled services that have one to verify.
func destinationsOf(s *Subject) []*destination {
	byKey := make(map[string]*destination)
	var all []*destination
	for _, svc := range s.Config.Services {
		verify, key, name := supervisor.Verification(svc, s.Project.Root, s.Env.List())
		if verify == nil || !svc.Enabled {
			continue
		}
		// Rights are given by namespace.
		key += "\x00" + svc.Connection.Settings.Text("namespace")
		d := byKey[key]
		if d == nil {
			d = &destination{name: name, verify: verify}
			byKey[key] = d
			all = append(all, d)
		}
		d.services = append(d.services, svc.Name)
	}
	return all
}

// maxConcurrentLogins is how many hosts are logged in to at the same time.
const maxConcurrentLogins = 8

// checkDestinations logs in to the hosts and clusters of the project, without asking anybody, and reports what keeps forwards from working there.
func checkDestinations(ctx context.Context, s *Subject) []Finding {
	switch {
	case s.Config == nil:
		return skip("the config has mistakes")
	case !s.isReviewed():
		return skip("the project is not allowed yet")
	case s.socketDir == "":
		return skip("there is no directory for sockets")
	}
	destinations := destinationsOf(s)
	if len(destinations) == 0 {
		return skip("no service uses ssh or a cluster")
	}
	findings := make([][]Finding, len(destinations))
	limit := make(chan struct{}, maxConcurrentLogins)
	var wg sync.WaitGroup
	for i, d := range destinations {
		wg.Go(func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			sockets := filepath.Join(s.socketDir, fmt.Sprint(i))
			if err := os.Mkdir(sockets, 0o700); err == nil {
				findings[i] = d.check(ctx, s, sockets)
			}
		})
	}
	wg.Wait()
	return slices.Concat(findings...)
}

func (d *destination) check(ctx context.Context, s *Subject, sockets string) []Finding {
	if reason := s.attention(d.services); reason != "" {
		// The supervisor has tried it, and another attempt might open a browser.
		return fail(fmt.Sprintf("%s: %s", d.name, reason), "localport login "+d.services[0])
	}
	result := d.verify(ctx, forwarder.Run{
		ID: "doctor", Dir: s.Project.Root, Env: s.Env.List(), Log: io.Discard, SocketDir: sockets, RequestedAt: time.Now(),
	})
	mask := func(text string) string {
		return project.Mask(strings.Join(strings.Fields(text), " "), s.Config.Secrets)
	}
	what := mask(fmt.Sprintf("%s (%s)", result.Summary, strings.Join(d.services, ", ")))
	var findings []Finding
	switch f := result.Failure; {
	case f != nil && ctx.Err() != nil:
		return warn(fmt.Sprintf("%s: took longer than %v", what, checkTimeout), "localport why "+d.services[0])
	case f != nil:
		findings = fail(what+": "+mask(f.Reason), cmp.Or(mask(f.Hint), "localport why "+d.services[0]))
	default:
		findings = ok(what + ": reached, and forwarding is allowed")
	}
	if result.Skew != 0 {
		findings = append(findings, skewFinding(what, result.Skew))
	}
	return findings
}

// attention returns the error of the first of the services that needs attention; empty if none does.
func (s *Subject) attention(services []string) string {
	if s.Running == nil {
		return ""
	}
	for _, svc := range s.Running.Services {
		for _, name := range services {
			if svc.Name == name && svc.State == forwarder.NeedsAttention {
				return svc.LastError
			}
		}
	}
	return ""
}
