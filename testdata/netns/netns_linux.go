// Package netns makes hosts with a network between them for a test: Linux network namespaces, joined by virtual interfaces. They are
// not visible outside, and vanish with the test, also when its process is killed. It needs root.
package netns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/process"
)

// Host is a network namespace with an interface: a machine as far as its network is concerned.
type Host struct {
	Addr netip.Addr // on Link
	Link string     // the interface to the other host, or to the bastion

	t            testing.TB
	holder       *process.Child // a process that keeps the namespace open
	prefixLength int            // of every address
}

// NewHostPair makes two hosts that can connect to each other.
func NewHostPair(t testing.TB) (local, remote *Host) {
	t.Helper()
	requireNetns(t)
	local, remote = newHost(t, "10.77.0.1"), newHost(t, "10.77.0.2")
	connectHosts(local, remote, local.Link, remote.Link)
	local.AddAddress(local.Addr)
	remote.AddAddress(remote.Addr)
	return local, remote
}

// NewHost makes a host without a neighbour.
func NewHost(t testing.TB) *Host {
	t.Helper()
	requireNetns(t)
	return newHost(t, "10.77.0.1")
}

// AddHostBehind makes a third host, which can connect to h alone: h is a bastion and does not route.
func (h *Host) AddHostBehind() (inner *Host) {
	h.t.Helper()
	inner = newHost(h.t, "10.78.0.2")
	const link = "inner"
	connectHosts(h, inner, link, inner.Link)
	h.Run("ip", "addr", "add", fmt.Sprintf("10.78.0.1/%d", h.prefixLength), "dev", link)
	inner.AddAddress(inner.Addr)
	return inner
}

// requireNetns skips the test if it cannot make network namespaces.
func requireNetns(t testing.TB) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can make network namespaces")
	}
	for _, program := range []string{"ip", "unshare", "nsenter", "iptables"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("%s is missing (Debian: iproute2, util-linux, iptables)", program)
		}
	}
}

// connectHosts connects two hosts by interfaces of these names, which are up and have no address.
func connectHosts(a, b *Host, atA, atB string) {
	a.t.Helper()
	runProgram(a.t, "ip", "link", "add", atA, "netns", a.pid(), "type", "veth", "peer", "name", atB, "netns", b.pid())
	for h, link := range map[*Host]string{a: atA, b: atB} {
		// Otherwise the interface gets a link-local address some time later, which a test would see as a change of the network.
		h.Run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/"+link+"/disable_ipv6")
		h.Run("ip", "link", "set", link, "up")
	}
}

