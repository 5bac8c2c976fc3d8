package ssh

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/ssh/askpass"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/testdata/sshd"
)

func logins(server *sshd.Server) int { return strings.Count(server.Log(), "Accepted publickey") }

func TestTenForwardsToOneHostAreOneLogin(t *testing.T) {
	server := sshd.Start(t)
	r := run(t)
	var all [10]forwarder.Tunnel
	var opening sync.WaitGroup
	for i := range all {
		svc := service(server, backend(t))
		opening.Go(func() { all[i] = openIn(t, svc, r) })
	}
	opening.Wait()
	for _, tunnel := range all {
		welcome(t, dial(t, tunnel))
	}
	if n := logins(server); n != 1 {
		t.Errorf("%d logins", n)
	}
	master := all[0].(*direct).master
	for i, tunnel := range all {
		select {
		case <-master.done:
			t.Fatalf("it ended with %d users left", len(all)-i)
		default:
		}
		_ = tunnel.Close()
	}
	<-master.done // with the last of them
}

func TestOneForwardComesAndGoesAndTheOthersConnectionsStay(t *testing.T) {
	server := sshd.Start(t)
	r := run(t)
	addr := backend(t)
	stays := dial(t, openIn(t, service(server, addr), r))
	welcome(t, stays)
	for range 3 {
		tunnel := openIn(t, service(server, addr), r)
		conn := dial(t, tunnel)
		welcome(t, conn)
		_ = tunnel.Close()
		if _, err := conn.Next(); err == nil || !conn.Broken() {
			t.Errorf("the connection of a closed tunnel: %v, broken %v", err, conn.Broken())
		}
	}
	if _, err := stays.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if b, err := stays.Next(); err != nil || string(b) != "x" {
		t.Errorf("got %q, %v", b, err)
	}
	if n := logins(server); n != 1 {
		t.Errorf("%d logins", n)
	}
}

func TestWhatIsToBeAloneIs(t *testing.T) {
	server := sshd.Start(t)
	r := run(t)
	for _, name := range []string{"a", "b"} {
		svc := service(server, backend(t))
		svc.Name, svc.Connection.Settings["multiplex"] = name, false
		welcome(t, dial(t, openIn(t, svc, r)))
	}
	if n := logins(server); n != 2 {
		t.Errorf("%d logins", n)
	}
}

func TestWhoSharesAMasterSharesItsFailureAndKnocksOnce(t *testing.T) {
	server := sshd.Start(t)
	server.Kill()
	svc := service(server, "127.0.0.1:1")
	r := run(t)
	d := driverOf(t).destination(specOf(svc), r)
	first := fails(t, svc, r)
	tried := d.tried
	for range 5 {
		if f := fails(t, svc, r); *f != *first {
			t.Errorf("got %+v, want %+v", f, first)
		}
	}
	if d.tried != tried {
		t.Error("it was tried again at once")
	}
	r.Urgent = true // a client waits
	transient(t, fails(t, svc, r), "Connection refused")
	if again := d.tried.Sub(tried); again < pace {
		t.Errorf("it was tried again after %v", again)
	}
}

func TestWhatOnlyTheUserCanHelpIsNotTriedUntilTheUserActs(t *testing.T) {
	server := sshd.Start(t)
	svc := service(server, backend(t))
	dir := t.TempDir()
	svc.Connection.Settings["key_file"] = sshd.NewKey(t, filepath.Join(dir, "new"), "")
	svc.Connection.Settings["config_file"] = filepath.Join(dir, "config")
	stripped := strings.ReplaceAll(read(t, server.ConfigFile), "IdentityFile "+server.KeyFile+"\n", "")
	if err := os.WriteFile(svc.Connection.Settings.Text("config_file"), []byte(stripped), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t)
	if f := fails(t, svc, r); f.Class != forwarder.ByAttention {
		t.Fatalf("got %+v", f)
	}
	server.Authorize(svc.Connection.Settings.Text("key_file"))
	r.Urgent = true
	if f := fails(t, svc, r); f.Class != forwarder.ByAttention {
		t.Fatalf("got %+v", f)
	}
	r.Asked = time.Now()
	welcome(t, dial(t, openIn(t, svc, r)))
}

