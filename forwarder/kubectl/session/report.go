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

// nodeHealth are those that were looked at because something was wrong with their pods.
type nodeHealth struct {
	mu          sync.Mutex
	checkedAt   map[string]time.Time
	notReady    map[string]string // why one is not ready, by name
	isForbidden bool              // the user may not see nodes
}

// nodeCheckInterval is the least time between two looks at a node.
const nodeCheckInterval = 10 * time.Second

// CheckNodes asks how nodes are doing, no oftener than every ten seconds, and never again if the user may not.
func (s *Session) CheckNodes(names []string) {
	n := &s.nodeHealth
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.checkedAt == nil {
		n.checkedAt, n.notReady = make(map[string]time.Time), make(map[string]string)
	}
	for _, name := range names {
		if n.isForbidden || time.Since(n.checkedAt[name]) < nodeCheckInterval || s.tasks.Ended() {
			continue
		}
		n.checkedAt[name] = time.Now()
		s.goTask(func(ctx context.Context) { s.checkNode(ctx, name) })
	}
}

func (s *Session) checkNode(ctx context.Context, name string) {
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Reason, Message string }
		}
	}
	ctx, cancel := context.WithTimeout(ctx, responseTimeout)
	defer cancel()
	err := s.Get(ctx, "/api/v1/nodes/"+url.PathEscape(name), nil, &node)
	n := &s.nodeHealth
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.notReady, name)
	switch {
	case hasStatusCode(err, http.StatusForbidden):
		n.isForbidden = true
	case hasStatusCode(err, http.StatusNotFound):
		n.notReady[name] = "it is not in the cluster any more"
	case err == nil:
		for _, c := range node.Status.Conditions {
			if c.Type == "Ready" && c.Status != "True" {
				n.notReady[name] = c.Message
			}
		}
	}
}

// Report is how the cluster is doing, as far as is known; nothing is asked for it. The name is the caller's to fill in.
func (s *Session) Report(words ResourceRef) forwarder.Surroundings {
	cluster := forwarder.Surroundings{Address: s.Server}
	cluster.Expires, cluster.Renewed = s.auth.expiry()
	if err, _ := s.Reachability(); err != nil {
		cluster.Trouble = s.ClassifyError(err, words)
		return cluster
	}
	if failure := s.auth.currentFailure(); failure != nil {
		cluster.Trouble = failure
		return cluster
	}
	s.nodeHealth.mu.Lock()
	defer s.nodeHealth.mu.Unlock()
	var problems []string
	for name, reason := range s.nodeHealth.notReady {
		problems = append(problems, fmt.Sprintf("node %s is not Ready: %s", name, reason))
	}
	if len(problems) > 0 {
		slices.Sort(problems)
		cluster.Trouble = &forwarder.Failure{Reason: strings.Join(problems, "; "), Hint: words.Command("get nodes")}
	}
	return cluster
}
