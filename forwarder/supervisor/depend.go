package supervisor

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

// prerequisites returns true when everything that the service depends on is ready, false when the forward is to end.
// Meanwhile the state says what is waited for.
func (f *forward) prerequisites(ctx context.Context) bool {
	waited, poked := false, false
	for {
		change := f.changes.wait()
		name, state := f.board.missing(f.svc.DependsOn)
		if name == "" {
			if waited {
				f.relay.Hold()
				f.trouble(f.working(), "", "")
			}
			return ctx.Err() == nil
		}
		waited = true
		f.lack(name, state)
		switch {
		case state == forwarder.NeedsAttention || state == forwarder.Stopped:
			f.relay.Reject()
		case state == forwarder.Failed && poked: // it was tried for our clients, in vain
			f.relay.DropWaiting()
			poked = false
		default:
			f.relay.Hold()
		}
		select {
		case <-ctx.Done():
			return false
		case <-change:
		case o := <-f.orders:
			_ = f.obey(o)
		case <-f.waiting:
			f.board.poke(name)
			poked = true
		}
	}
}

// lack shows what is waited for: for as long as that is on its way, the service is too.
func (f *forward) lack(name string, state forwarder.State) {
	mine, reason := f.working(), fmt.Sprintf("waits for %q, which is %s", name, words(state))
	if state.Settled() {
		mine, reason = forwarder.Failed, fmt.Sprintf("depends on %q, which is %s", name, words(state))
	}
	hint := ""
	if mine == forwarder.Failed {
		hint = "localport status tells why; localport restart " + name
	}
	f.mu.Lock()
	same := f.status.state == mine && f.status.lastError == reason
	f.mu.Unlock()
	if !same {
		f.trouble(mine, reason, hint)
	}
}

// words is a state in a sentence.
func words(state forwarder.State) string {
	switch state {
	case forwarder.NeedsAttention:
		return "in need of attention"
	case "":
		return "not there"
	}
	return string(state)
}

// dependencyOrder is the services so that each comes after what it depends on. The parser has seen to it that there is no circle.
func dependencyOrder(services []project.Service) []string {
	byName := make(map[string]project.Service, len(services))
	for _, svc := range services {
		byName[svc.Name] = svc
	}
	var order []string
	var visit func(string)
	visit = func(name string) {
		if slices.Contains(order, name) {
			return
		}
		for _, dependency := range byName[name].DependsOn {
			visit(dependency)
		}
		order = append(order, name)
	}
	for _, svc := range services {
		visit(svc.Name)
	}
	return order
}

// withDependencies adds to names what they depend on; everything comes after what it depends on.
func withDependencies(services []project.Service, names []string) []string {
	needed := slices.Clone(names)
	for i := 0; i < len(needed); i++ {
		for _, svc := range services {
			if svc.Name == needed[i] {
				needed = append(needed, without(svc.DependsOn, needed)...)
			}
		}
	}
	return sorted(services, needed)
}

// withDependents adds to names what depends on them; everything comes after what it depends on.
func withDependents(services []project.Service, names []string) []string {
	affected := slices.Clone(names)
	for i := 0; i < len(affected); i++ {
		for _, svc := range services {
			if slices.Contains(svc.DependsOn, affected[i]) && !slices.Contains(affected, svc.Name) {
				affected = append(affected, svc.Name)
			}
		}
	}
	return sorted(services, affected)
}

func sorted(services []project.Service, names []string) []string {
	return slices.DeleteFunc(dependencyOrder(services), func(name string) bool { return !slices.Contains(names, name) })
}

// stopAll stops services, those first that depend on others.
func (s *Supervisor) stopAll(names []string) {
	levels := make(map[int][]string)
	deepest := 0
	depth := make(map[string]int)
	for _, name := range dependencyOrder(s.project.Services) {
		svc, _ := s.project.Service(name)
		for _, dependency := range svc.DependsOn {
			depth[name] = max(depth[name], depth[dependency]+1)
		}
		deepest = max(deepest, depth[name])
		levels[depth[name]] = append(levels[depth[name]], name)
	}
	for level := deepest; level >= 0; level-- {
		var stopping sync.WaitGroup
		for _, name := range levels[level] {
			if s.forwards[name] != nil && slices.Contains(names, name) {
				stopping.Go(s.forwards[name].stop)
			}
		}
		stopping.Wait()
	}
}
