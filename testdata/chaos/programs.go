package chaos

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"sync"
	"syscall"
)

// RunProgram runs the program that args name, if they name one: the driver's own executable is also the tunnels of command
// services, the command of an exec, and the program that holds a port.
func RunProgram(args []string) (code int, isProgram bool) {
	if len(args) == 0 {
		return 0, false
	}
	switch args[0] {
	case "idle": // the command of an exec: waits until it is killed
		for {
			_ = syscall.Pause()
		}
	case "forward": // a tunnel: forward PORT TARGET
		return exitStatus(forward(args[1], args[2])), true
	case "stubborn": // a tunnel that ignores SIGTERM
		signal.Ignore(syscall.SIGTERM)
		return exitStatus(forward(args[1], args[2])), true
	case "parent": // a tunnel that starts a child in another session: parent PORT TARGET
		child := exec.Command("/proc/self/exe", "idle")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			return exitStatus(err), true
		}
		return exitStatus(forward(args[1], args[2])), true
	case loginHelperProgram: // the exec plugin of a kubeconfig: login-helper DIR
		return exitStatus(runLoginHelper(args[1])), true
	case "hold-port": // listens on a port, and has a child that inherits the socket: hold-port PORT
		return exitStatus(holdPort(args[1])), true
	}
	return 0, false
}

const loginHelperProgram = "login-helper"

func exitStatus(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// forward listens on a port of 127.0.0.1 and connects every client to the target. It returns only with an error.
func forward(port, target string) error {
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		go forwardConn(conn.(*net.TCPConn), target)
	}
}

func forwardConn(client *net.TCPConn, target string) {
	defer client.Close()
	conn, err := net.Dial("tcp", target)
	if err != nil {
		_ = client.SetLinger(0)
		return
	}
	upstream := conn.(*net.TCPConn)
	defer upstream.Close()
	var copies sync.WaitGroup
	for _, pair := range [][2]*net.TCPConn{{client, upstream}, {upstream, client}} {
		copies.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].CloseWrite()
		})
	}
	copies.Wait()
}

// holdPort listens on a port of 127.0.0.1, starts a child that inherits the socket, and prints "listening".
func holdPort(port string) error {
	l, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	file, err := l.(*net.TCPListener).File()
	if err != nil {
		return err
	}
	child := exec.Command("/proc/self/exe", "idle")
	child.ExtraFiles = []*os.File{file}
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := child.Start(); err != nil {
		return err
	}
	fmt.Println("listening")
	return child.Wait()
}
