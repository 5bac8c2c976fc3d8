package forwarder_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/project"
)

// unix is a whole new technology, which reaches a socket of this machine: a package like this, and a line in
// forwarder/supervisor/technologies.go.
var unix = forwarder.Technology{
	TechnologyType: project.TechnologyType{Name: "unix", Keys: []project.Key{{Name: "socket", Required: true}}},
	New:            func(context.Context, forwarder.Host) forwarder.Driver { return driver{} },
}

// driver is empty: services share nothing.
type driver struct{}

func socket(svc project.Service) string { return svc.Connection.Settings.Text("socket") }

func (driver) Target(svc project.Service) string { return "unix " + socket(svc) }

func (driver) Open(_ context.Context, svc project.Service, _ forwarder.Run) (forwarder.Tunnel, error) {
	return &tunnel{socket: socket(svc), done: make(chan struct{})}, nil
}

func (driver) Close() error { return nil }

type tunnel struct {
	socket string
	end    sync.Once
	done   chan struct{}
}

func (t *tunnel) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", t.socket)
	if err != nil {
		return nil, &forwarder.Refusal{Reason: err.Error(), IsConnectFailure: true}
	}
	return conn, nil
}

func (t *tunnel) Refusals() <-chan forwarder.Refusal { return nil }
func (t *tunnel) Acknowledges() bool                 { return true }
func (t *tunnel) Done() <-chan struct{}              { return t.done }
func (t *tunnel) Err() error                         { return nil }

func (t *tunnel) Close() error {
	t.end.Do(func() { close(t.done) })
	return nil
}

// A new technology, from the config to a connection through its tunnel.
func Example() {
	if err := run(); err != nil {
		fmt.Println(err)
	}
	// Output:
	// unix /run/app.sock
	// hello through a tunnel
}

func run() error {
	parsed, err := project.Parse(&project.Files{Root: "/shop", Path: "/shop/.localport.toml", Config: []byte(`
[services.app]
technology = "unix"
local_port = 8080
connection.socket = "/run/app.sock"
`)}, project.Options{Technologies: []project.TechnologyType{unix.TechnologyType}})
	if err != nil {
		return err
	}
	svc := parsed.Services[0]
	driver := unix.New(context.Background(), forwarder.Host{Dir: parsed.Root})
	defer driver.Close()
	fmt.Println(driver.Target(svc))

	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ln, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		return err
	}
	defer ln.Close()
	go greet(ln)

	svc.Connection.Settings["socket"] = ln.Addr().String()
	opened, err := driver.Open(context.Background(), svc, forwarder.Run{})
	if err != nil {
		return err
	}
	defer opened.Close()
	conn, err := opened.Dial(context.Background())
	if err != nil {
		return err
	}
	defer conn.Close()
	text, err := io.ReadAll(conn)
	fmt.Println(string(text))
	return err
}

// greet sends a greeting to each client.
func greet(ln net.Listener) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		fmt.Fprint(conn, "hello through a tunnel")
		conn.Close()
	}
}
