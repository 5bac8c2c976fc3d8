package main

import (
	"context"
	"errors"
	"sync"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// pods are those that run.
type pods struct {
	mu sync.Mutex
	by map[types.UID]*pod
}

// runPods runs the pods that are put on the node.
func (s *standin) runPods(ctx context.Context) error {
	s.pods.by = map[types.UID]*pod{}
	mine := fields.OneTermEqualSelector("spec.nodeName", s.node)
	source := cache.NewListWatchFromClient(s.client.CoreV1().RESTClient(), "pods", core.NamespaceAll, mine)
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: source, ObjectType: &core.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(o any) { s.see(o.(*core.Pod)) },
			UpdateFunc: func(_, o any) { s.see(o.(*core.Pod)) },
			DeleteFunc: func(o any) {
				if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
					o = last.Obj
				}
				s.forget(o.(*core.Pod))
			},
		},
	})
	informer.RunWithContext(ctx)
	return errors.New("nobody watches the pods any more")
}

// see starts a pod that is new, and ends one that is being deleted.
func (s *standin) see(o *core.Pod) {
	s.pods.mu.Lock()
	p := s.pods.by[o.UID]
	if p == nil {
		p = s.newPod(o)
		s.pods.by[o.UID] = p
		go p.run()
	}
	s.pods.mu.Unlock()
	if o.DeletionTimestamp != nil {
		p.end(*o.DeletionGracePeriodSeconds)
	}
}

// forget ends a pod that is no more, if somebody did not wait for its end.
func (s *standin) forget(o *core.Pod) {
	s.pods.mu.Lock()
	defer s.pods.mu.Unlock()
	if p := s.pods.by[o.UID]; p != nil {
		p.end(0)
		delete(s.pods.by, o.UID)
	}
}

func (p *pods) get(uid types.UID) *pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.by[uid]
}

// named is the pod of a name that runs; nil if there is none.
func (p *pods) named(namespace, name string) *pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pod := range p.by {
		if pod.Namespace == namespace && pod.Name == name {
			return pod
		}
	}
	return nil
}
