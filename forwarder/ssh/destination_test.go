package ssh

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/tunneltest"
)

func countLogins(server *sshd.Server) int { return strings.Count(server.Log(), "Accepted publickey") }

func TestDestination_TenForwardsShareOneLogin(t *testing.T) {
	server := sshd.Start(t)
	r := newRun(t)
	var all [10]forwarder.Tunnel
	var opening sync.WaitGroup
	for i := range all {
		svc := newService(server, startBackend(t))
		opening.Go(func() { all[i] = openTunnel(t, svc, r) })
	}
	opening.Wait()
	for _, tunnel := range all {
		requireWelcome(t, dialTunnel(t, tunnel))
	}
	if n := countLogins(server); n != 1 {
		t.Errorf("%d logins", n)
	}
	master := all[0].(*directTunnel).master
	for i, tunnel := range all {
		select {
		case <-master.doneCh:
			t.Fatalf("the master ended with %d users left", len(all)-i)
		default:
		}
		_ = tunnel.Close()
	}
	<-master.doneCh // the last user has released it
}

func TestDestination_ClosedTunnelKeepsOthersConnections(t *testing.T) {
	server := sshd.Start(t)
	r := newRun(t)
	addr := startBackend(t)
	kept := dialTunnel(t, openTunnel(t, newService(server, addr), r))
	requireWelcome(t, kept)
	for range 3 {
		tunnel := openTunnel(t, newService(server, addr), r)
		conn := dialTunnel(t, tunnel)
		requireWelcome(t, conn)
		_ = tunnel.Close()
		if _, err := conn.Next(); err == nil || !conn.IsBroken() {
			t.Errorf("the connection of a closed tunnel: %v, broken %v", err, conn.IsBroken())
		}
	}
	if _, err := kept.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if b, err := kept.Next(); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v", b, err)
	}
	if n := countLogins(server); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestDestination_MultiplexFalseUsesSeparateMasters(t *testing.T) {
	server := sshd.Start(t)
	r := newRun(t)
	for _, name := range []string{"a", "b"} {
		svc := newService(server, startBackend(t))
		svc.Name, svc.Connection.Settings["multiplex"] = name, false
		requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
	}
	if n := countLogins(server); n != 2 {
		t.Errorf("%d logins", n)
	}
}

func TestDestination_SharesFailureOfOneAttempt(t *testing.T) {
	server := sshd.Start(t)
	server.Kill()
	svc := newService(server, "127.0.0.1:1")
	r := newRun(t)
	d := driverOf(t).destinationFor(newTunnelSpec(svc), r)
	first := openFailure(t, svc, r)
	d.mu.Lock()
	firstAttemptAt := d.lastAttemptAt
	d.failureCount = 10 // so that the failure counts for 10 s, not for 0.2 s
	d.mu.Unlock()
	for range 5 {
		if f := openFailure(t, svc, r); f.Class != first.Class || f.Reason != first.Reason || f.Hint != first.Hint {
			t.Errorf("got %+v, want %+v", f, first)
		}
	}
	if d.lastAttemptAt != firstAttemptAt {
		t.Error("a new attempt was made at once")
	}
	r.IsUrgent = true // a client waits
	checkTransient(t, openFailure(t, svc, r), "Connection refused")
	if interval := d.lastAttemptAt.Sub(firstAttemptAt); interval < urgentInterval.First {
		t.Errorf("the next attempt was made after %v", interval)
	}
}

func TestDestination_AttentionFailureIsRetriedOnlyAfterUserAction(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	dir := t.TempDir()
	svc.Connection.Settings["key_file"] = sshd.NewKey(t, filepath.Join(dir, "new"), "")
	svc.Connection.Settings["config_file"] = filepath.Join(dir, "config")
	stripped := strings.ReplaceAll(readFile(t, server.ConfigFile), "IdentityFile "+server.KeyFile+"\n", "")
	if err := os.WriteFile(svc.Connection.Settings.Text("config_file"), []byte(stripped), 0o600); err != nil {
		t.Fatal(err)
	}
	r := newRun(t)
	if f := openFailure(t, svc, r); f.Class != forwarder.NeedsUser {
		t.Fatalf("got %+v", f)
	}
	server.Authorize(svc.Connection.Settings.Text("key_file"))
	r.IsUrgent = true
	if f := openFailure(t, svc, r); f.Class != forwarder.NeedsUser {
		t.Fatalf("got %+v", f)
	}
	r.RequestedAt = time.Now()
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
}