func TestAClientHasWhatSeemedForGoodTriedAgain(t *testing.T) {
	server := sshd.Start(t)
	svc := service(server, backend(t))
	good := svc.Connection.Settings.Text("config_file")
	svc.Connection.Settings["config_file"] = filepath.Join(t.TempDir(), "config")
	r := run(t)
	if f := fails(t, svc, r); f.Class != forwarder.Permanent {
		t.Fatalf("got %+v", f)
	}
	if err := os.WriteFile(svc.Connection.Settings.Text("config_file"), []byte(read(t, good)), 0o600); err != nil {
		t.Fatal(err)
	}
	if f := fails(t, svc, r); f.Class != forwarder.Permanent {
		t.Errorf("it was tried again for nobody: %+v", f)
	}
	r.Urgent = true
	welcome(t, dial(t, openIn(t, svc, r)))
}

// answering is a user who answers in turn.
func answering(t *testing.T, answers ...string) (socket string, asked func() []string) {
	t.Helper()
	var mu sync.Mutex
	var questions []string
	l, err := askpass.Listen(t.Context(), filepath.Dir(run(t).Sockets), func(_ context.Context, q askpass.Question) (string, bool) {
		mu.Lock()
		defer mu.Unlock()
		questions = append(questions, q.Text)
		if len(questions) > len(answers) {
			return "", false
		}
		return answers[len(questions)-1], true
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Socket(), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return questions
	}
}

func TestALoginAsksTheUserAndTheForwardsGoOnWithIt(t *testing.T) {
	server := sshd.Start(t)
	dir := t.TempDir()
	locked := sshd.NewKey(t, filepath.Join(dir, "locked"), "a passphrase")
	server.Authorize(locked)
	hosts := filepath.Join(dir, "known_hosts")
	svc := service(server, backend(t))
	svc.Connection.Settings["key_file"] = locked
	svc.Connection.Settings["config_file"] = filepath.Join(dir, "config")
	stripped := strings.ReplaceAll(read(t, server.ConfigFile), "IdentityFile "+server.KeyFile+"\n", "")
	stripped = strings.ReplaceAll(stripped, server.KnownHosts, hosts)
	if err := os.WriteFile(svc.Connection.Settings.Text("config_file"), []byte(stripped), 0o600); err != nil {
		t.Fatal(err)
	}
	r := run(t)
	if f := fails(t, svc, r); f.Class != forwarder.ByAttention || f.Reason != "Host key verification failed." {
		t.Fatalf("got %+v", f)
	}
	var asked func() []string
	r.Ask, asked = answering(t, "yes", "a passphrase")
	welcome(t, dial(t, openIn(t, svc, r)))
	questions := asked()
	if len(questions) != 2 || !strings.Contains(questions[0], "key fingerprint is SHA256:") ||
		!strings.Contains(questions[1], "Enter passphrase for key '"+locked+"'") {
		t.Errorf("asked %q", questions)
	}
	if !strings.Contains(read(t, hosts), "ssh-ed25519") {
		t.Error("the host's key was not remembered")
	}
	r.Ask = ""
	welcome(t, dial(t, openIn(t, svc, r))) // another service, on the same login
	if log := r.Log.(*logged).String(); strings.Contains(log, "a passphrase") {
		t.Errorf("the log has the passphrase:\n%s", log)
	}
}

func TestALoginThatIsNotAnsweredIsNotRepeated(t *testing.T) {
	server := sshd.Start(t)
	svc := service(server, backend(t))
	svc.Connection.Settings["options"] = map[string]string{"UserKnownHostsFile": "/dev/null"}
	r := run(t)
	var asked func() []string
	r.Ask, asked = answering(t)
	if f := fails(t, svc, r); f.Class != forwarder.ByAttention {
		t.Errorf("got %+v", f)
	}
	r.Asked = time.Now() // another service, of the same login
	if f := fails(t, svc, r); f.Class != forwarder.ByAttention {
		t.Errorf("got %+v", f)
	}
	if n := len(asked()); n != 1 {
		t.Errorf("asked %d times", n)
	}
	r.Ask, asked = answering(t, "yes") // another login
	welcome(t, dial(t, openIn(t, svc, r)))
	if n := len(asked()); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestAHostKeyThatChangedIsNotAcceptedWhateverTheConfigurationSays(t *testing.T) {
	server := sshd.Start(t)
	server.NewHostKey()
	for _, check := range []string{"no", "ask", "accept-new"} {
		svc := service(server, backend(t))
		svc.Connection.Settings["options"] = map[string]string{"StrictHostKeyChecking": check}
		r := run(t)
		r.Ask, _ = answering(t, "yes", "yes")
		if f := fails(t, svc, r); f.Class != forwarder.Permanent || !strings.Contains(f.Reason, "HAS CHANGED") {
			t.Errorf("%s: %+v", check, f)
		}
	}
}

func TestADoubtedMasterIsEndedUnlessItsServerAnswers(t *testing.T) {
	server := sshd.Start(t)
	svc := service(server, backend(t))
	svc.Connection.Settings["options"] = map[string]string{"ServerAliveInterval": "60"}
	tunnel := open(t, svc)
	tunnel.Doubt()
	welcome(t, dial(t, tunnel))
	defer server.Kill() // the backend waits for its clients
	server.Freeze()
	tunnel.Doubt()
	transient(t, ended(t, tunnel), "the ssh server has not answered for 3s")
}

// The answer to a question from before a doubt says nothing about it.
func TestADoubtDuringADoubtHasTheServerAskedAgain(t *testing.T) {
	server := sshd.Start(t)
	svc := service(server, backend(t))
	svc.Connection.Settings["options"] = map[string]string{"ServerAliveInterval": "60"}
	tunnel := open(t, svc)
	before := tunnel.master.conn.Refusals() // each question is a channel that is refused
	server.Freeze()
	tunnel.Doubt()
	tunnel.Doubt()
	server.Thaw()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(10 * time.Second)
	for tunnel.master.conn.Refusals() < before+2 {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("asked %d times", tunnel.master.conn.Refusals()-before)
		}
	}
}

func TestWhoComesToASilentMasterGetsAnother(t *testing.T) {
	server := sshd.Start(t)
	svc := service(server, backend(t))
	svc.Connection.Settings["options"] = map[string]string{"ServerAliveInterval": "60"}
	r := run(t)
	old := openIn(t, svc, r).(*direct)
	old.master.began = time.Now().Add(-time.Minute)
	if err := syscall.Kill(old.master.child.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	// What it has said so far is too fresh to doubt it.
	ctx, cancel := context.WithTimeout(t.Context(), fresh)
	defer cancel()
	<-ctx.Done()
	welcome(t, dial(t, openIn(t, svc, r)))
	if f := ended(t, old); f.Class != forwarder.Transient {
		t.Errorf("the old one: %+v", f)
	}
}

func TestAGivenUpStartLeavesNothing(t *testing.T) {
	server := sshd.Start(t)
	server.Freeze()
	svc := service(server, "127.0.0.1:1")
	r := run(t)
	ctx, giveUp := context.WithCancel(t.Context())
	var all sync.WaitGroup
	var given atomic.Int32
	for range 3 {
		all.Go(func() {
			if _, err := driverOf(t).Open(ctx, svc, r); errors.Is(err, context.Canceled) {
				given.Add(1)
			}
		})
	}
	giveUp()
	all.Wait()
	if given.Load() != 3 {
		t.Errorf("%d were given up", given.Load())
	}
	if d := driverOf(t).destination(specOf(svc), r); d.master != nil {
		t.Error("a master is left")
	}
}

func TestDriver_CloseEndsAStartThatIsUnderWay(t *testing.T) {
	server := sshd.Start(t)
	server.Freeze()
	d := newDriver(t.Context())
	svc, r := service(server, "127.0.0.1:1"), run(t)
	opened := make(chan error)
	go func() {
		_, err := d.Open(t.Context(), svc, r)
		opened <- err
	}()
	to := d.destination(specOf(svc), r)
	for { // nothing tells when the ssh has been started
		to.mu.Lock()
		begun := to.master != nil
		to.mu.Unlock()
		if begun {
			break
		}
		runtime.Gosched()
	}
	_ = d.Close()
	if err := <-opened; err == nil {
		t.Error("it was opened")
	}
}

func TestDriver_SharesNothingWithAnother(t *testing.T) {
	server := sshd.Start(t)
	svc, r := service(server, backend(t)), run(t)
	welcome(t, dial(t, openIn(t, svc, r)))
	other := newDriver(context.WithoutCancel(t.Context()))
	tunnel, err := other.Open(t.Context(), svc, r)
	if err != nil {
		t.Fatal(err)
	}
	welcome(t, dial(t, tunnel))
	_ = tunnel.Close()
	_ = other.Close()
	if n := logins(server); n != 2 {
		t.Errorf("%d logins", n)
	}
}

// listening is a service whose far side listens.
func listening(t *testing.T, server *sshd.Server, far, local string) project.Service {
	t.Helper()
	svc := service(server, far)
	svc.Reverse = true
	addr := netip.MustParseAddrPort(local)
	svc.LocalPort, svc.LocalAddress = int(addr.Port()), addr.Addr()
	return svc
}

func TestTheFarSideListensAndLeadsHere(t *testing.T) {
	server := sshd.Start(t)
	far := refusing(t)
	r := run(t)
	tunnel := openIn(t, listening(t, server, far, backend(t)), r)
	conn, err := net.Dial("tcp4", far)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	welcome(t, conn)
	probe, err := tunnel.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	welcome(t, probe)
	_ = probe.Close()
	// A second one to the same port of the far side's cannot be had, and harms nobody.
	other := openIn(t, service(server, backend(t)), r)
	busy := listening(t, server, backend(t), backend(t))
	if f := fails(t, busy, r); f.Class != forwarder.Transient || !strings.Contains(f.Reason, "remote port forwarding failed for listen port") {
		t.Errorf("a port that is taken: %+v", f)
	}
	_ = tunnel.Close()
	if err := other.(*direct).master.conn.Ping(t.Context()); err != nil { // the far side has taken the word by then
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp4", far); err == nil {
		_ = conn.Close()
		t.Error("the far side still listens")
	}
	welcome(t, dial(t, other))
}

func TestAReverseForwardSaysWhenNothingListensHere(t *testing.T) {
	tunnel := openIn(t, listening(t, sshd.Start(t), refusing(t), refusing(t)), run(t))
	if r := refused(t, tunnel); !r.Connect || !strings.HasPrefix(r.Reason, "nothing listens on 127.0.0.1:") {
		t.Errorf("got %+v", r)
	}
}

func TestASOCKSPortLeadsAnywhereAndSaysWhy(t *testing.T) {
	server := sshd.Start(t)
	svc := service(server, backend(t))
	addr := netip.MustParseAddrPort(net.JoinHostPort(svc.Connection.Settings.Text("remote_host"), svc.RemotePort))
	svc.RemotePort, svc.Connection.Settings["remote_host"], svc.Connection.Settings["socks"] = "", "", true
	tunnel := openIn(t, svc, run(t))
	ask := func(to netip.AddrPort) (net.Conn, byte) {
		conn, err := tunnel.Dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		ip := to.Addr().As4()
		go func() {
			_, _ = conn.Write(append([]byte{5, 1, 0, 5, 1, 0, 1}, ip[0], ip[1], ip[2], ip[3], byte(to.Port()>>8), byte(to.Port())))
		}()
		var answer [12]byte
		if _, err := io.ReadFull(conn, answer[:]); err != nil {
			t.Fatal(err)
		}
		return conn, answer[3]
	}
	conn, reply := ask(addr)
	if reply != 0 {
		t.Fatalf("refused: %d", reply)
	}
	welcome(t, conn)
	if _, reply := ask(netip.MustParseAddrPort(refusing(t))); reply != 5 {
		t.Errorf("a port without a server: %d", reply)
	}
}
