package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/localport-sh/localport/forwarder/api"
	"github.com/localport-sh/localport/forwarder/bridge"
	"github.com/localport-sh/localport/forwarder/relay"
	"github.com/localport-sh/localport/forwarder/wait"
	"github.com/localport-sh/localport/project"
)

// The time between two looks at the bridges besides those when the network changes: while a service lacks its address, and else.
const (
	bridgeRetryInterval = 2 * time.Second
	bridgeInterval      = 30 * time.Second
)

// bridgeHoldName is the name under which the keeper holds a service's listener on a bridge. It is an entry of its own: a supervisor of an older
// release drops it, and takes the service's other listeners.
func bridgeHoldName(service string) string { return bridgeHoldPrefix + service }

const bridgeHoldPrefix = "bridge "

// bridgeListener is the listener of a service on the address of a bridge, for containers. The bridge may appear and vanish at any time.
type bridgeListener struct {
	supervisor *Supervisor
	relay      *relay.Relay

	updateSlot chan struct{} // a semaphore, held while the listener is opened or closed

	// The fields below belong to the holder of updateSlot.
	isReleased bool
	listeners  *relay.Listeners // nil: not bound
	held       *heldFiles       // at the keeper

	mu     sync.Mutex        // guards the field below
	status *api.BridgeStatus // nil: no bridge is configured
}

func newBridgeListener(s *Supervisor, r *relay.Relay) *bridgeListener {
	return &bridgeListener{supervisor: s, relay: r, updateSlot: make(chan struct{}, 1)}
}

// currentStatus returns where containers can connect; nil if the config names no bridge.
func (b *bridgeListener) currentStatus() *api.BridgeStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.status
}

// acquireUpdateSlot waits until the listener is not being updated, and returns a function that lets the next update begin.
func (b *bridgeListener) acquireUpdateSlot() (release func()) {
	b.updateSlot <- struct{}{}
	return func() { <-b.updateSlot }
}

// update binds the listener on the present address of the service's bridge, or closes it if there is none.
func (b *bridgeListener) update(ctx context.Context, svc project.Service) {
	defer b.acquireUpdateSlot()()
	if b.isReleased {
		return
	}
	status := b.rebind(ctx, svc)
	b.mu.Lock()
	before := b.status
	b.status = status
	b.mu.Unlock()
	if before == nil && status == nil || before != nil && status != nil && *before == *status {
		return
	}
	if status != nil {
		b.supervisor.log.Info("the address for containers has changed", "service", svc.Name, "bridge", status.Name, "address", status.Address, "reason", status.Reason)
	}
	b.supervisor.changes.Announce()
}

func (b *bridgeListener) rebind(ctx context.Context, svc project.Service) *api.BridgeStatus {
	if svc.Bridge == "" {
		b.close()
		return nil
	}
	status := &api.BridgeStatus{Name: svc.Bridge}
	addr, err := bridge.Find(svc.Bridge)
	if err == nil {
		err = b.bind(ctx, svc, netip.AddrPortFrom(addr, uint16(svc.LocalPort)))
	} else {
		b.close()
	}
	var notFound *bridge.Error
	var inUse *relay.AddrInUseError
	switch {
	case errors.As(err, &notFound):
		status.Reason, status.Hint = notFound.Reason, notFound.Hint
	case errors.As(err, &inUse):
		status.Reason, _ = explainPort(err, svc)
		status.Hint = fmt.Sprintf("stop it, or give %s another local_port; binding is retried every %v", svc.Name, bridgeRetryInterval)
	case err != nil:
		status.Reason, status.Hint = explainPort(err, svc)
	default:
		status.Address = netip.AddrPortFrom(addr, uint16(svc.LocalPort)).String()
	}
	return status
}

// bind listens on an address, unless that is done already, and closes the listener on any other.
func (b *bridgeListener) bind(ctx context.Context, svc project.Service, addr netip.AddrPort) error {
	if b.listeners != nil && b.listeners.Addrs()[0] == addr {
		return nil
	}
	b.close()
	listeners := b.supervisor.inherited.takeListenersOn(bridgeHoldName(svc.Name), []netip.AddrPort{addr})
	if listeners == nil {
		var err error
		if listeners, err = b.supervisor.bindAddresses(ctx, []netip.AddrPort{addr}); err != nil {
			return err
		}
	}
	if b.relay.AddListeners(listeners) {
		b.listeners, b.held = listeners, b.supervisor.keeper.hold(bridgeHoldName(svc.Name), listeners.Files)
	}
	return nil
}

// close closes the listener and the keeper's copy.
func (b *bridgeListener) close() {
	if b.listeners == nil {
		return
	}
	b.supervisor.keeper.drop(b.held)
	b.relay.RemoveListeners(b.listeners)
	b.listeners, b.held = nil, nil
}

// release is close for good.
func (b *bridgeListener) release() {
	defer b.acquireUpdateSlot()()
	b.isReleased = true
	b.close()
}

// followBridges updates the services' listeners on bridges when the network or the config changes, and at intervals, until ctx ends or the ports
// have been closed or handed over. Where no service has a bridge, it waits for another config.
func (s *Supervisor) followBridges(ctx context.Context) {
	timer := time.NewTimer(0) // a service may have been redefined while its port was being opened
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.endedCh:
			return
		case <-s.bridgesChangedCh:
		case <-timer.C:
		}
		if interval := s.updateBridges(ctx); interval > 0 {
			timer.Reset(interval)
		}
	}
}

// updateBridges updates all listeners on bridges, and returns the time to the next look; 0 if no service has a bridge.
func (s *Supervisor) updateBridges(ctx context.Context) (next time.Duration) {
	active := s.active.Load()
	for _, svc := range active.project.Services {
		now := active.services[svc.Name].Snapshot()
		port, ok := now.Port().(*heldPort)
		if svc.Bridge != "" {
			next = max(next, bridgeRetryInterval)
		}
		if !ok {
			continue // stopped, or about to be bound
		}
		port.bridge.update(ctx, svc)
	}
	if next > 0 && !s.lacksBridge() {
		next = bridgeInterval
	}
	return next
}

// lacksBridge reports whether a service's port is open, but not yet at the bridge that the config names.
func (s *Supervisor) lacksBridge() bool {
	active := s.active.Load()
	for _, svc := range active.project.Services {
		if status := bridgeStatus(active.services[svc.Name].Snapshot().Port()); status != nil && status.Address == "" {
			return true
		}
	}
	return false
}

// bridgeStatus returns where containers can connect to a port; nil if the config names no bridge or the port is closed.
func bridgeStatus(port any) *api.BridgeStatus {
	if port, ok := port.(*heldPort); ok {
		return port.bridge.currentStatus()
	}
	return nil
}

// onBridgesChange has followBridges look at the bridges now.
func (s *Supervisor) onBridgesChange() { wait.Notify(s.bridgesChangedCh) }
