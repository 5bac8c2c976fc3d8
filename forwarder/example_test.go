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
var unix = forwarder.Kind{
	TechnologyType: project.TechnologyType{Name: "unix", Keys: []project.Key{{Name: "socket", Required: true}}},
	New: func(svc project.Service) forwarder.Technology {
		return technology{socket: svc.Connection.Settings.Text("socket")}
	},
}

type technology struct{ socket string }

func (t technology) Target() string { return "unix " + t.socket }

func (t technology) Open(context.Context, forwarder.Run) (forwarder.Tunnel, error) {
	return &tunnel{socket: t.socket, done: make(chan struct{})}, nil
}

type tunnel struct {
	socket string
	end    sync.Once
	done   chan struct{}
}

func (t *tunnel) Dial(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", t.socket)
	if err != nil {
		return nil, &forwarder.Refusal{Reason: err.Error(), Connect: true}
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
	fmt.Println(unix.New(svc).Target())

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
	opened, err := unix.New(svc).Open(context.Background(), forwarder.Run{})
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

// greet says something to who connects.
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
