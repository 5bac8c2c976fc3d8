package probe_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"strings"

	"github.com/localport-sh/localport/forwarder/tcp"
	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
)

// memcached is a complete type of health check: a package like this, and a line in probe/builtin.
var memcached = probe.Type{
	CheckType: project.CheckType{Name: "memcached", Keys: []project.Key{{Name: "version"}}},
	New: func(s project.Settings) (probe.Check, error) {
		return func(ctx context.Context, dialer probe.Dialer) error {
			return checkVersion(ctx, dialer, s.Text("version"))
		}, nil
	},
}

func checkVersion(ctx context.Context, dialer probe.Dialer, wanted string) error {
	conn, err := dialer.Dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // the context bounds the check
	if _, err := fmt.Fprint(conn, "version\r\n"); err != nil {
		return err
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return err
	}
	version, ok := strings.CutPrefix(strings.TrimSpace(answer), "VERSION ")
	if !ok || !strings.HasPrefix(version, wanted) {
		return &probe.Failure{Reason: fmt.Sprintf("version: %q", answer), Hint: "check remote_port and health_check.version"}
	}
	return nil
}

// directDialer dials an address directly.
type directDialer string

func (d directDialer) Dial(ctx context.Context) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, "tcp", string(d))
}
func (d directDialer) Acknowledges() bool { return true }

// A new type of health check, from the config to its answers.
func Example() {
	parsed, err := project.Parse(&project.Files{Root: "/shop", Path: "/shop/.localport.toml", Config: []byte(`
[services.cache]
technology = "tcp"
local_port = 11211
remote_port = 11211
connection.remote_host = "cache.internal"
health_check = { type = "memcached", version = "1.6" }
`)}, project.Options{
		Checks:       []project.CheckType{memcached.CheckType},
		Technologies: []project.TechnologyType{tcp.Technology.TechnologyType},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	check, err := memcached.New(parsed.Services[0].HealthCheck.Settings)
	if err != nil {
		fmt.Println(err)
		return
	}

	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	answers := make(chan string, 2)
	answers <- "VERSION 1.6.18\r\n"
	answers <- "VERSION 1.5.22\r\n"
	go serve(server, answers)

	for range 2 {
		fmt.Println(check(context.Background(), directDialer(server.Addr().String())))
	}
	// Output:
	// <nil>
	// version: "VERSION 1.5.22\r\n"
}

func serve(ln net.Listener, answers <-chan string) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		_, _ = bufio.NewReader(conn).ReadString('\n')
		fmt.Fprint(conn, <-answers)
		conn.Close()
	}
}
