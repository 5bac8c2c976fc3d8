// Command cluster runs a test cluster in the background: `build` downloads and compiles its programs, `up` starts it, `env` prints the
// variables that kubectl needs, as `up` does too, and `down` ends it.
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
		return printEnvironment()
	case "down":
		return down()
	case "serve": // for internal use: up starts it in the background
		return serve(ctx)
	default:
		return fmt.Errorf("unknown command %q: want build, up, env or down", args[0])
	}
}
