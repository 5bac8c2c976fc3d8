package fakekubectl

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// IsKubectl reports whether this process was started as kubectl.
func IsKubectl() bool { return filepath.Base(os.Args[0]) == "kubectl" }

// Main plays kubectl with the process's arguments, and returns its exit code.
func Main() int {
	script, err := read()
	if err == nil {
		err = record(os.Args[1:])
	}
	if err != nil {
		return fail("fakekubectl: %v", err)
	}
	if len(os.Args) > 1 && os.Args[1] == "port-forward" {
		return portForward(script, os.Args[2:])
	}
	answer, ok := script.Answers[strings.Join(os.Args[1:], " ")]
	if !ok {
		return fail("error: unknown command %q for \"kubectl\"", strings.Join(os.Args[1:], " "))
	}
	fmt.Print(answer)
	return 0
}

func fail(format string, args ...any) int {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	return 1
}

func portForward(script Script, args []string) int {
	flags := flag.NewFlagSet("port-forward", flag.ContinueOnError)
	address := flags.String("address", "localhost", "")
	for _, name := range []string{"kubeconfig", "context", "namespace", "pod-running-timeout"} {
		flags.String(name, "", "")
	}
	if flags.Parse(args) != nil || flags.NArg() != 2 {
		return fail("error: TYPE/NAME and list of ports are required for port-forward")
	}
	local, remote, ok := strings.Cut(flags.Arg(1), ":")
	switch {
	case !ok || !strings.Contains(flags.Arg(0), "/"):
		return fail("error: fakekubectl wants TYPE/NAME and LOCAL:REMOTE")
	case script.Fail != "":
		return fail("%s", script.Fail)
	case script.Mute:
		signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR1) // a waiting process, not a deadlock
		select {}
	}
	l, err := net.Listen("tcp4", net.JoinHostPort(*address, local)) // an empty port is one of the kernel's choice
	if err != nil {
		return fail("error: unable to listen on any of the requested ports: [{%s %s}]", local, remote)
	}
	p := &player{remote: remote, port: l.Addr().(*net.TCPAddr).Port, ended: make(chan struct{})}
	return p.play(l)
}

// player is a kubectl that forwards.
type player struct {
	remote string
	port   int
	once   sync.Once
	ended  chan struct{}

	mu    sync.Mutex
	conns []net.Conn
}

func (p *player) play(l net.Listener) int {
	deleted := make(chan os.Signal, 1)
	signal.Notify(deleted, syscall.SIGUSR1)
	go func() {
		for range deleted {
			p.closeConns()
		}
	}()
	fmt.Printf("Forwarding from %s -> %s\n", l.Addr(), p.remote)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Printf("Handling connection for %d\n", p.port)
			p.add(conn)
			go p.handle(conn)
		}
	}()
	<-p.ended
	p.closeConns()
	return fail("error: lost connection to pod")
}

func (p *player) add(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conns = append(p.conns, conn)
}

func (p *player) closeConns() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, conn := range p.conns {
		_ = conn.Close()
	}
	p.conns = nil
}

func (p *player) handle(conn net.Conn) {
	script, err := read()
	switch {
	case err != nil:
		p.complain(conn, script, "fakekubectl: "+err.Error())
	case script.Stuck:
		logError(fmt.Sprintf("error creating error stream for port %d -> %s: Timeout occurred", p.port, p.remote))
		_ = conn.Close()
	case script.Gone:
		p.complain(conn, script, `network namespace for sandbox "4f5e" is closed`)
	default:
		p.forward(conn, script)
	}
}

func (p *player) forward(conn net.Conn, script Script) {
	backend := script.Backend
	if backend == "" {
		backend = net.JoinHostPort("127.0.0.1", p.remote)
	}
	far, err := net.Dial("tcp", backend)
	if err != nil {
		cause := err
		if call, ok := errors.AsType[*os.SyscallError](err); ok {
			cause = call
		}
		p.complain(conn, script, fmt.Sprintf(
			`failed to execute portforward in network namespace "/run/netns/cni-1": failed to connect to localhost:%s `+
				`inside namespace "4f5e", IPv4: dial tcp4 127.0.0.1:%s: %v IPv6 dial tcp6: address localhost: no suitable `+
				`address found `, p.remote, p.remote, cause))
		return
	}
	p.add(far)
	carry(conn, far)
}

// carry copies both ways, passing half-closes on, and closes both.
func carry(a, b net.Conn) {
	var both sync.WaitGroup
	for _, way := range [][2]net.Conn{{a, b}, {b, a}} {
		both.Go(func() {
			_, _ = io.Copy(way[0], way[1])
			_ = way[0].(*net.TCPConn).CloseWrite()
		})
	}
	both.Wait()
	_ = a.Close()
	_ = b.Close()
}

// complain gives a connection its end of file, then reports it, then ends kubectl and every other connection.
func (p *player) complain(conn net.Conn, script Script, text string) {
	_ = conn.Close()
	if script.Late != "" {
		_, _ = os.ReadFile(script.Late)
	}
	logError(fmt.Sprintf("an error occurred forwarding %d -> %s: error forwarding port %s to pod 8d1f, uid : %s",
		p.port, p.remote, p.remote, text))
	p.once.Do(func() { close(p.ended) })
}

// logError prints as the client library's log does since 1.31.
func logError(text string) {
	fmt.Fprintf(os.Stderr, "E%s %7d portforward.go:424] \"Unhandled Error\" err=%q\n",
		time.Now().Format("0102 15:04:05.000000"), os.Getpid(), text)
}
