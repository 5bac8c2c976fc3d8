# The recipes; `just` alone lists them.
default:
    @just --list

# Build ./localport.
build:
    go build -o localport ./cmd/localport

# Every test, and those of the tests' helpers.
test:
    go test ./... ./testdata/*

# All that decides whether a change lands.
check:
    .ci/run

# Format and lint.
lint:
    golangci-lint fmt ./...
    golangci-lint run ./...

# The benchmarks; each prints a ratio beside a peer of the same run.
bench:
    go test -run '^$' -bench . -benchtime 1x ./...

# The benchmarks (those that REGEX names) of a commit and of the working tree in turn, each metric with its ratio and spread.
bench-compare commit="c5c7d0a" regex="." rounds="5":
    .ci/bench-compare {{commit}} '{{regex}}' {{rounds}}

# Ssh forwards beside plain ssh and, where it is installed, autossh; some five minutes.
bench-ssh:
    go test -run '^$' -bench SSHForwards -benchtime 5x -timeout 30m ./cmd/localport

# Random events against what users and the world around do to it, until interrupted or something is not as promised; as root.
chaos *flags:
    go run ./testdata/chaos/cmd/chaos {{flags}}

# Put faults of the history back, one at a time, and have each found by the random events; some twenty minutes.
chaos-prove *flags:
    testdata/chaos/faults/prove {{flags}}

# Have git run the quick checks before each commit: format as .golangci.yml says (gofumpt), and vet.
hooks:
    printf '#!/bin/sh\nset -e\ngit ls-files -z "*.go" | xargs -0 golangci-lint fmt --diff\ngo vet ./...\n' > "$(git rev-parse --git-path hooks)/pre-commit"
    chmod +x "$(git rev-parse --git-path hooks)/pre-commit"

# Build what the tests' Kubernetes cluster is made of; some minutes, once.
cluster-build:
    go run ./testdata/cluster/cmd/cluster build

# Start a cluster to try things on: eval "$(just cluster-up)".
@cluster-up:
    go run ./testdata/cluster/cmd/cluster up

# End it; nothing is left.
@cluster-down:
    go run ./testdata/cluster/cmd/cluster down
