//go:build !linux

package main

// runWithoutUnixSockets fails: seccomp is Linux's.
func runWithoutUnixSockets() int { return 1 }