func TestDestination_PermanentFailureIsRetriedWhenAFileChanges(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	good := svc.Connection.Settings.Text("config_file")
	svc.Connection.Settings["config_file"] = filepath.Join(t.TempDir(), "config")
	r := newRun(t)
	for range 2 {
		if f := openFailure(t, svc, r); f.Class != forwarder.Permanent {
			t.Fatalf("got %+v", f)
		}
	}
	if err := os.WriteFile(svc.Connection.Settings.Text("config_file"), []byte(readFile(t, good)), 0o600); err != nil {
		t.Fatal(err)
	}
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
}

func TestDestination_ReplacesUnresponsiveMaster(t *testing.T) {
	server := sshd.Start(t)
	svc := newService(server, startBackend(t))
	svc.Connection.Settings["options"] = map[string]string{"ServerAliveInterval": "60"}
	r := newRun(t)
	old := openTunnel(t, svc, r).(*directTunnel)
	old.master.loggedInAt = time.Now().Add(-time.Minute)
	if err := syscall.Kill(old.master.child.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// Wait until its last message no longer proves that it is alive.
	ctx, cancel := context.WithTimeout(t.Context(), livenessMaxAge)
	defer cancel()
	<-ctx.Done()
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
	if f := tunneltest.WaitFailure(t, old); f.Class != forwarder.Transient {
		t.Errorf("the old master: %+v", f)
	}
}

func TestDestination_CancelledOpenLeavesNoMaster(t *testing.T) {
	server := sshd.Start(t)
	server.Freeze()
	svc := newService(server, "127.0.0.1:1")
	r := newRun(t)
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var canceledCount atomic.Int32
	for range 3 {
		all.Go(func() {
			if _, err := driverOf(t).Open(ctx, svc, r); errors.Is(err, context.Canceled) {
				canceledCount.Add(1)
			}
		})
	}
	cancel()
	all.Wait()
	if canceledCount.Load() != 3 {
		t.Errorf("%d opens were canceled", canceledCount.Load())
	}
	if d := driverOf(t).destinationFor(newTunnelSpec(svc), r); d.master != nil {
		t.Error("the destination still has a master")
	}
}

// A denied login is tried again when the agent has another key, and when it is looked at again: the key may be accepted by now.
func TestDestination_DeniedLoginIsLookedAtAgain(t *testing.T) {
	server := sshd.Start(t)
	key := sshd.NewKey(t, filepath.Join(t.TempDir(), "key"), "")
	svc := newService(server, startBackend(t))
	r := newRun(t)
	agent := sshd.StartAgent(t)
	r.Env = append(r.Env, AgentVariable+"="+agent)
	config := filepath.Join(t.TempDir(), "config")
	data, err := os.ReadFile(server.ConfigFile)
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("IdentityFile "+server.KeyFile, "IdentityFile none", "IdentityAgent none\n", "", "IdentitiesOnly yes\n", "").Replace(string(data))
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	svc.Connection.Settings["config_file"] = config
	delete(svc.Connection.Settings, "key_file")
	f := openFailure(t, svc, r)
	if f.Class != forwarder.NeedsUser || f.RecheckAfter != recheckInterval {
		t.Fatalf("got %+v", f)
	}
	runSSHAdd(t, agent, key)
	requireChange(t, f)
	server.Authorize(key)
	d := driverOf(t).destinationFor(newTunnelSpec(svc), r)
	if d.cachedFailure(r) == nil {
		t.Error("without a change another attempt is made")
	}
	r.ChangedAt = d.lastAttemptAt.Add(2 * forwarder.SharedFailureTime)
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
}

// A change of the network is often several, and a server that refuses five logins in a minute may lock the user out.
func TestDestination_ChangesOfTheNetworkRepeatARefusedLoginOnce(t *testing.T) {
	server := sshd.Start(t)
	svc, r := newService(server, startBackend(t)), newRun(t)
	svc.Connection.Settings["config_file"] = writeMinimalConfig(t, server)
	svc.Connection.Settings["key_file"] = sshd.NewKey(t, filepath.Join(t.TempDir(), "key"), "")
	_ = openFailure(t, svc, r)
	d := driverOf(t).destinationFor(newTunnelSpec(svc), r)
	first := d.lastAttemptAt
	r.IsUrgent = true
	for range 3 {
		driverOf(t).OnNetworkChange()
		if f := openFailure(t, svc, r); f.Class != forwarder.NeedsUser || !d.lastAttemptAt.Equal(first) {
			t.Fatalf("the server was asked again after %v: %+v", d.lastAttemptAt.Sub(first), f)
		}
	}
	if again := d.inputs.retryAt; !again.Equal(first.Add(forwarder.SharedFailureTime)) {
		t.Errorf("it is asked again after %v", again.Sub(first))
	}
	d.lastAttemptAt = first.Add(-forwarder.SharedFailureTime)
	driverOf(t).OnNetworkChange()
	if _ = openFailure(t, svc, r); !d.lastAttemptAt.After(first) {
		t.Error("the server was not asked again")
	}
}

// A server that ends each connection, as sshd does above MaxStartups, is tried less and less often, however many clients wait.
func TestDestination_AttemptsAtARefusingServerBecomeRare(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var count atomic.Int32
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			count.Add(1)
			_ = conn.Close()
		}
	}()
	defer func() { _ = listener.Close(); <-served }()
	host, port, _ := net.SplitHostPort(listener.Addr().String())
	svc := project.Service{RemotePort: "1", Connection: project.Connection{Settings: project.Settings{
		"host": host, "port": mustAtoi(t, port), "config_file": "none", "remote_host": "localhost",
		"options": map[string]string{"UserKnownHostsFile": "/dev/null"},
	}}}
	r := newRun(t)
	r.IsUrgent = true
	started := time.Now()
	for range 3 {
		checkTransient(t, openFailure(t, svc, r), "")
	}
	if got, elapsed := count.Load(), time.Since(started); got != 3 || elapsed < 3*time.Second { // 1 s, then 2 s
		t.Errorf("%d connections in %v", got, elapsed)
	}
	d := driverOf(t).destinationFor(newTunnelSpec(svc), r)
	if d.refusalCount != 3 {
		t.Errorf("%d refusals are counted", d.refusalCount)
	}
}

