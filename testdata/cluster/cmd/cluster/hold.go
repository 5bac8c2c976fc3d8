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

// The process that a cluster by hand lives and dies with listens on a socket. It says to each client, as soon as the
// cluster is up, where its kubeconfig is. A client that answers "down" is hung up on when nothing is left.

var errNone = errors.New("no cluster is up")

// address is that of the socket, of which there is one for each user.
func address() (*net.UnixAddr, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	return &net.UnixAddr{Net: "unix", Name: filepath.Join(cache, "localport-test", "cluster.sock")}, nil
}

// hold runs a cluster until it is told to end. A line on standard output says that it is up.
func hold(ctx context.Context) error {
	if err := cluster.CheckAvailable(); err != nil {
		return err
	}
	address, err := address()
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
	ctx, end := context.WithCancel(ctx)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return // closed
			}
			go func() {
				fmt.Fprintln(conn, c.Kubeconfig())
				if said, _ := io.ReadAll(conn); string(said) != "down" {
					conn.Close()
					return
				}
				end() // and so this process, with the connection
			}()
		}
	}()
	<-ctx.Done()
	return c.Stop()
}

// up starts a cluster unless there is one, and prints how to get to it.
func up() error {
	if err := env(); !errors.Is(err, errNone) {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(self, "hold")
	cmd.Dir = "/"
	cmd.Stderr = struct{ io.Writer }{os.Stderr}          // by a pipe: whoever reads ours to its end must not wait for the cluster's
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it stays when the terminal goes
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		return errors.Join(errors.New("the cluster does not start"), cmd.Wait())
	}
	return env()
}

// env prints how a shell gets to the cluster.
func env() error {
	conn, kubeconfig, err := dial()
	if err != nil {
		return err
	}
	defer conn.Close()
	fmt.Printf("export KUBECONFIG=%s\n", kubeconfig)
	return nil
}

// down ends the cluster, if there is one, and returns when nothing of it is left.
func down() error {
	conn, _, err := dial()
	if errors.Is(err, errNone) {
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

// dial connects to the process that holds the cluster, and returns when that is up.
func dial() (conn *net.UnixConn, kubeconfig string, err error) {
	address, err := address()
	if err != nil {
		return nil, "", err
	}
	conn, err = net.DialUnix("unix", nil, address)
	if errors.Is(err, syscall.ECONNREFUSED) { // it was killed
		os.Remove(address.Name)
		return nil, "", errNone
	}
	if errors.Is(err, os.ErrNotExist) {
		return nil, "", errNone
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
