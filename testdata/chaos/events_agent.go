package chaos

import (
	"math/rand/v2"
	"slices"
	"syscall"
	"time"
)

// technologySSHAgent is the technology of projects with a service whose key is only in an ssh-agent.
const technologySSHAgent = "ssh with an agent"

// agentServiceName is the name of that service, and of its host in the ssh_config.
const agentServiceName = "keyed"

// missingKeyReason is what status says of the service while the agent or its key is missing.
const missingKeyReason = "Permission denied|agent|killed|before the timeout"

// replaceAgentEvent kills the agent. When the event ends, there is another one at another socket. The shells know it, and a new one enters.
func replaceAgentEvent(p *project, r *rand.Rand) bool {
	p.logf("the agent is killed")
	p.agent.stop()
	p.beginTrouble(agentServiceName, missingKeyReason, func() error {
		p.background.Wait() // commands may run in the shells
		if err := p.agent.start(); err != nil {
			return err
		}
		for _, s := range p.shells {
			p.run(s, s.setVariable("SSH_AUTH_SOCK", p.agent.socketPath()))
		}
		newShellEvent(p, r)
		return nil
	})
	if p.killAgentTunnelsOrNot(r) {
		p.addUndo(p.awaitMissingKey)
	}
	return true
}

// removeAgentKeysEvent removes the key from the agent, and adds it when the event ends.
func removeAgentKeysEvent(p *project, r *rand.Rand) bool {
	p.logf("the agent has no key")
	if err := p.agent.removeKeys(); err != nil {
		p.fail("%v", err)
		return false
	}
	p.beginTrouble(agentServiceName, missingKeyReason, p.agent.addKey)
	if p.killAgentTunnelsOrNot(r) {
		p.addUndo(p.awaitMissingKey)
	}
	return true
}

func freezeAgentEvent(p *project, r *rand.Rand) bool {
	isFrozen := p.freeze("agent", p.agent.pid())
	p.killAgentTunnelsOrNot(r)
	return isFrozen
}

// killAgentTunnelsOrNot ends, in one of two cases, the tunnels that have logged in with the agent's key. Otherwise they must stay: they need
// the agent no more. It reports whether a tunnel was ended.
func (p *project) killAgentTunnelsOrNot(r *rand.Rand) (hasKilled bool) {
	if r.IntN(2) == 0 {
		return false
	}
	p.allowInterruption([]string{agentServiceName}, false)
	for _, tunnel := range p.listTunnels() {
		if slices.Contains(tunnel.args, agentServiceName) {
			p.logf("KILL to tunnel %s", tunnel)
			hasKilled = signalProcess(tunnel.pid, syscall.SIGKILL) || hasKilled
		}
	}
	return hasKilled
}

// awaitMissingKey waits until a login has failed for lack of the key, so that only another look at the agent can help; at most 10 s.
func (p *project) awaitMissingKey() {
	p.background.Wait() // it may end the project
	p.world.awaitNoProblem(10*time.Second, func() string {
		s, err := parseStatus(p.runLocalport("status", "--json").stdout)
		if svc, ok := s.service(agentServiceName); err == nil && s.State == stateRunning && ok && svc.State != "needs_attention" {
			return "no login has failed"
		}
		return ""
	})
}
