package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/localport-sh/localport/testdata/cluster"
)

// The background process that runs the cluster listens on a unix socket. As soon as the cluster is up it sends each client the path of the
// kubeconfig. If a client sends "down", the process stops the cluster and ends, which closes the connection.

var errNotRunning = errors.New("no cluster is up; `just cluster-up` starts one")

// socketAddress returns the address of the socket. Each user has one.
func socketAddress() (*net.UnixAddr, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	return &net.UnixAddr{Net: "unix", Name: filepath.Join(cache, "localport-test", "cluster.sock")}, nil
}

// serve runs a cluster until ctx ends or a client sends "down". It prints a line on standard output when the cluster is up.
func serve(ctx context.Context) error {
	if err := cluster.CheckAvailable(); err != nil {
		return err
	}
	address, err := socketAddress()
	if err != nil {
		return err
	}
	l, err := net.ListenUnix("unix", address)
	if err != nil {
		return err
	}
	defer l.Close()
	dir, err := os.MkdirTemp("", "lpk-")
	if err != nil {
		return err
	}
	c, err := cluster.Run(ctx, dir, os.Stderr)
	if err != nil {
		return err
	}
	fmt.Println("up")
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				fmt.Fprintln(conn, c.Kubeconfig())
				if command, _ := io.ReadAll(conn); string(command) != "down" {
					conn.Close()
					return
				}
				cancel() // the connection is closed when this process ends
			}()
		}
	}()
	<-ctx.Done()
	return c.Stop()
}

// up starts a cluster in the background unless there is one, and prints its environment.
func up() error {
	if err := printEnvironment(); !errors.Is(err, errNotRunning) {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "serve")
	cmd.Dir = "/"
	cmd.Stderr = struct{ io.Writer }{os.Stderr}          // through a pipe: whoever reads our stderr to its end must not wait for the cluster
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it must not end with the terminal
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return errors.Join(errors.New("the cluster has not started"), cmd.Wait())
	}
	return printEnvironment()
}

// printEnvironment prints the command that makes a shell's kubectl use the cluster.
func printEnvironment() error {
	conn, kubeconfig, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Printf("export KUBECONFIG=%s\n", kubeconfig)
	return nil
}

// down ends the cluster, if one is up, and returns when nothing of it is left.
func down() error {
	conn, _, err := dial()
	if errors.Is(err, errNotRunning) {
		return nil
	}
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "down"); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, conn)
	return err
}

// dial connects to the background process, waits until the cluster is up, and returns the path of the kubeconfig. The caller closes the
// connection.
func dial() (conn *net.UnixConn, kubeconfig string, err error) {
	address, err := socketAddress()
	if err != nil {
		return nil, "", err
	}
	conn, err = net.DialUnix("unix", nil, address)
	if errors.Is(err, syscall.ECONNREFUSED) { // the process was killed
		os.Remove(address.Name)
		return nil, "", errNotRunning
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", errNotRunning
	}
	if err != nil {
		return nil, "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		conn.Close()
		return nil, "", fmt.Errorf("the cluster ended while it started: %w", err)
	}
	return conn, line[:len(line)-1], nil
}
