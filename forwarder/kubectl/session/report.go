package session

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder"
)

// nodes are those that were looked at because something was wrong with their pods.
type nodes struct {
	mu     sync.Mutex
	looked map[string]time.Time
	ill    map[string]string // why one is not ready, by name
	barred bool              // the user may not see nodes
}

// nodePause is the least time between two looks at a node.
const nodePause = 10 * time.Second

// LookAtNodes asks how nodes are doing, no oftener than every ten seconds, and never again if the user may not.
func (s *Session) LookAtNodes(names []string) {
	n := &s.nodes
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.looked == nil {
		n.looked, n.ill = make(map[string]time.Time), make(map[string]string)
	}
	for _, name := range names {
		if n.barred || time.Since(n.looked[name]) < nodePause || s.tasks.IsDone() {
			continue
		}
		n.looked[name] = time.Now()
		s.goes(func(ctx context.Context) { s.lookAtNode(ctx, name) })
	}
}

func (s *Session) lookAtNode(ctx context.Context, name string) {
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Reason, Message string }
		}
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	err := s.Get(ctx, "/api/v1/nodes/"+url.PathEscape(name), nil, &node)
	n := &s.nodes
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.ill, name)
	switch {
	case hasCode(err, http.StatusForbidden):
		n.barred = true
	case hasCode(err, http.StatusNotFound):
		n.ill[name] = "it is not in the cluster any more"
	case err == nil:
		for _, c := range node.Status.Conditions {
			if c.Type == "Ready" && c.Status != "True" {
				n.ill[name] = c.Message
			}
		}
	}
}

// Report is how the cluster is doing, as far as is known; nothing is asked for it. The name is the caller's to fill in.
func (s *Session) Report(words Words) forwarder.Surroundings {
	around := forwarder.Surroundings{Address: s.Server}
	around.Expires, around.Renewed = s.login.ends()
	if err, _ := s.Reach(); err != nil {
		around.Trouble = s.Failure(err, words)
		return around
	}
	if failure := s.login.trouble(); failure != nil {
		around.Trouble = failure
		return around
	}
	s.nodes.mu.Lock()
	defer s.nodes.mu.Unlock()
	var ill []string
	for name, why := range s.nodes.ill {
		ill = append(ill, fmt.Sprintf("node %s is not Ready: %s", name, why))
	}
	if len(ill) > 0 {
		slices.Sort(ill)
		around.Trouble = &forwarder.Failure{Reason: strings.Join(ill, "; "), Hint: words.Kubectl("get nodes")}
	}
	return around
}
