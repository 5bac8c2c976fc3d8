package main

import (
	"cmp"
	"context"
	"fmt"
	"hash/crc32"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// pod is a running pod with one container, which is restarted whenever it ends.
type pod struct {
	*core.Pod
	node      *standin
	container core.Container
	dir       string // contains a socket for each port that the pod listens on

	endOnce sync.Once
	endCh   chan time.Duration // receives the grace period, once, when the pod is to end

	startedAt time.Time
	restarts  int32
	isReady   bool
}

func (s *standin) newPod(object *core.Pod) *pod {
	return &pod{
		Pod: object, node: s, container: object.Spec.Containers[0], dir: filepath.Join(s.dir, string(object.UID)),
		endCh: make(chan time.Duration, 1), startedAt: time.Now(),
	}
}

// end asks the pod to end within a grace period. It does not wait, and may be called more than once.
func (p *pod) end(graceSeconds int64) {
	p.endOnce.Do(func() { p.endCh <- time.Duration(graceSeconds) * time.Second })
}

// socket returns the path of the socket that replaces a port of the pod.
func (p *pod) socket(port int32) string { return filepath.Join(p.dir, strconv.Itoa(int(port))) }

// run runs the pod until end is called, and then deletes it from the API server.
func (p *pod) run() {
	runtime.LockOSThread() // the kernel kills the pod's processes when the thread that started them ends
	defer runtime.UnlockOSThread()
	defer os.RemoveAll(p.dir)
	defer p.delete()
	if p.container.Image != p.node.image {
		p.report(core.PodPending, core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: "ErrImageNeverPull", Message: "a stand-in runs only " + p.node.image}}, 0)
		<-p.endCh
		return
	}
	for p.runContainer() {
		p.restarts++
		if p.restarts == 1 {
			continue // the kubelet does not delay the first restart either
		}
		p.report(core.PodRunning, core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}, 0)
		select {
		case <-time.After(time.Second):
		case <-p.endCh:
			return
		}
	}
}

// runContainer runs the container until it ends, and reports whether it is to be restarted: not if the pod is to end.
func (p *pod) runContainer() bool {
	if err := recreateDir(p.dir); err != nil {
		log.Print(err)
		return false
	}
	cmd := p.command(append(p.container.Command, p.container.Args...))
	if err := cmd.Start(); err != nil {
		log.Print(err)
		return true
	}
	endedCh := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(endedCh)
	}()
	running := core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: meta.Now()}}
	p.isReady = p.container.ReadinessProbe == nil
	p.report(core.PodRunning, running, cmd.Process.Pid)
	tick := time.NewTicker(p.probeInterval())
	defer tick.Stop()
	for {
		if isReady := p.probe(); isReady != p.isReady {
			p.isReady = isReady
			p.report(core.PodRunning, running, cmd.Process.Pid)
		}
		select {
		case <-endedCh:
			p.isReady = false
			return true
		case gracePeriod := <-p.endCh:
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-endedCh:
			case <-time.After(gracePeriod):
				_ = cmd.Process.Kill()
				<-endedCh
			}
			return false
		case <-tick.C:
		}
	}
}

// recreateDir removes a directory with its contents, and makes an empty one.
func recreateDir(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o755)
}

// command returns a command of the container. The image's program runs it, whether argv begins with the program or not.
func (p *pod) command(argv []string) *exec.Cmd {
	if len(argv) > 0 && argv[0] == p.node.entrypoint {
		argv = argv[1:]
	}
	cmd := exec.Command(p.node.program, argv...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(), "HOSTNAME="+p.Name, "POD_SOCKETS="+p.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

// probeInterval returns the time between two readiness probes.
func (p *pod) probeInterval() time.Duration {
	if p.container.ReadinessProbe == nil {
		return time.Hour
	}
	return time.Duration(cmp.Or(p.container.ReadinessProbe.PeriodSeconds, 10)) * time.Second
}

// probe runs the readiness probe and reports whether the container is ready.
func (p *pod) probe() bool {
	probe := p.container.ReadinessProbe
	return probe == nil || probe.Exec != nil && p.command(probe.Exec.Command).Run() == nil
}

// report sends the pod's status to the API server. The pid of its process, 0 if there is none, becomes part of the container's id.
func (p *pod) report(phase core.PodPhase, state core.ContainerState, pid int) {
	startedAt := meta.NewTime(p.startedAt)
	condition := func(conditionType core.PodConditionType, isTrue bool) core.PodCondition {
		status := core.ConditionFalse
		if isTrue {
			status = core.ConditionTrue
		}
		return core.PodCondition{Type: conditionType, Status: status, LastTransitionTime: meta.Now()}
	}
	isStarted := pid != 0
	status := core.ContainerStatus{
		Name: p.container.Name, Image: p.container.Image, State: state, Ready: p.isReady, RestartCount: p.restarts, Started: &isStarted,
	}
	if isStarted {
		status.ContainerID = fmt.Sprintf("standin://%d", pid)
	}
	object := p.DeepCopy()
	object.ResourceVersion = "" // overwrite whatever version the API server has
	object.Status = core.PodStatus{
		Phase: phase, StartTime: &startedAt, PodIP: p.address(), PodIPs: []core.PodIP{{IP: p.address()}},
		ContainerStatuses: []core.ContainerStatus{status},
		Conditions: []core.PodCondition{
			condition(core.PodScheduled, true), condition(core.PodInitialized, true),
			condition(core.ContainersReady, p.isReady), condition(core.PodReady, p.isReady),
		},
	}
	p.retry("report the status of", func(ctx context.Context) error {
		_, err := p.node.client.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, object, meta.UpdateOptions{})
		return err
	})
}

// address returns an address, which Kubernetes requires of every pod. Nobody can connect to it.
func (p *pod) address() string {
	sum := crc32.ChecksumIEEE([]byte(p.UID))
	return fmt.Sprintf("10.%d.%d.%d", byte(sum>>16), byte(sum>>8), byte(sum))
}

// delete deletes the pod from the API server.
func (p *pod) delete() {
	p.retry("delete", func(ctx context.Context) error {
		atOnce := int64(0)
		return p.node.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, meta.DeleteOptions{
			GracePeriodSeconds: &atOnce, Preconditions: &meta.Preconditions{UID: &p.UID},
		})
	})
}

// retry sends a request to the API server, which may be down, until it succeeds or the pod is gone.
func (p *pod) retry(action string, request func(context.Context) error) {
	for {
		err := request(context.Background())
		if err == nil || errors.IsNotFound(err) || errors.IsConflict(err) {
			return
		}
		log.Printf("%s pod %s: %v", action, p.Name, err)
		time.Sleep(time.Second)
	}
}
