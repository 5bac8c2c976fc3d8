// Command chaos tests localport with random events until its time is up or a promise of the design is broken. It needs root.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/localport-sh/localport/testdata/chaos"
)

func main() {
	if code, isProgram := chaos.RunProgram(os.Args[1:]); isProgram {
		os.Exit(code)
	}
	code, err := run()
	if err != nil {
		fmt.Fprintln(os.Stderr, "chaos:", err)
	}
	os.Exit(code)
}

func run() (int, error) {
	var o chaos.Options
	var events, skip, replay string
	flag.StringVar(&o.Binary, "binary", "", "the localport to test (default: build ./cmd/localport)")
	flag.Uint64Var(&o.Seed, "seed", 0, "the seed of the events and their delays (default: random)")
	flag.DurationVar(&o.Duration, "duration", 0, "stop after this time (default: run until interrupted)")
	flag.DurationVar(&o.Complete, "complete", 0, "continue for up to this time while cells of the matrix are empty; fail if some stay empty")
	flag.IntVar(&o.Steps, "steps", 0, "stop after this number of steps")
	flag.IntVar(&o.Projects, "projects", 6, "the number of projects; with fewer, four minutes are not enough for every event in every state")
	flag.StringVar(&events, "events", "", "only these events, separated by commas")
	flag.StringVar(&skip, "skip", "", "skip these events, separated by commas; EVENT:STATE skips an event in one state")
	flag.StringVar(&replay, "replay", "", "perform the steps in this file, which the report of a violation printed")
	flag.BoolVar(&o.Verbose, "v", false, "print each event and command")
	flag.StringVar(&o.Dir, "dir", "", "for internal use: the directory of the run")
	flag.Parse()
	if o.Dir == "" {
		return prepareAndIsolate(&o)
	}
	if chaos.IsInit() {
		return chaos.RunInit(o.Dir, os.Args[1:])
	}
	o.Events, o.Skip = splitList(events), splitList(skip)
	if replay != "" {
		data, err := os.ReadFile(replay)
		if err != nil {
			return 2, err
		}
		if err := json.Unmarshal(data, &o.Replay); err != nil {
			return 2, fmt.Errorf("%s: %w", replay, err)
		}
	}
	o.Binary, o.Self, o.Out = filepath.Join(o.Dir, "bin", "localport"), filepath.Join(o.Dir, "bin", "chaos"), os.Stdout
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	ok, err := chaos.Run(ctx, o)
	if err != nil || !ok {
		return 1, err
	}
	return 0, nil
}

func splitList(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// prepareAndIsolate makes the directory of the run, copies or builds the programs into it, and runs the driver in new namespaces.
func prepareAndIsolate(o *chaos.Options) (int, error) {
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	fmt.Printf("seed %d\n", o.Seed)
	dir, err := os.MkdirTemp("/var/tmp", "lc") // short, because sockets are made there
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	bin := filepath.Join(dir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return 1, err
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	if err := copyFile(self, filepath.Join(bin, "chaos")); err != nil {
		return 1, err
	}
	if o.Binary != "" {
		err = copyFile(o.Binary, filepath.Join(bin, "localport"))
	} else {
		build := exec.Command("go", "build", "-o", filepath.Join(bin, "localport"), "./cmd/localport")
		build.Stdout, build.Stderr = os.Stdout, os.Stderr
		err = build.Run()
	}
	if err != nil {
		return 1, fmt.Errorf("get the binary: %w", err)
	}
	startedAt := time.Now()
	args := append([]string{"-dir", dir, "-seed", fmt.Sprint(o.Seed)}, os.Args[1:]...)
	code, err := chaos.RunIsolated(args)
	fmt.Printf("seed %d: exit %d after %v\n", o.Seed, code, time.Since(startedAt).Round(time.Second))
	return code, err
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Close()
}
