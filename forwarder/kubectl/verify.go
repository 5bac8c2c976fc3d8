package kubectl

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/session"
	"github.com/localport-sh/localport/forwarder/tasks"
	"github.com/localport-sh/localport/project"
)

// minSkew is the difference of two clocks below which nothing is said: the header Date has whole seconds, and the response takes time.
const minSkew = 5 * time.Second

// verify asks the API server of a service for its version, and whether the user may forward ports in the service's namespace.
func verify(ctx context.Context, svc project.Service, run forwarder.Run) forwarder.Verification {
	s := newService(newServiceSpec(svc))
	group := tasks.New(ctx)
	defer group.Close()
	ref := session.ResourceRef{Resource: s.target.Resource(), Kubeconfig: s.kubeconfig, Location: s.resolveLocation(run)}
	result := forwarder.Verification{Summary: "context " + ref.Location.Context}
	opened, release, err := session.NewRegistry(group).Open(newSource(run, ref))
	if err != nil {
		result.Failure = asFailure(err)
		return result
	}
	defer release()
	version, date, err := opened.Version(ctx)
	if err != nil {
		result.Failure = opened.ClassifyError(err, ref)
		return result
	}
	result.Summary += fmt.Sprintf(" (%s, Kubernetes %s)", opened.Server, version)
	if skew := time.Until(date); !date.IsZero() && skew.Abs() >= minSkew {
		result.Skew = skew
	}
	isAllowed, err := mayForward(ctx, opened, ref.Location.Namespace)
	switch {
	case err != nil:
		result.Failure = opened.ClassifyError(err, ref)
	case !isAllowed:
		result.Failure = &forwarder.Failure{
			Class:  forwarder.NeedsUser,
			Reason: fmt.Sprintf("the user may not forward ports in the namespace %s: neither create nor get pods/portforward is allowed", ref.Location.Namespace),
			Hint:   ref.ListRightsHint(),
		}
	}
	return result
}

func asFailure(err error) *forwarder.Failure {
	if failure, ok := errors.AsType[*forwarder.Failure](err); ok {
		return failure
	}
	return &forwarder.Failure{Reason: err.Error()}
}

// accessReview is a SelfSubjectAccessReview (authorization.k8s.io/v1).
type accessReview struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		ResourceAttributes resourceAttributes `json:"resourceAttributes"`
	} `json:"spec"`
	Status struct {
		Allowed bool `json:"allowed"`
	} `json:"status"`
}

type resourceAttributes struct {
	Namespace   string `json:"namespace"`
	Verb        string `json:"verb"`
	Resource    string `json:"resource"`
	Subresource string `json:"subresource"`
}

// mayForward reports whether the user may forward ports to pods of a namespace: over SPDY, which needs the right to create, or over WebSocket,
// which needs the right to get.
func mayForward(ctx context.Context, s *session.Session, namespace string) (bool, error) {
	for _, verb := range []string{"create", "get"} {
		review := accessReview{APIVersion: "authorization.k8s.io/v1", Kind: "SelfSubjectAccessReview"}
		review.Spec.ResourceAttributes = resourceAttributes{Namespace: namespace, Verb: verb, Resource: "pods", Subresource: "portforward"}
		if err := s.Create(ctx, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", review, &review); err != nil {
			return false, err
		}
		if review.Status.Allowed {
			return true, nil
		}
	}
	return false, nil
}