// newHost makes a host that has only a loopback interface yet.
func newHost(t testing.TB, addr string) *Host {
	t.Helper()
	readyCh := make(chan struct{}, 1)
	holder, err := process.Start(process.Command{
		Argv: []string{"unshare", "--net", "sh", "-c", "ip link set lo up && echo ready && exec sleep infinity"}, Dir: "/", Env: os.Environ(),
		OnLine: func(_ process.Stream, line string) {
			if line == "ready" {
				readyCh <- struct{}{}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = holder.Close() })
	select {
	case <-readyCh:
	case <-holder.Done():
		t.Fatalf("make a network namespace: %v", holder.LastLines())
	}
	return &Host{Addr: netip.MustParseAddr(addr), Link: "wire", t: t, holder: holder, prefixLength: 24}
}

func (h *Host) pid() string { return fmt.Sprint(h.holder.Pid()) }

// Argv returns the command line that runs argv on the host.
func (h *Host) Argv(argv ...string) []string {
	return append([]string{"nsenter", "--net=/proc/" + h.pid() + "/ns/net", "--"}, argv...)
}

// Run runs a program on the host. The test fails if the program does.
func (h *Host) Run(argv ...string) {
	h.t.Helper()
	runProgram(h.t, h.Argv(argv...)...)
}

func runProgram(t testing.TB, argv ...string) {
	t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(t.Context()), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", strings.Join(argv, " "), err, out)
	}
}

// AddAddress adds an address to the host's interface.
func (h *Host) AddAddress(addr netip.Addr) {
	h.t.Helper()
	h.Run("ip", "addr", "add", fmt.Sprintf("%v/%d", addr, h.prefixLength), "dev", h.Link)
}

// RemoveAddress removes an address from the host's interface.
func (h *Host) RemoveAddress(addr netip.Addr) {
	h.t.Helper()
	h.Run("ip", "addr", "del", fmt.Sprintf("%v/%d", addr, h.prefixLength), "dev", h.Link)
}

// SetLink sets the host's interface up or down.
func (h *Host) SetLink(up bool) {
	h.t.Helper()
	state := "down"
	if up {
		state = "up"
	}
	h.Run("ip", "link", "set", h.Link, state)
}

// DropIncoming begins, or ends, dropping every packet that arrives at the host, without an answer to the sender.
func (h *Host) DropIncoming(drop bool) {
	h.t.Helper()
	command := "--append"
	if !drop {
		command = "--delete"
	}
	h.Run("iptables", "--wait", command, "INPUT", "--in-interface", h.Link, "--jump", "DROP")
}

// RunInNamespace runs f in the host's namespace. Sockets that f makes stay there.
func (h *Host) RunInNamespace(f func()) {
	h.t.Helper()
	var err error
	runOnOwnThread(func() {
		var ns *os.File
		if ns, err = os.Open("/proc/" + h.pid() + "/ns/net"); err != nil {
			return
		}
		defer ns.Close()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err == nil { //nolint:gosec // it is a descriptor
			f()
		}
	})
	if err != nil {
		h.t.Fatalf("enter a network namespace: %v", err)
	}
}

// runOnOwnThread runs f on a thread that ends afterwards, and so may enter a namespace. It is never the main thread, which cannot end, and whose
// namespaces are those of the process for everybody who looks into /proc/PID/ns.
func runOnOwnThread(f func()) {
	doneCh := make(chan struct{})
	go func() {
		defer close(doneCh)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			runOnOwnThread(f) // the main thread is this goroutine's meanwhile
			runtime.UnlockOSThread()
			return
		}
		f() // without UnlockOSThread: the thread ends with the goroutine
	}()
	<-doneCh
}

// Dial connects from the host to an address.
func (h *Host) Dial(addr string) (conn net.Conn, err error) {
	h.t.Helper()
	h.RunInNamespace(func() { conn, err = net.DialTimeout("tcp4", addr, 10*time.Second) })
	return conn, err
}

// Listen listens on an address of the host.
func (h *Host) Listen(addr string) (l net.Listener, err error) {
	h.t.Helper()
	h.RunInNamespace(func() { l, err = net.Listen("tcp4", addr) })
	return l, err
}

// AddBridge makes a bridge with an address on the host, as a container engine does.
func (h *Host) AddBridge(name string, addr netip.Addr) {
	h.t.Helper()
	h.Run("ip", "link", "add", name, "type", "bridge")
	h.Run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/"+name+"/disable_ipv6")
	h.Run("ip", "addr", "add", fmt.Sprintf("%v/%d", addr, h.prefixLength), "dev", name)
	h.Run("ip", "link", "set", name, "up")
}

// RemoveBridge removes a bridge.
func (h *Host) RemoveBridge(name string) {
	h.t.Helper()
	h.Run("ip", "link", "del", name)
}

// AddContainer makes a host with an address that is connected to a bridge of h, as a container is. port is the name of the bridge's port.
func (h *Host) AddContainer(bridge, port string, addr netip.Addr) *Host {
	h.t.Helper()
	container := newHost(h.t, addr.String())
	connectHosts(h, container, port, container.Link)
	h.ConnectToBridge(bridge, port)
	container.AddAddress(addr)
	return container
}

// ConnectToBridge makes an interface a port of a bridge.
func (h *Host) ConnectToBridge(bridge, port string) {
	h.t.Helper()
	h.Run("ip", "link", "set", port, "master", bridge)
}
