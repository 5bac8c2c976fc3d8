package ssh

import (
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/testdata/sshd"
)

func TestAMasterThatTheUserKeepsToAJumpHostIsGoneAroundWhenItHangs(t *testing.T) {
	last := sshd.Start(t)
	first, second := last.Another(), last.Another()
	r := run(t)
	kept := filepath.Join(filepath.Dir(r.Sockets), "kept") // accepts and says nothing, as one does whose network is gone
	hangs, err := net.Listen("unix", kept)
	if err != nil {
		t.Fatal(err)
	}
	defer hangs.Close()
	var lines []string
	for name, jump := range map[string]*sshd.Server{"near": first, "nearer": second} {
		host, port, _ := net.SplitHostPort(jump.Addr())
		lines = append(lines, "Host "+name, "HostName "+host, "Port "+port, "User "+jump.User)
	}
	svc := service(last, backend(t))
	svc.Connection.Settings["config_file"] = last.Config(append(lines, "Host near", "ProxyJump nearer", "ControlMaster auto", "ControlPath "+kept, "ControlPersist yes")...)
	svc.Connection.Settings["jump"] = "near"
	svc.Connection.Settings["options"] = map[string]string{"ConnectTimeout": "8"}
	transient(t, fails(t, svc, r), "timed out during banner exchange")
	r.Urgent = true
	welcome(t, dial(t, openIn(t, svc, r)))
	if log := r.Log.(*logged).String(); !strings.Contains(log, "going around") {
		t.Errorf("the log does not say so:\n%s", log)
	}
	for _, jump := range []*sshd.Server{first, second} {
		if n := logins(jump); n != 1 {
			t.Errorf("%d logins to a jump host", n)
		}
	}
}
