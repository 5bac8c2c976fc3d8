// Command cluster runs a test cluster by hand: `build` makes what it consists of, `up` starts it and prints how a shell
// gets to it, as `env` does again, and `down` ends it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/localport-sh/localport/testdata/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "cluster: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("usage: cluster build|up|env|down")
	}
	switch args[0] {
	case "build":
		return cluster.Build(ctx, os.Stderr)
	case "up":
		return up()
	case "env":
		return env()
	case "down":
		return down()
	case "hold": // what up leaves running
		return hold(ctx)
	default:
		return fmt.Errorf("no such command: %s", args[0])
	}
}
