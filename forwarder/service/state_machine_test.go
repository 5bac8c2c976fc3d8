package service

import (
	"fmt"
	"strings"
	"testing"
)

// stateTable has every transition, written by hand: PHASE: EVENT -> NEXT PHASE [ACTIONS]. Any other cannot occur.
const stateTable = `
stopped: start           -> unbound [bind]
stopped: stop            -> stopped [finish]
stopped: redefine        -> stopped
stopped: network changed -> stopped
stopped: panicked        -> stopped

unbound: bind due        -> unbound [bind]
unbound: restart         -> unbound [bind]
unbound: redefine        -> unbound [bind]
unbound: bind failed     -> unbound [schedule bind]
unbound: shared          -> shared [show shared]
unbound: bound           -> blocked [hold, check dependencies]
unbound: bound on demand -> idle [hold, serve waiting]
unbound: network changed -> unbound
unbound: stop            -> stopping [release port, close all]
unbound: panicked        -> closing [detach, close tunnel]

shared: share ended     -> unbound [bind]
shared: restart         -> unbound [bind]
shared: redefine        -> shared
shared: network changed -> shared
shared: stop            -> stopping [release port, close all]
shared: panicked        -> unbound [return shared, schedule bind]

blocked: blocked         -> blocked [show blocked]
blocked: unblocked       -> connecting [open]
blocked: restart         -> blocked [check dependencies]
blocked: redefine        -> blocked [check dependencies]
blocked: client waiting  -> blocked [start dependency]
blocked: client throttled    -> blocked [start dependency]
blocked: network changed -> blocked
blocked: stop            -> stopping [release port, close all]
blocked: panicked        -> closing [detach, close tunnel]

idle: restart            -> blocked [hold, check dependencies]
idle: redefine           -> idle
idle: network changed    -> idle
idle: client waiting     -> blocked [check dependencies]
idle: client throttled       -> idle [schedule throttled]
idle: attempt due        -> blocked [check dependencies]
idle: stop               -> stopping [release port, close all]
idle: panicked           -> closing [detach, close tunnel]

connecting: opened          -> connected [attach]
connecting: tunnel lost     -> closing [close tunnel]
connecting: restart         -> connecting [cancel open]
connecting: redefine        -> connecting
connecting: network changed -> connecting [cancel open]
connecting: client waiting  -> connecting
connecting: client throttled    -> connecting
connecting: retry now       -> blocked [check dependencies]
connecting: retry later     -> backoff [schedule attempt, serve waiting, await change]
connecting: idle          -> idle [serve waiting]
connecting: failed       -> failed [drop waiting, await change]
connecting: needs attention     -> needs attention [reject, await change]
connecting: stop            -> stopping [release port, close all]
connecting: panicked        -> closing [detach, close tunnel]

connected: tunnel lost     -> closing [detach, close tunnel]
connected: restart         -> closing [detach, close tunnel]
connected: redefine        -> connected [apply definition]
connected: network changed -> connected [recheck]
connected: client waiting  -> connected
connected: client throttled    -> connected
connected: stop            -> stopping [release port, close all]
connected: panicked        -> closing [detach, close tunnel]

closing: restart         -> closing
closing: redefine        -> closing
closing: client waiting  -> closing
closing: client throttled    -> closing
closing: network changed -> closing
closing: bind failed     -> closing
closing: shared          -> shared [show shared]
closing: bound           -> closing [hold]
closing: bound on demand -> closing [hold]
closing: port lost       -> unbound [schedule bind]
closing: retry now       -> blocked [check dependencies]
closing: retry later     -> backoff [schedule attempt, serve waiting, await change]
closing: idle          -> idle [serve waiting]
closing: failed       -> failed [drop waiting, await change]
closing: needs attention     -> needs attention [reject, await change]
closing: stop            -> stopping [release port, close all]
closing: panicked        -> closing [detach, close tunnel]

backoff: restart         -> blocked [hold, check dependencies]
backoff: redefine        -> blocked [hold, check dependencies]
backoff: network changed -> blocked [hold, check dependencies]
backoff: client waiting  -> blocked [check dependencies]
backoff: client throttled    -> backoff [schedule throttled]
backoff: attempt due     -> blocked [check dependencies]
backoff: cause changed   -> blocked [hold, check dependencies]
backoff: stop            -> stopping [release port, close all]
backoff: panicked        -> closing [detach, close tunnel]

failed: restart         -> blocked [hold, check dependencies]
failed: redefine        -> blocked [hold, check dependencies]
failed: network changed -> blocked [hold, check dependencies]
failed: client waiting  -> blocked [check dependencies]
failed: client throttled    -> failed [drop waiting]
failed: cause changed   -> blocked [hold, check dependencies]
failed: stop            -> stopping [release port, close all]
failed: panicked        -> closing [detach, close tunnel]

needs attention: restart         -> blocked [hold, check dependencies]
needs attention: redefine        -> blocked [hold, check dependencies]
needs attention: network changed -> needs attention
needs attention: client waiting  -> needs attention
needs attention: client throttled    -> needs attention
needs attention: cause changed   -> blocked [hold, check dependencies]
needs attention: stop            -> stopping [release port, close all]
needs attention: panicked        -> closing [detach, close tunnel]

stopping: start           -> closing [bind]
stopping: stop            -> stopping
stopping: redefine        -> stopping
stopping: network changed -> stopping
stopping: closed          -> stopped [finish]
stopping: panicked        -> stopping
`

// describeTransition formats a transition like a line of the table; empty if transition panics.
func describeTransition(p phase, e event) (text string) {
	defer func() {
		if recover() != nil {
			text = ""
		}
	}()
	next, actions := transition(p, e)
	text = next.String()
	if len(actions) > 0 {
		names := make([]string, len(actions))
		for i, a := range actions {
			names[i] = a.String()
		}
		text += " [" + strings.Join(names, ", ") + "]"
	}
	return text
}

func TestTransition_MatchesStateTable(t *testing.T) {
	want := make(map[string]string)
	for line := range strings.Lines(strings.TrimSpace(stateTable)) {
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		from, to, _ := strings.Cut(line, "->")
		p, e, _ := strings.Cut(from, ":")
		key := p + ": " + strings.TrimSpace(e)
		if want[key] != "" {
			t.Errorf("%s is in the table twice", key)
		}
		want[key] = strings.TrimSpace(to)
	}
	for p := range phaseCount {
		for e := range eventCount {
			key := fmt.Sprintf("%v: %v", p, e)
			if got := describeTransition(p, e); got != want[key] {
				t.Errorf("%s -> %q, the table has %q", key, got, want[key])
			}
			delete(want, key)
		}
	}
	for key := range want {
		t.Errorf("the table has %s, which is neither a phase nor an event", key)
	}
}

// Otherwise Stop would hang.
func TestTransition_EveryPhaseReachesStopped(t *testing.T) {
	for p := range phaseCount {
		reached, frontier := map[phase]bool{p: true}, []phase{p}
		for len(frontier) > 0 {
			from := frontier[0]
			frontier = frontier[1:]
			for _, e := range []event{eventStop, eventClosed} {
				if describeTransition(from, e) == "" {
					continue
				}
				if next, _ := transition(from, e); !reached[next] {
					reached[next] = true
					frontier = append(frontier, next)
				}
			}
		}
		if !reached[phaseStopped] {
			t.Errorf("a service in phase %q cannot be stopped", p)
		}
	}
}
