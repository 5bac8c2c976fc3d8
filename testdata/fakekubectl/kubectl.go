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

// Main does what kubectl does with the process's arguments, and returns the exit code.
func Main() int {
	script, err := readScript()
	if err == nil {
		err = recordStart(os.Args[1:])
	}
	if err != nil {
		return printError("fakekubectl: %v", err)
	}
	if len(os.Args) > 1 && os.Args[1] == "port-forward" {
		return portForward(script, os.Args[2:])
	}
	answer, ok := script.Answers[strings.Join(os.Args[1:], " ")]
	if !ok {
		return printError("error: unknown command %q for \"kubectl\"", strings.Join(os.Args[1:], " "))
	}
	fmt.Print(answer)
	return 0
}

// printError prints a line on stderr and returns the exit code of a failure.
func printError(format string, args ...any) int {
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
		return printError("error: TYPE/NAME and list of ports are required for port-forward")
	}
	local, remote, ok := strings.Cut(flags.Arg(1), ":")
	switch {
	case !ok || !strings.Contains(flags.Arg(0), "/"):
		return printError("error: fakekubectl wants TYPE/NAME and LOCAL:REMOTE")
	case script.StartError != "":
		return printError("%s", script.StartError)
	case script.NeverReady:
		signal.Notify(make(chan os.Signal, 1), syscall.SIGUSR1) // without it the runtime reports a deadlock
		select {}
	}
	l, err := net.Listen("tcp4", net.JoinHostPort(*address, local)) // if the port is empty the kernel chooses one
	if err != nil {
		return printError("error: unable to listen on any of the requested ports: [{%s %s}]", local, remote)
	}
	f := &portForwarder{remote: remote, port: l.Addr().(*net.TCPAddr).Port, podLostCh: make(chan struct{})}
	return f.run(l)
}

// portForwarder is a running `kubectl port-forward`.
type portForwarder struct {
	remote    string // the port in the pod
	port      int    // the local port
	lostOnce  sync.Once
	podLostCh chan struct{} // closed when a connection to the pod has failed

	mu    sync.Mutex
	conns []net.Conn
}

func (f *portForwarder) run(l net.Listener) int {
	podDeletedCh := make(chan os.Signal, 1) // DeletePod sends the signal
	signal.Notify(podDeletedCh, syscall.SIGUSR1)
	go func() {
		for range podDeletedCh {
			f.closeConns()
		}
	}()
	fmt.Printf("Forwarding from %s -> %s\n", l.Addr(), f.remote)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Printf("Handling connection for %d\n", f.port)
			f.track(conn)
			go f.handle(conn)
		}
	}()
	<-f.podLostCh
	f.closeConns()
	return printError("error: lost connection to pod")
}

func (f *portForwarder) track(conn net.Conn) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns = append(f.conns, conn)
}

func (f *portForwarder) closeConns() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, conn := range f.conns {
		_ = conn.Close()
	}
	f.conns = nil
}

func (f *portForwarder) handle(conn net.Conn) {
	script, err := readScript()
	switch {
	case err != nil:
		f.failConn(conn, script, "fakekubectl: "+err.Error())
	case script.StreamTimesOut:
		logError(fmt.Sprintf("error creating error stream for port %d -> %s: Timeout occurred", f.port, f.remote))
		_ = conn.Close()
	case script.IsPodDeleted:
		f.failConn(conn, script, `network namespace for sandbox "4f5e" is closed`)
	default:
		f.forward(conn, script)
	}
}

func (f *portForwarder) forward(conn net.Conn, script Script) {
	backend := script.Backend
	if backend == "" {
		backend = net.JoinHostPort("127.0.0.1", f.remote)
	}
	upstream, err := net.Dial("tcp", backend)
	if err != nil {
		cause := err
		if call, ok := errors.AsType[*os.SyscallError](err); ok {
			cause = call
		}
		f.failConn(conn, script, fmt.Sprintf(
			`failed to execute portforward in network namespace "/run/netns/cni-1": failed to connect to localhost:%s `+
				`inside namespace "4f5e", IPv4: dial tcp4 127.0.0.1:%s: %v IPv6 dial tcp6: address localhost: no suitable `+
				`address found `, f.remote, f.remote, cause))
		return
	}
	f.track(upstream)
	copyBothWays(conn, upstream)
}

// copyBothWays copies between two connections, passes half-closes on, and closes both.
func copyBothWays(a, b net.Conn) {
	var copies sync.WaitGroup
	for _, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		copies.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].(*net.TCPConn).CloseWrite()
		})
	}
	copies.Wait()
	_ = a.Close()
	_ = b.Close()
}

// failConn closes a connection, reports that forwarding it failed, and ends the process and its other connections.
func (f *portForwarder) failConn(conn net.Conn, script Script, text string) {
	_ = conn.Close()
	if script.ReportAfterFIFO != "" {
		_, _ = os.ReadFile(script.ReportAfterFIFO)
	}
	logError(fmt.Sprintf("an error occurred forwarding %d -> %s: error forwarding port %s to pod 8d1f, uid : %s",
		f.port, f.remote, f.remote, text))
	f.lostOnce.Do(func() { close(f.podLostCh) })
}

// logError prints an error in the format of the client library's log since Kubernetes 1.31.
func logError(text string) {
	fmt.Fprintf(os.Stderr, "E%s %7d portforward.go:424] \"Unhandled Error\" err=%q\n",
		time.Now().Format("0102 15:04:05.000000"), os.Getpid(), text)
}
