package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/localport-sh/localport/probe"
)

// reachTimeout is the timeout of a connection to one advertised address.
const reachTimeout = time.Second

// checkAdvertisedAddresses checks whether clients on this machine can connect to the addresses that the brokers advertise: whatever
// address a client bootstraps from, it then connects to these.
func checkAdvertisedAddresses(ctx context.Context, dialer probe.Dialer, brokers []kmsg.MetadataResponseBroker) error {
	if len(brokers) == 0 {
		return &probe.Failure{Reason: "the broker reports no available broker, not even itself"}
	}
	var local netip.AddrPort
	if service, ok := dialer.(probe.LocalAddress); ok {
		local = service.LocalAddr()
	}
	errs := make([]error, len(brokers))
	var wg sync.WaitGroup
	for i, broker := range brokers {
		wg.Go(func() { errs[i] = checkReachable(ctx, broker, local) })
	}
	wg.Wait()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("reach the advertised addresses: %w", err)
	}
	var reasons []string
	var first *kmsg.MetadataResponseBroker
	for i, err := range errs {
		if err == nil {
			continue
		}
		if first == nil {
			first = &brokers[i]
		}
		reasons = append(reasons, fmt.Sprintf("%s (%v)", brokerAddress(brokers[i]), err))
	}
	if first == nil {
		return nil
	}
	return &probe.Failure{
		Reason: fmt.Sprintf("the broker advertises %s, which this machine cannot reach: clients connect to the advertised address, not through this forward",
			strings.Join(reasons, " and ")),
		Hint: advertisedHint(*first, local),
	}
}

func brokerAddress(broker kmsg.MetadataResponseBroker) string {
	return net.JoinHostPort(broker.Host, strconv.Itoa(int(broker.Port)))
}

// checkReachable returns why an advertised address cannot be reached. Our own is not tried, because our listener always accepts.
func checkReachable(ctx context.Context, broker kmsg.MetadataResponseBroker, local netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", broker.Host)
	if err != nil {
		return trimAddress(err)
	}
	for _, addr := range addrs {
		if addr = addr.Unmap(); int(local.Port()) == int(broker.Port) && (addr == local.Addr() || addr.IsLoopback() && local.Addr().IsLoopback()) {
			return nil
		}
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", brokerAddress(broker))
	if err != nil {
		return trimAddress(err)
	}
	return conn.Close()
}

// trimAddress returns an error without the address, which the message has already.
func trimAddress(err error) error {
	if failed, ok := errors.AsType[*net.DNSError](err); ok {
		if failed.IsTimeout {
			return errors.New("the DNS lookup timed out")
		}
		return errors.New("no such host")
	}
	if failed, ok := errors.AsType[*net.OpError](err); ok {
		if failed.Timeout() {
			return errors.New("the connection attempt timed out")
		}
		return failed.Err
	}
	return err
}

// advertisedHint returns what to change on the broker or here.
func advertisedHint(broker kmsg.MetadataResponseBroker, local netip.AddrPort) string {
	address := "127.0.0.1:PORT"
	if local.IsValid() {
		address = local.String()
	}
	hint := fmt.Sprintf("on the broker, add a listener with advertised.listeners=…,FORWARD://%s, and set remote_port to its port", address)
	if ip := net.ParseIP(broker.Host); ip == nil {
		hint += fmt.Sprintf(`; or set local_port = %d and add the line "127.0.0.1 %s" to /etc/hosts`, broker.Port, broker.Host)
	} else if ip.IsLoopback() {
		hint += fmt.Sprintf("; or set local_port = %d", broker.Port)
	}
	return hint + `; or set health_check.advertised = "ignore" if your clients do not use the advertised addresses`
}
