package ssh

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/sshd"
	"github.com/localport-sh/localport/testdata/syncbuf"
)

func TestDestination_BypassesHungMasterOfJumpHost(t *testing.T) {
	last := sshd.Start(t)
	first, second := last.StartAnother(), last.StartAnother()
	r := newRun(t)
	socketPath := filepath.Join(filepath.Dir(r.SocketDir), "kept") // accepts and never answers, as a master does whose network is down
	hungMaster, err := net.Listen("unix", socketPath)
	if err != nil {
		t.Fatal(err)
	}
	defer hungMaster.Close()
	var lines []string
	for name, jump := range map[string]*sshd.Server{"outer": first, "inner": second} {
		host, port, _ := net.SplitHostPort(jump.Addr())
		lines = append(lines, "Host "+name, "HostName "+host, "Port "+port, "User "+jump.User)
	}
	svc := newService(last, startBackend(t))
	svc.Connection.Settings["config_file"] = last.WriteClientConfig(append(lines, "Host outer", "ProxyJump inner", "ControlMaster auto", "ControlPath "+socketPath, "ControlPersist yes")...)
	svc.Connection.Settings["jump"] = "outer"
	svc.Connection.Settings["options"] = map[string]string{"ConnectTimeout": "8"}
	checkTransient(t, openFailure(t, svc, r), "timed out during banner exchange")
	r.IsUrgent = true
	requireWelcome(t, dialTunnel(t, openTunnel(t, svc, r)))
	if log := r.Log.(*syncbuf.Buffer).String(); !strings.Contains(log, "trying without the ControlPath masters") {
		t.Errorf("the log does not mention the retry:\n%s", log)
	}
	for _, jump := range []*sshd.Server{first, second} {
		if n := countLogins(jump); n != 1 {
			t.Errorf("%d logins to a jump host", n)
		}
	}
}
