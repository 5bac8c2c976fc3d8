//go:build !race

package main

// promptLimit is the LOCALPORT_LIMIT of these tests: the product's own.
const promptLimit = "2s"

// maxParseAllocations limits the allocations of parsing a command line.
const maxParseAllocations = 1700
