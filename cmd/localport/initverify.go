package main

import (
	"context"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/kubeservices"
	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl"
	"github.com/localport-sh/localport/probe/builtin"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

// Limits of the health checks that init tries: of all together, of one service, and how many services are asked at once.
const (
	verifyTimeout        = 15 * time.Second
	verifyServiceTimeout = 5 * time.Second
	maxVerified          = 8
)

// verifyChecks asks each service whether it passes one of the health checks that are likely for it, through a forward as it will have. One
// that it passes is written; otherwise the likeliest is suggested as a comment, with what the server said: a check that fails for lack of
// a password would have every command wait for the service.
func verifyChecks(ctx context.Context, candidates []kubeservices.Candidate, target string, env []string) {
	ctx, cancel := context.WithTimeout(ctx, verifyTimeout)
	defer cancel()
	driver := kubectl.New(ctx, forwarder.Host{Dir: target})
	defer func() { _ = driver.Close() }()
	slots := make(chan struct{}, maxVerified)
	var group sync.WaitGroup
	for i := range candidates {
		group.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			verifyCheck(ctx, driver, &candidates[i], target, env)
		})
	}
	group.Wait()
}

func verifyCheck(ctx context.Context, driver forwarder.Driver, candidate *kubeservices.Candidate, target string, env []string) {
	checks := convert.LikelyChecks(candidate.Protocol)
	if len(checks) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, verifyServiceTimeout)
	defer cancel()
	var tunnel forwarder.Tunnel
	reason := ""
	for _, check := range checks {
		parsed, err := parseNewConfig(target, checkedConfig(candidate.Service, check))
		if err != nil {
			break
		}
		svc := parsed.Services[0]
		if tunnel == nil {
			tunnel, err = driver.Open(ctx, svc, forwarder.Run{ID: "init", Dir: parsed.Root, Env: env, Log: io.Discard})
			if err != nil {
				reason = err.Error()
				break
			}
			defer func() { _ = tunnel.Close() }()
		}
		err = runCheck(ctx, tunnel, svc)
		if err == nil {
			candidate.Set("health_check", check)
			return
		}
		reason = err.Error()
	}
	convert.SuggestCheck(&candidate.Service, candidate.Protocol, reason)
}

// checkedConfig is a config with a single service, which has this health check.
func checkedConfig(svc draft.Service, check draft.Table) string {
	svc.Entries = append(slices.Clip(svc.Entries), draft.Entry{Key: "health_check", Value: check})
	return draft.Config{Services: []draft.Service{svc}}.Text()
}

// runCheck runs a service's health check once.
func runCheck(ctx context.Context, tunnel forwarder.Tunnel, svc project.Service) error {
	check, err := builtin.NewCheck(svc.HealthCheck)
	if err != nil {
		return err
	}
	return check(ctx, tunnel)
}
