package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/netns"
	"github.com/localport-sh/localport/testdata/sshd"
)

// on has the world's localport run on a host of its own.
func (w *world) on(h *netns.Host) {
	w.t.Helper()
	script := filepath.Join(w.home, "localport")
	text := "#!/bin/sh\nexec " + strings.Join(h.Argv(w.exe), " ") + " \"$@\"\n"
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		w.t.Fatal(err)
	}
	w.exe = script
}

// bannerOn is a server of banner's kind on a host.
func bannerOn(t *testing.T, h *netns.Host, addr string) int {
	t.Helper()
	l, err := h.Listen(addr)
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintln(conn, "220 ready")
			conn.Close()
		}
	})
	t.Cleanup(func() { l.Close(); serving.Wait() })
	return l.Addr().(*net.TCPAddr).Port
}

// mishap is something that happens to a network or to what is at its other end.
type mishap struct {
	name        string
	begin, mend func()
}

// outlived checks that a mishap is noticed, that a client that comes meanwhile is let in, and that it gets through after it.
func (w *world) outlived(t *testing.T, here *netns.Host, root, name string, port int, m mishap) {
	t.Helper()
	eventually(t, "it is well before", func() bool { return w.service(root, name).State == forwarder.Healthy })
	began := time.Now()
	m.begin()
	conn, err := here.Dial(fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatalf("%s: the port is closed: %v", m.name, err)
	}
	defer conn.Close()
	answered := make(chan string, 1)
	go func() {
		got, err := io.ReadAll(conn)
		answered <- fmt.Sprintf("%s %v", strings.TrimSpace(string(got)), err)
	}()
	eventually(t, m.name+" is noticed", func() bool { return w.service(root, name).State != forwarder.Healthy })
	noticed := time.Since(began)
	said := w.service(root, name).LastError
	mended := time.Now()
	m.mend()
	if got := <-answered; got != "220 ready <nil>" {
		t.Errorf("%s: the client that waited got %s", m.name, got)
	}
	t.Logf("%-40s noticed after %.1f s (%s), answered %.1f s after it was over", m.name, noticed.Seconds(), said, time.Since(mended).Seconds())
}

func TestNamespaceEveryMishapOfANetworkIsNoticedAndOutlived(t *testing.T) {
	t.Parallel()
	here, there := netns.Pair(t)
	w := newWorld(t)
	w.on(here)
	host := sshd.StartOn(t, there, there.Addr.String())
	port := freePort(t)
	root := w.allowed(sshConfig("mail", port, host, bannerOn(t, there, "127.0.0.1:0")))
	w.must(root, "start")
	another := netip.MustParseAddr("10.77.0.3")
	for _, m := range []mishap{
		{"the server is killed", host.Kill, host.Restart},
		{"the server is frozen", host.Freeze, host.Thaw},
		{"the server is frozen and never wakes", host.Freeze, host.Restart},
		{"packets are lost in silence", func() { there.Drop(true) }, func() { there.Drop(false) }},
		{"our link is down", func() { here.SetLink(false) }, func() { here.SetLink(true) }},
		{"the server's link is down", func() { there.SetLink(false) }, func() { there.SetLink(true) }},
		{"our address goes, and another comes", func() { here.RemoveAddress(here.Addr) }, func() { here.AddAddress(another) }},
	} {
		w.outlived(t, here, root, "mail", port, m)
	}
	supervisor := w.supervisor(root)
	w.must(root, "stop")
	w.gone(supervisor)
	if left := childrenOf(t, supervisor.PID); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
