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

// pod is a pod of one container that is always started again.
type pod struct {
	*core.Pod
	s         *standin
	container core.Container
	dir       string // holds a socket for each port that the pod listens on

	once   sync.Once
	ending chan time.Duration // gets, once, how long the pod has to end

	started  time.Time
	restarts int32
	ready    bool
}

func (s *standin) newPod(o *core.Pod) *pod {
	return &pod{Pod: o, s: s, container: o.Spec.Containers[0], dir: filepath.Join(s.dir, string(o.UID)), ending: make(chan time.Duration, 1), started: time.Now()}
}

// end ends the pod. It returns at once, and may be called more than once.
func (p *pod) end(seconds int64) {
	p.once.Do(func() { p.ending <- time.Duration(seconds) * time.Second })
}

// socket is the path of what stands for a port of the pod.
func (p *pod) socket(port int32) string { return filepath.Join(p.dir, strconv.Itoa(int(port))) }

// run runs the pod until it has been ended, and deleted.
func (p *pod) run() {
	runtime.LockOSThread() // with which its processes would die
	defer runtime.UnlockOSThread()
	defer os.RemoveAll(p.dir)
	defer p.delete()
	if p.container.Image != p.s.image {
		p.report(core.PodPending, core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: "ErrImageNeverPull", Message: "a stand-in runs only " + p.s.image}}, 0)
		<-p.ending
		return
	}
	for p.runContainer() {
		p.restarts++
		if p.restarts == 1 {
			continue // as the real one does, at once
		}
		p.report(core.PodRunning, core.ContainerState{Waiting: &core.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}, 0)
		select {
		case <-time.After(time.Second):
		case <-p.ending:
			return
		}
	}
}

// runContainer runs the container to its end, and reports whether that came by itself.
func (p *pod) runContainer() bool {
	if err := remake(p.dir); err != nil {
		log.Print(err)
		return false
	}
	cmd := p.command(append(p.container.Command, p.container.Args...))
	if err := cmd.Start(); err != nil {
		log.Print(err)
		return true
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	running := core.ContainerState{Running: &core.ContainerStateRunning{StartedAt: meta.Now()}}
	p.ready = p.container.ReadinessProbe == nil
	p.report(core.PodRunning, running, cmd.Process.Pid)
	tick := time.NewTicker(p.period())
	defer tick.Stop()
	for {
		if ready := p.probe(); ready != p.ready {
			p.ready = ready
			p.report(core.PodRunning, running, cmd.Process.Pid)
		}
		select {
		case <-ended:
			p.ready = false
			return true
		case grace := <-p.ending:
			_ = cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
			case <-time.After(grace):
				_ = cmd.Process.Kill()
				<-ended
			}
			return false
		case <-tick.C:
		}
	}
}

func remake(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.MkdirAll(dir, 0o755)
}

// command is a command in the container, the image's program if it is not named.
func (p *pod) command(argv []string) *exec.Cmd {
	if len(argv) > 0 && argv[0] == p.s.entrypoint {
		argv = argv[1:]
	}
	cmd := exec.Command(p.s.program, argv...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, os.Stderr, os.Stderr
	cmd.Env = append(os.Environ(), "HOSTNAME="+p.Name, "POD_SOCKETS="+p.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (p *pod) period() time.Duration {
	if p.container.ReadinessProbe == nil {
		return time.Hour
	}
	return time.Duration(cmp.Or(p.container.ReadinessProbe.PeriodSeconds, 10)) * time.Second
}

// probe reports whether the container is ready.
func (p *pod) probe() bool {
	probe := p.container.ReadinessProbe
	return probe == nil || probe.Exec != nil && p.command(probe.Exec.Command).Run() == nil
}

// report says how the pod is. The process, if there is one, is the last part of the container's id.
func (p *pod) report(phase core.PodPhase, state core.ContainerState, pid int) {
	since := meta.NewTime(p.started)
	condition := func(kind core.PodConditionType, is bool) core.PodCondition {
		status := core.ConditionFalse
		if is {
			status = core.ConditionTrue
		}
		return core.PodCondition{Type: kind, Status: status, LastTransitionTime: meta.Now()}
	}
	started := pid != 0
	status := core.ContainerStatus{
		Name: p.container.Name, Image: p.container.Image, State: state, Ready: p.ready, RestartCount: p.restarts, Started: &started,
	}
	if pid != 0 {
		status.ContainerID = fmt.Sprintf("standin://%d", pid)
	}
	o := p.DeepCopy()
	o.ResourceVersion = "" // whoever wrote last
	o.Status = core.PodStatus{
		Phase: phase, StartTime: &since, PodIP: p.address(), PodIPs: []core.PodIP{{IP: p.address()}},
		ContainerStatuses: []core.ContainerStatus{status},
		Conditions: []core.PodCondition{
			condition(core.PodScheduled, true), condition(core.PodInitialized, true),
			condition(core.ContainersReady, p.ready), condition(core.PodReady, p.ready),
		},
	}
	p.insist("report", func(ctx context.Context) error {
		_, err := p.s.client.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, o, meta.UpdateOptions{})
		return err
	})
}

// address is what Kubernetes wants of every pod, and nobody can connect to.
func (p *pod) address() string {
	sum := crc32.ChecksumIEEE([]byte(p.UID))
	return fmt.Sprintf("10.%d.%d.%d", byte(sum>>16), byte(sum>>8), byte(sum))
}

// delete makes the API server forget the pod.
func (p *pod) delete() {
	p.insist("delete", func(ctx context.Context) error {
		now := int64(0)
		return p.s.client.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, meta.DeleteOptions{
			GracePeriodSeconds: &now, Preconditions: &meta.Preconditions{UID: &p.UID},
		})
	})
}

// insist does what must be done with the API server until it is done or the pod is gone: the server may be down.
func (p *pod) insist(what string, do func(context.Context) error) {
	for {
		err := do(context.Background())
		if err == nil || errors.IsNotFound(err) || errors.IsConflict(err) {
			return
		}
		log.Printf("%s pod %s: %v", what, p.Name, err)
		time.Sleep(time.Second)
	}
}
