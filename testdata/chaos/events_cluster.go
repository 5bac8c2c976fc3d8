package chaos

import (
	"math/rand/v2"
	"net/http"
	"regexp"
	"slices"
	"time"
)

// The technologies of projects with a service in a cluster: any, and one whose kubeconfig names a login helper.
const (
	technologyKubectl     = "kubectl"
	technologyLoginHelper = "kubectl with a login helper"
)

// clusterServiceName is the name of the service in a cluster.
const clusterServiceName = "kube"

// beginClusterTrouble is called before the trouble begins. It allows that the connections to the cluster end. The rest is as in beginTrouble.
func (p *project) beginClusterTrouble(reason string, mend func() error) {
	p.allowInterruption([]string{clusterServiceName}, false)
	p.beginTrouble(clusterServiceName, reason, mend)
}

// beginTrouble has mend called when the event ends. Before that, status must name the trouble of a service by a text that matches reason, if
// it shows any.
func (p *project) beginTrouble(service, reason string, mend func() error) {
	p.addUndo(func() {
		p.checkTroubleIsNamed(service, regexp.MustCompile(reason))
		p.logf("the trouble of %s ends", service)
		if err := mend(); err != nil {
			p.fail("%v", err)
		}
	})
}

// checkTroubleIsNamed checks that status gives a reason for a service that does not work, and no wrong one.
func (p *project) checkTroubleIsNamed(service string, reason *regexp.Regexp) {
	isAlone := slices.Contains([]string{"", "status", "prompt"}, p.act.Meanwhile)
	if !isAlone || p.act.State != Up && p.act.State != Busy || p.act.Duration < time.Second {
		return
	}
	s, err := parseStatus(p.runLocalport("status", "--json").stdout)
	if err != nil {
		p.fail("status: %v", err)
		return
	}
	svc, ok := s.service(service)
	if isUp := svc.State == "healthy" || svc.State == "idle"; !ok || isUp || svc.LastError == "" {
		return
	}
	p.logf("%s is %s: %s", service, svc.State, svc.LastError)
	if !reason.MatchString(svc.LastError) {
		p.fail("%s is %s because of %q, and the trouble is %q", service, svc.State, svc.LastError, reason)
	}
}

// refuseRequestsEvent makes the API server refuse every request with a status. In one of two cases it also resets its connections.
func refuseRequestsEvent(code int, reason string) func(*project, *rand.Rand) bool {
	return func(p *project, r *rand.Rand) bool {
		p.logf("the API server refuses requests with %d", code)
		p.beginClusterTrouble(reason, func() error { p.cluster.refusal.Store(0); return nil })
		p.cluster.refusal.Store(int32(code))
		if r.IntN(2) == 0 {
			p.cluster.resetConns()
		}
		return true
	}
}

// otherCertificateEvent makes the API server show a certificate of an authority that the kubeconfig does not trust.
func otherCertificateEvent(p *project, _ *rand.Rand) bool {
	p.logf("the API server shows a certificate of another authority")
	p.beginClusterTrouble("x509|certificate", func() error { p.cluster.showsOtherCert.Store(false); return nil })
	p.cluster.showsOtherCert.Store(true)
	p.cluster.resetConns()
	return true
}

// moveServerEvent moves the API server to another port. The kubeconfig follows when the event ends.
func moveServerEvent(p *project, r *rand.Rand) bool {
	renames := r.IntN(2) == 0
	p.beginClusterTrouble("refused|reset|cannot be reached|EOF|closed", func() error { return p.cluster.writeKubeconfig(renames) })
	p.cluster.stop()
	if err := p.cluster.move(); err != nil {
		p.fail("%v", err)
		return false
	}
	p.logf("the API server has moved to port %d", p.cluster.port)
	return true
}

// renewTokenEvent makes the API server require another token. The kubeconfig, or the file with the token, follows when the event ends.
func renewTokenEvent(p *project, r *rand.Rand) bool {
	p.logf("the API server requires another token")
	renames := r.IntN(2) == 0
	p.beginClusterTrouble("Unauthorized|logged in", func() error { return p.cluster.writeKubeconfig(renames) })
	p.cluster.renewToken()
	if r.IntN(2) == 0 {
		p.cluster.resetConns()
	}
	return true
}

// helperOfflineEvent makes the API server require another token, which the login helper cannot get: it fails with an error of the
// network. When the event ends, it works again and an address is added to the network, as when a VPN connects.
func helperOfflineEvent(p *project, _ *rand.Rand) bool {
	return p.takeHelperOffline(func() error {
		if err := p.cluster.writeKubeconfig(true); err != nil {
			return err
		}
		if err := p.cluster.setHelperOffline(false); err != nil {
			return err
		}
		p.awaitNoLoginHelper()
		return p.world.changeNetwork()
	})
}

// helperRecoveryLimit is for an event after which nothing tells that a login helper works again: it is run again 30 s after its failure.
const helperRecoveryLimit = 30*time.Second + recoveryLimit

// helperOfflineUnnoticedEvent is helperOfflineEvent without a change of the network, as when a DNS server or a login server was down. Neither
// the kubeconfig nor a file that it names changes when the event ends.
func helperOfflineUnnoticedEvent(p *project, _ *rand.Rand) bool {
	return p.takeHelperOffline(func() error {
		if err := p.cluster.writeHelperToken(); err != nil {
			return err
		}
		return p.cluster.setHelperOffline(false)
	})
}

// takeHelperOffline makes the API server require another token, which the login helper cannot get until mend is called.
func (p *project) takeHelperOffline(mend func() error) bool {
	p.logf("the login helper is offline")
	p.beginClusterTrouble("Unauthorized|logged in|login helper", mend)
	if err := p.cluster.setHelperOffline(true); err != nil {
		p.fail("%v", err)
		return false
	}
	p.cluster.renewToken()
	p.cluster.resetConns()
	return true
}

// awaitNoLoginHelper returns when no login helper of the project runs: one that began offline would fail after the network has changed.
func (p *project) awaitNoLoginHelper() {
	p.world.awaitNoProblem(recoveryLimit, func() string {
		for _, other := range listProcesses() {
			if other.program(p.world.self) == loginHelperProgram && slices.Contains(other.args, p.cluster.dir) {
				return "it runs"
			}
		}
		return ""
	})
}

// refuseWebSocketEvent makes the API server refuse upgrades to WebSocket, as some proxies do: SPDY must be used. In one of two cases it
// also resets its connections.
func refuseWebSocketEvent(p *project, r *rand.Rand) bool {
	code := []int{http.StatusNotFound, http.StatusBadGateway}[r.IntN(2)]
	p.logf("the API server refuses WebSocket with %d", code)
	p.cluster.webSocketStatus.Store(int32(code))
	p.addUndo(func() {
		p.background.Wait()
		p.logf("%d upgrades to SPDY so far", p.cluster.forwardedSPDY.Load())
		p.cluster.webSocketStatus.Store(0)
	})
	if r.IntN(2) == 0 {
		p.allowInterruption([]string{clusterServiceName}, false)
		p.cluster.resetConns()
	}
	return true
}
