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

// Play runs one of the small programs that the driver has its projects start, if args name one.
func Play(args []string) (code int, played bool) {
	if len(args) == 0 {
		return 0, false
	}
	switch args[0] {
	case "idle": // the command of an exec
		for {
			_ = syscall.Pause()
		}
	case "forward": // a tunnel: forward PORT TARGET
		return report(forward(args[1], args[2])), true
	case "stubborn": // a tunnel that ignores SIGTERM
		signal.Ignore(syscall.SIGTERM)
		return report(forward(args[1], args[2])), true
	case "parent": // a tunnel with a child in a session of its own: parent PORT TARGET
		child := exec.Command("/proc/self/exe", "idle")
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			return report(err), true
		}
		return report(forward(args[1], args[2])), true
	case "steal": // a program that takes a port, and has a child that inherited it: steal PORT
		return report(steal(args[1])), true
	}
	return 0, false
}

func report(err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// forward copies between clients and the target until it is ended.
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
		go forwardOne(conn.(*net.TCPConn), target)
	}
}

func forwardOne(client *net.TCPConn, target string) {
	defer client.Close()
	conn, err := net.Dial("tcp", target)
	if err != nil {
		_ = client.SetLinger(0)
		return
	}
	far := conn.(*net.TCPConn)
	defer far.Close()
	var copying sync.WaitGroup
	for _, pair := range [][2]*net.TCPConn{{client, far}, {far, client}} {
		copying.Go(func() {
			_, _ = io.Copy(pair[0], pair[1])
			_ = pair[0].CloseWrite()
		})
	}
	copying.Wait()
}

// steal listens on a port at both loopback addresses, starts a child that inherits one of the sockets, and says so.
func steal(port string) error {
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
