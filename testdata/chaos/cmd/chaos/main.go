// Command chaos drives a localport by random events until its time is over or something is not as promised.
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
	if code, played := chaos.Play(os.Args[1:]); played {
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
	flag.StringVar(&o.Binary, "binary", "", "the localport to drive; built from ./cmd/localport where absent")
	flag.Uint64Var(&o.Seed, "seed", 0, "of the events and their delays; random where absent")
	flag.DurationVar(&o.Duration, "duration", 0, "how long; until interrupted where absent")
	flag.DurationVar(&o.Complete, "complete", 0, "go on for as long as this while cells of the matrix are empty; those that stay empty fail the run")
	flag.IntVar(&o.Steps, "steps", 0, "end after so many steps")
	flag.IntVar(&o.Projects, "projects", 6, "how many projects there are; fewer do not meet every event in every state in four minutes")
	flag.StringVar(&events, "events", "", "only these events, with commas between")
	flag.StringVar(&skip, "skip", "", "not these events")
	flag.StringVar(&replay, "replay", "", "a file with the steps that a violation was reported with")
	flag.BoolVar(&o.Verbose, "v", false, "print what happens")
	flag.StringVar(&o.Dir, "dir", "", "for internal use: the directory of the world")
	flag.Parse()
	if o.Dir == "" {
		return outside(&o)
	}
	if chaos.IsInit() {
		return chaos.Init(o.Dir, os.Args[1:])
	}
	o.Events, o.Skip = list(events), list(skip)
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

func list(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}

// outside prepares the world's directory and runs the driver in namespaces of its own.
func outside(o *chaos.Options) (int, error) {
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	fmt.Printf("seed %d\n", o.Seed)
	dir, err := os.MkdirTemp("/var/tmp", "lc") // short, and not below a directory that the world mounts over
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
	began := time.Now()
	args := append([]string{"-dir", dir, "-seed", fmt.Sprint(o.Seed)}, os.Args[1:]...)
	code, err := chaos.Isolate(args)
	fmt.Printf("seed %d: exit %d after %v\n", o.Seed, code, time.Since(began).Round(time.Second))
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
