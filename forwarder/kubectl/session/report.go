package session

import (
	"cmp"
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

// nodeHealth is the health of nodes. A node is checked only if something is wrong with a pod on it.
type nodeHealth struct {
	mu          sync.Mutex
	checkedAt   map[string]time.Time
	notReady    map[string]string // reason, by name of the node
	forbiddenAt time.Time         // when the server denied it last; zero: it did not
}

// nodeCheckInterval is the minimum time between two checks of a node.
const nodeCheckInterval = 10 * time.Second

// nodeMaxAge is how long the result of a check counts. Nodes are checked only while something is wrong with a pod: a pod that has moved to another
// node would leave what was wrong with the last one.
const nodeMaxAge = 3 * nodeCheckInterval

// forbiddenTime is how long no node is checked after the server has denied it: the user may be given the right.
const forbiddenTime = 5 * time.Minute

// CheckNodes checks nodes in the background, each at most once per nodeCheckInterval, and none for forbiddenTime once the server has denied
// it.
func (s *Session) CheckNodes(names []string) {
	n := &s.nodeHealth
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.checkedAt == nil {
		n.checkedAt, n.notReady = make(map[string]time.Time), make(map[string]string)
	}
	for _, name := range names {
		if time.Since(n.forbiddenAt) < forbiddenTime || time.Since(n.checkedAt[name]) < nodeCheckInterval || s.tasks.IsDone() {
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
		n.forbiddenAt = time.Now()
	case hasStatusCode(err, http.StatusNotFound):
		n.notReady[name] = "it is no longer in the cluster"
	case err == nil:
		for _, c := range node.Status.Conditions {
			if c.Type == "Ready" && c.Status != "True" {
				n.notReady[name] = c.Message
			}
		}
	}
}

// Report returns the known state of the cluster. It sends no request. The caller fills in the name.
func (s *Session) Report(ref ResourceRef) forwarder.ClusterInfo {
	cluster := forwarder.ClusterInfo{Address: s.Server}
	cluster.ExpiresAt, cluster.IsRenewed = s.auth.expiry()
	if cluster.Failure = cmp.Or(s.auth.currentFailure(), s.UnreachableFailure(ref), s.refusal.Load()); cluster.Failure != nil {
		return cluster
	}
	s.nodeHealth.mu.Lock()
	defer s.nodeHealth.mu.Unlock()
	var problems []string
	for name, reason := range s.nodeHealth.notReady {
		if time.Since(s.nodeHealth.checkedAt[name]) >= nodeMaxAge {
			continue
		}
		problems = append(problems, fmt.Sprintf("node %s is not Ready: %s", name, reason))
	}
	if len(problems) > 0 {
		slices.Sort(problems)
		cluster.Failure = &forwarder.Failure{Reason: strings.Join(problems, "; "), Hint: ref.Command("get nodes")}
	}
	return cluster
}
