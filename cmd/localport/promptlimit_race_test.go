//go:build race

package main

// promptLimit is the LOCALPORT_LIMIT of these tests: the race detector makes every process that they start many times slower.
const promptLimit = "60s"
