package client

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/localport-sh/localport/forwarder/wait"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "start-as" {
		os.Exit(startAs(os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}

// startAs is the start of a supervisor that is ready, reports an invalid config, or dies.
func startAs(outcome string) int {
	switch outcome {
	case "ready":
		ReportReadiness(Readiness{Outcome: OutcomeReady})
	case "invalid":
		ReportReadiness(Readiness{Outcome: OutcomeInvalid, Error: "x.toml:1:1: wrong"})
	case "hangs":
		println(os.Getpid())
		wait.Sleep(context.Background(), time.Hour)
	case "dies":
		println("panic: out of cheese")
		return 2
	}
	return 0
}

func newTestSpawner(t *testing.T, outcome string) Spawner {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spawner{Exe: exe, Args: []string{"start-as", outcome}, Env: os.Environ(), Log: filepath.Join(t.TempDir(), "log")}
}

func TestSpawner_ReturnsTheReadinessOrTheEndOfTheLog(t *testing.T) {
	if readiness, err := newTestSpawner(t, "ready").Spawn(t.Context()); err != nil || readiness.Outcome != OutcomeReady {
		t.Errorf("ready: %+v, %v", readiness, err)
	}
	start := &StartError{}
	if _, err := newTestSpawner(t, "invalid").Spawn(t.Context()); !errors.As(err, &start) || start.Outcome != OutcomeInvalid {
		t.Errorf("invalid: %v", err)
	}
	if _, err := newTestSpawner(t, "dies").Spawn(t.Context()); !errors.As(err, &start) || !strings.Contains(err.Error(), "out of cheese") {
		t.Errorf("dies: %v, want the end of its log", err)
	}
}

// A supervisor that hangs has a copy of the keeper's election lock: it must not go on beside the one that is started instead.
func TestSpawner_KillsASupervisorThatIsNotReadyInTime(t *testing.T) {
	spawner := newTestSpawner(t, "hangs")
	spawner.Reap = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	pidCh := make(chan int, 1)
	go func() {
		defer cancel()
		for pid := 0; ; {
			data, _ := os.ReadFile(spawner.Log)
			if _, err := fmt.Sscan(string(data), &pid); err == nil {
				pidCh <- pid
				return
			}
			if !wait.Sleep(ctx, 5*time.Millisecond) {
				return
			}
		}
	}()
	if _, err := spawner.Spawn(ctx); !strings.Contains(fmt.Sprint(err), "did not become ready in time") {
		t.Errorf("got %v", err)
	}
	pid := <-pidCh
	for syscall.Kill(pid, 0) == nil {
		if !wait.Sleep(t.Context(), 5*time.Millisecond) {
			t.Fatalf("process %d still runs", pid)
		}
	}
}
