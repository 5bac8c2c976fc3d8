# List the recipes.
default:
    @just --list

# Build ./localport, without libc, as a release is: it starts in five sixths of the time.
build:
    CGO_ENABLED=0 go build -o localport ./cmd/localport

# Run all tests, also those of the test helpers in testdata.
test:
    go test ./... ./testdata/*

# Run all of CI. On Debian or Ubuntu, as root; it installs what it needs.
check:
    .ci/run

# Build a release of this commit into ./dist: archives, packages, SBOMs, checksums. The version is the tag's. On Linux; the same commit gives the same bytes.
release:
    .ci/release dist

# Format and lint. Needs golangci-lint.
lint:
    git ls-files -z '*.go' | xargs -0 golangci-lint fmt
    golangci-lint run ./... ./testdata/*

# Measure LocalPort beside direnv, mise, pitchfork, ssh, autossh, kubectl and socat in the same run, print one table of ratios and goals, and write testdata/bench/DATE-COMMIT.json. REGEX chooses measurements. On Debian or Ubuntu, as root, on a machine that does nothing else.
bench rounds="10" regex=".":
    .ci/bench {{rounds}} '{{regex}}'

# Compare a supervisor's memory, descriptors and goroutines after 100,000 connections, 1,000 reloads and 1,000 tunnels with those after the first twentieth.
soak:
    .ci/bench soak

# Compare the benchmarks that match REGEX between a commit and the working tree: each metric with its ratio and spread.
bench-compare commit="c5c7d0a" regex="." rounds="5":
    .ci/bench-compare {{commit}} '{{regex}}' {{rounds}}

# Simulate events of leases, elections, retries and reloads on a disk that fails, in simulated time. A report names the seed that repeats it.
simulate events="1000000" seed=`shuf -i 1-1000000000 -n 1`:
    .ci/simulate {{events}} {{seed}}

# Put faults into the code, one at a time, and simulate events until each is found: those whose names match REGEX, a regular expression.
simulate-faults regex="." events="100000":
    LOCALPORT_SIMULATION_FAULTS='{{regex}}' LOCALPORT_SIMULATION_EVENTS={{events}} go test ./forwarder/supervisor -run '^TestSimulation_FindsFaults$' -count=1 -timeout 3h -v

# Run random events until interrupted or a promise of .github/DESIGN.md is broken. As root. FLAGS such as: -seed 1 -duration 4m -v
chaos *flags:
    go run ./testdata/chaos/cmd/chaos {{flags}}

# Put earlier faults back into the code, one at a time, and check that the random events find each. As root. Takes about twenty minutes.
chaos-prove *flags:
    testdata/chaos/faults/prove {{flags}}

# Fuzz each target whose name matches REGEX for TIME. Inputs that are kept are in testdata/fuzz; each "go test" tries them.
fuzz time="2m" regex=".":
    .ci/fuzz {{time}} '{{regex}}'

# Install a git pre-commit hook that checks the format (gofumpt) and runs go vet. Needs golangci-lint.
hooks:
    printf '#!/bin/sh\nset -e\ngit ls-files -z "*.go" | xargs -0 golangci-lint fmt --diff\ngo vet ./...\n' > "$(git rev-parse --git-path hooks)/pre-commit"
    chmod +x "$(git rev-parse --git-path hooks)/pre-commit"

# Build the programs of the tests' Kubernetes cluster. Takes some minutes, once.
cluster-build:
    go run ./testdata/cluster/cmd/cluster build

# Start a Kubernetes cluster for this shell's kubectl: eval "$(just cluster-up)"
@cluster-up:
    go run ./testdata/cluster/cmd/cluster up

# Stop that cluster and remove everything of it.
@cluster-down:
    go run ./testdata/cluster/cmd/cluster down

# Draw .github/top.svg: localport top in a real terminal. Needs tmux and bash.
picture:
    go run ./testdata/toppicture >top.svg.new && mv top.svg.new .github/top.svg
