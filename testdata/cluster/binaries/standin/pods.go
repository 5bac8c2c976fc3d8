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

// pods are the running pods.
type pods struct {
	mu    sync.Mutex // guards the field that follows
	byUID map[types.UID]*pod
}

// runPods runs the pods that are scheduled on the node.
func (s *standin) runPods(ctx context.Context) error {
	s.pods.byUID = map[types.UID]*pod{}
	onNode := fields.OneTermEqualSelector("spec.nodeName", s.node)
	source := cache.NewListWatchFromClient(s.client.CoreV1().RESTClient(), "pods", core.NamespaceAll, onNode)
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: source, ObjectType: &core.Pod{},
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { s.onPodChanged(object.(*core.Pod)) },
			UpdateFunc: func(_, object any) { s.onPodChanged(object.(*core.Pod)) },
			DeleteFunc: func(object any) {
				if last, ok := object.(cache.DeletedFinalStateUnknown); ok {
					object = last.Obj
				}
				s.onPodDeleted(object.(*core.Pod))
			},
		},
	})
	informer.RunWithContext(ctx)
	return errors.New("the watch of the pods has ended")
}

// onPodChanged starts a new pod, and ends one that is being deleted.
func (s *standin) onPodChanged(object *core.Pod) {
	s.pods.mu.Lock()
	p := s.pods.byUID[object.UID]
	if p == nil {
		p = s.newPod(object)
		s.pods.byUID[object.UID] = p
		go p.run()
	}
	s.pods.mu.Unlock()
	if object.DeletionTimestamp != nil {
		p.end(*object.DeletionGracePeriodSeconds)
	}
}

// onPodDeleted ends a pod that was deleted from the API server, which may have been done without waiting for its end.
func (s *standin) onPodDeleted(object *core.Pod) {
	s.pods.mu.Lock()
	defer s.pods.mu.Unlock()
	if p := s.pods.byUID[object.UID]; p != nil {
		p.end(0)
		delete(s.pods.byUID, object.UID)
	}
}

// get returns the running pod with a UID, nil if there is none.
func (p *pods) get(uid types.UID) *pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.byUID[uid]
}

// find returns the running pod with a name, nil if there is none.
func (p *pods) find(namespace, name string) *pod {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pod := range p.byUID {
		if pod.Namespace == namespace && pod.Name == name {
			return pod
		}
	}
	return nil
}
