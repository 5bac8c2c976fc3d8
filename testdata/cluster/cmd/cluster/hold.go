package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/gofrs/flock"

	"github.com/localport-sh/localport/testdata/cluster"
)

// holder is the process that a cluster by hand lives and dies with. It has the lock of its file as long as it runs.
type holder struct {
	Pid        int
	Kubeconfig string
}

// path is that of the holder's file, of which there is one for each user.
func path() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(cache, "localport-test", "cluster.json"), nil
}

var errNone = errors.New("no cluster is up")

// find finds the holder that runs, and its lock, which is not taken.
func find() (*holder, *flock.Flock, error) {
	path, err := path()
	if err != nil {
		return nil, nil, err
	}
	lock := flock.New(path)
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil, errNone
	}
	if err != nil {
		return nil, nil, err
	}
	free, err := lock.TryLock()
	if err != nil {
		return nil, nil, err
	}
	if free {
		return nil, nil, errors.Join(errNone, lock.Unlock())
	}
	var h holder
	if err := json.Unmarshal(content, &h); err != nil {
		return nil, nil, fmt.Errorf("%s: %w (is it starting?)", path, err)
	}
	return &h, lock, nil
}

// hold runs a cluster until it is told to end. A line on standard output says that it runs.
func hold(ctx context.Context) error {
	if err := cluster.Possible(); err != nil {
		return err
	}
	path, err := path()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	lock := flock.New(path)
	if free, err := lock.TryLock(); err != nil || !free {
		return errors.Join(errors.New("another cluster is up, or starting"), err)
	}
	defer lock.Close()
	if err := os.Truncate(path, 0); err != nil { // what is in it is of the one before
		return err
	}
	dir, err := os.MkdirTemp("", "lpk-")
	if err != nil {
		return err
	}
	c, err := cluster.Run(ctx, dir, os.Stderr)
	if err != nil {
		return err
	}
	defer c.Stop()
	content, err := json.Marshal(holder{os.Getpid(), c.Kubeconfig()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, content, 0o644); err != nil { // not renamed: it is the lock
		return err
	}
	fmt.Println("up")
	<-ctx.Done()
	return nil
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
	cmd.Dir, cmd.Stderr = "/", os.Stderr
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
	h, _, err := find()
	if err != nil {
		return err
	}
	fmt.Printf("export KUBECONFIG=%s\n", h.Kubeconfig)
	return nil
}

// down ends the cluster, if there is one, and returns when nothing of it is left.
func down() error {
	h, lock, err := find()
	if errors.Is(err, errNone) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := syscall.Kill(h.Pid, syscall.SIGTERM); err != nil {
		return fmt.Errorf("end process %d: %w", h.Pid, err)
	}
	if err := lock.Lock(); err != nil { // which the process gives back when it has ended
		return err
	}
	return lock.Close()
}