// intervalsAfter calls recordFailure with reasons in turn, and returns the interval after each.
func intervalsAfter(d *destination, reasons ...string) []time.Duration {
	var intervals []time.Duration
	for _, reason := range reasons {
		d.recordFailure(&master{}, &forwarder.Failure{Reason: reason})
		intervals = append(intervals, d.attemptInterval()/time.Second)
	}
	return intervals
}

func TestDestination_AttemptIntervalGrowsWithRefusals(t *testing.T) {
	const refused, reset, timedOut = "ssh: connect to host db port 22: Connection refused", "kex_exchange_identification: read: Connection reset by peer", "ssh: connect to host db port 22: Connection timed out"
	for name, tt := range map[string]struct {
		reasons []string
		want    []time.Duration // in seconds
	}{
		"closed port":          {slices.Repeat([]string{refused}, 17), []time.Duration{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 8, 16, 30, 30, 30}},
		"ends each connection": {[]string{reset, reset, reset, reset}, []time.Duration{1, 2, 4, 8}},
		"bans after refusals":  {[]string{reset, reset, reset, refused, refused}, []time.Duration{1, 2, 4, 4, 4}},
		"restarts":             {[]string{reset, refused, refused, refused}, []time.Duration{1, 1, 1, 1}},
		"unreachable":          {append(slices.Repeat([]string{refused}, 12), timedOut, refused), []time.Duration{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 1, 1}},
	} {
		d := &destination{}
		if got := intervalsAfter(d, tt.reasons...); !slices.Equal(got, tt.want) {
			t.Errorf("%s: %d, want %d", name, got, tt.want)
		}
		d.onNetworkChange()
		if got := d.attemptInterval(); got != time.Second {
			t.Errorf("%s: %v after a change of the network", name, got)
		}
	}
}

