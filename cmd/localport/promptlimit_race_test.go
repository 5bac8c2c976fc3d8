//go:build race

package main

// promptLimit is the LOCALPORT_LIMIT of these tests: the race detector makes every process that they start many times slower.
const promptLimit = "60s"

// maxParseAllocations is more than without the race detector, which makes 1,690 to 1,701 of 1,534.
const maxParseAllocations = 1900
