package main

import (
	"context"
	"encoding/json"
	"log"
	"time"

	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// runNode registers the node and sends a heartbeat each second.
func (s *standin) runNode(ctx context.Context) error {
	node := &core.Node{ObjectMeta: meta.ObjectMeta{Name: s.node, Labels: map[string]string{core.LabelHostname: s.node}}}
	if _, err := s.client.CoreV1().Nodes().Create(ctx, node, meta.CreateOptions{}); err != nil && !errors.IsAlreadyExists(err) {
		return err
	}
	since := meta.Now()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		if err := s.sendHeartbeat(ctx, since); err != nil {
			log.Printf("send a heartbeat: %v", err) // the API server may be down
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sendHeartbeat reports that the node has been ready since a time, and renews its lease.
func (s *standin) sendHeartbeat(ctx context.Context, since meta.Time) error {
	resources := core.ResourceList{
		core.ResourceCPU: resource.MustParse("8"), core.ResourceMemory: resource.MustParse("8Gi"), core.ResourcePods: resource.MustParse("200"),
	}
	patch, err := json.Marshal(map[string]any{"status": core.NodeStatus{
		Capacity: resources, Allocatable: resources,
		Addresses:       []core.NodeAddress{{Type: core.NodeHostName, Address: s.node}},
		DaemonEndpoints: core.NodeDaemonEndpoints{KubeletEndpoint: core.DaemonEndpoint{Port: int32(s.port)}},
		Conditions: []core.NodeCondition{{
			Type: core.NodeReady, Status: core.ConditionTrue, Reason: "KubeletReady", LastHeartbeatTime: meta.Now(), LastTransitionTime: since,
		}},
	}})
	if err != nil {
		return err
	}
	if _, err := s.client.CoreV1().Nodes().Patch(ctx, s.node, types.StrategicMergePatchType, patch, meta.PatchOptions{}, "status"); err != nil {
		return err
	}
	leases := s.client.CoordinationV1().Leases(core.NamespaceNodeLease)
	now, seconds := meta.NowMicro(), int32(4)
	lease := &coordination.Lease{
		ObjectMeta: meta.ObjectMeta{Name: s.node},
		Spec:       coordination.LeaseSpec{HolderIdentity: &s.node, LeaseDurationSeconds: &seconds, RenewTime: &now},
	}
	_, err = leases.Update(ctx, lease, meta.UpdateOptions{})
	if errors.IsNotFound(err) {
		_, err = leases.Create(ctx, lease, meta.CreateOptions{})
	}
	return err
}
