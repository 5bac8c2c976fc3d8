package client

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "play" {
		os.Exit(play(os.Args[2]))
	}
	goleak.VerifyTestMain(m)
}

// play is a supervisor that is being started and comes to some end.
func play(end string) int {
	switch end {
	case "ready":
		ReportReadiness(Readiness{Outcome: OutcomeReady})
	case "invalid":
		ReportReadiness(Readiness{Outcome: OutcomeInvalid, Error: "x.toml:1:1: wrong"})
	case "dies":
		println("panic: out of cheese")
		return 2
	}
	return 0
}

func spawner(t *testing.T, end string) Spawner {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spawner{Exe: exe, Args: []string{"play", end}, Env: os.Environ(), Log: filepath.Join(t.TempDir(), "log")}
}

func TestAStartIsToldByItsWordOrItsDeath(t *testing.T) {
	if word, err := spawner(t, "ready").Spawn(t.Context()); err != nil || word.Outcome != OutcomeReady {
		t.Errorf("ready: %+v, %v", word, err)
	}
	start := &StartError{}
	if _, err := spawner(t, "invalid").Spawn(t.Context()); !errors.As(err, &start) || start.Outcome != OutcomeInvalid {
		t.Errorf("invalid: %v", err)
	}
	if _, err := spawner(t, "dies").Spawn(t.Context()); !errors.As(err, &start) || !strings.Contains(err.Error(), "out of cheese") {
		t.Errorf("dies: %v, want the end of its log", err)
	}
}