// A ban by a firewall that rejects connections is not prolonged by a client that waits; a change of the network ends the wait.
func TestDestination_RefusedConnectionsBecomeRareUntilTheNetworkChanges(t *testing.T) {
	server := sshd.Start(t)
	server.Kill()
	svc, r := newService(server, startBackend(t)), newRun(t)
	r.IsUrgent = true
	checkTransient(t, openFailure(t, svc, r), "Connection refused")
	d := driverOf(t).destinationFor(newTunnelSpec(svc), r)
	if d.refusedConnects != 1 || d.attemptInterval() != time.Second {
		t.Errorf("%d refusals, interval %v", d.refusedConnects, d.attemptInterval())
	}
	d.refusedConnects = 20
	later := r
	later.IsUrgent = false
	d.lastAttemptAt = time.Now().Add(-20 * time.Second)
	if d.cachedFailure(later) == nil {
		t.Error("without a client, another attempt is made before the interval has passed")
	}
	server.Restart()
	openedCh := make(chan error, 1)
	go func() {
		tunnel, err := driverOf(t).Open(t.Context(), svc, r)
		if err == nil {
			_ = tunnel.Close()
		}
		openedCh <- err
	}()
	waitUntil(t, func() bool { // it waits
		d.log.mu.Lock()
		defer d.log.mu.Unlock()
		return len(d.log.writers) > 0
	})
	select {
	case err := <-openedCh:
		t.Fatalf("no wait before the next attempt: %v", err)
	default:
	}
	driverOf(t).OnNetworkChange()
	if err := <-openedCh; err != nil {
		t.Fatal(err)
	}
	if d.refusedConnects != 0 {
		t.Errorf("%d refusals are counted after a login", d.refusedConnects)
	}
}

// A server that restarts is reached within a second of its start.
func TestDestination_RestartingServerIsReachedSoon(t *testing.T) {
	server := sshd.Start(t)
	server.Kill()
	svc, r := newService(server, startBackend(t)), newRun(t)
	r.IsUrgent = true
	started := time.Now()
	for time.Since(started) < 5*time.Second {
		checkTransient(t, openFailure(t, svc, r), "Connection refused")
	}
	server.Restart()
	d := driverOf(t).destinationFor(newTunnelSpec(svc), r)
	if d.attemptInterval() != time.Second {
		t.Errorf("after %d refusals, the interval is %v", d.refusedConnects, d.attemptInterval())
	}
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
}

// The user's request is not delayed.
func TestDestination_RequestOfTheUserIsAttemptedAtOnce(t *testing.T) {
	d := &destination{recheckInterval: recheckInterval, lastAttemptAt: time.Now(), lastFailure: &forwarder.Failure{}, failureCount: 20, refusedConnects: 20}
	if _, delay, _ := d.tryAcquireMaster(forwarder.Run{IsUrgent: true}); delay < 20*time.Second {
		t.Errorf("a client waits for %v", delay)
	}
	run := forwarder.Run{IsUrgent: true, RequestedAt: time.Now()}
	if f := d.cachedFailure(run); f != nil {
		t.Errorf("got %v", f)
	}
	if !d.isRequested(run) {
		t.Error("a request of the user waits")
	}
}

func TestDestination_ForgetsWhatALoginNoLongerNeeds(t *testing.T) {
	d := &destination{nextLogin: loginOptions{connectTimeout: maxConnectTimeout, bypassesJumpMaster: true}}
	d.recordLogin(&master{startedAt: time.Now().Add(-defaultConnectTimeout)})
	if d.nextLogin.connectTimeout != maxConnectTimeout || !d.nextLogin.bypassesJumpMaster {
		t.Errorf("after a slow login: %+v", d.nextLogin)
	}
	d.recordLogin(&master{startedAt: time.Now()})
	d.recordFailure(&master{}, &forwarder.Failure{Reason: "deploy@jump: Permission denied (publickey)."})
	if d.nextLogin.connectTimeout != defaultConnectTimeout || d.nextLogin.bypassesJumpMaster {
		t.Errorf("after a quick login, and one that was denied: %+v", d.nextLogin)
	}
}

func mustAtoi(t *testing.T, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
