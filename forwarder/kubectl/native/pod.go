package native

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/printable"
)

// pod is the part of a Pod object that is used here.
type pod struct {
	Metadata session.ObjectMeta
	Spec     struct {
		NodeName       string
		Containers     []container
		InitContainers []container
	}
	Status struct {
		Phase      string
		Reason     string
		Message    string
		Conditions []struct {
			Type, Status, Reason, Message string
		}
		ContainerStatuses     []containerStatus
		InitContainerStatuses []containerStatus
	}
}

type container struct {
	Ports []struct {
		Name          string
		ContainerPort int
		Protocol      string
	}
}

type containerStatus struct {
	Name  string
	Ready bool
	State struct {
		Waiting *struct{ Reason, Message string }
	}
	RestartCount int
}

// restartCount is how often the pod's containers have been restarted.
func (p *pod) restartCount() (n int) {
	for _, c := range p.Status.ContainerStatuses {
		n += c.RestartCount
	}
	return n
}

// namedPort returns the number of the TCP port that a container of the pod declares under a name.
func (p *pod) namedPort(name string) (int, error) {
	var available []string
	var protocolErr error
	for _, c := range slices.Concat(p.Spec.Containers, p.Spec.InitContainers) {
		for _, port := range c.Ports {
			if port.Name == name {
				if isTCP(port.Protocol) {
					return port.ContainerPort, nil
				}
				protocolErr = fmt.Errorf("port %s of pod %s is %s; only TCP can be forwarded", name, p.Metadata.Name, port.Protocol)
			}
			if port.Name != "" {
				available = append(available, port.Name)
			}
		}
	}
	if protocolErr != nil {
		return 0, protocolErr
	}
	return 0, fmt.Errorf("pod %s does not have a port named %s; it names %s", p.Metadata.Name, name, cmp.Or(strings.Join(available, ", "), "none"))
}

// isTCP reports whether a port's protocol is TCP, which is the default.
func isTCP(protocol string) bool { return protocol == "" || protocol == "TCP" }

func (p *pod) isTerminating() bool { return p.Metadata.Deletion != nil }

func (p *pod) isRunning() bool { return p.Status.Phase == "Running" && !p.isTerminating() }

func (p *pod) isReady() bool {
	if !p.isRunning() {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == "Ready" {
			return c.Status == "True"
		}
	}
	return false
}

// describeState returns why a pod is not ready, in the terms of "kubectl get pods".
func (p *pod) describeState() string {
	if p.isTerminating() {
		return "Terminating"
	}
	for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
		if w := c.State.Waiting; w != nil && w.Reason != "" && w.Reason != "PodInitializing" {
			return p.Status.Phase + ": " + joinReason(w.Reason, w.Message)
		}
	}
	for _, kind := range []string{"PodScheduled", "Ready"} {
		for _, c := range p.Status.Conditions {
			if c.Type == kind && c.Status != "True" {
				text := p.Status.Phase
				if p.Status.Phase == "Running" {
					text += ", but not Ready"
				}
				return joinReason(text, cmp.Or(c.Message, c.Reason))
			}
		}
	}
	return joinReason(cmp.Or(p.Status.Phase, "Pending"), cmp.Or(p.Status.Message, p.Status.Reason))
}

// joinReason returns what, and why if that is known.
func joinReason(what, why string) string {
	if why == "" {
		return what
	}
	const maxLength = 160 // characters
	return what + ": " + printable.Truncate(why, maxLength)
}

// podList is the pods of a target, newest first.
type podList []*pod

func decodePods(objects []json.RawMessage) (podList, error) {
	all := make(podList, 0, len(objects))
	for _, o := range objects {
		p := new(pod)
		if err := json.Unmarshal(o, p); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	// Creation times have a resolution of a second; the name makes the order stable.
	slices.SortFunc(all, func(a, b *pod) int {
		if c := b.Metadata.Created.Compare(a.Metadata.Created); c != 0 {
			return c
		}
		return strings.Compare(b.Metadata.Name, a.Metadata.Name)
	})
	return all, nil
}

// newest returns the newest eligible pod; one that has refused a connection lately only if there is no other.
func (ps podList) newest(isEligible func(*pod) bool, hasRefused func(uid string) bool) *pod {
	var refusing *pod
	for _, p := range ps {
		if !isEligible(p) {
			continue
		}
		if !hasRefused(p.Metadata.UID) {
			return p
		}
		if refusing == nil {
			refusing = p
		}
	}
	return refusing
}
