package metrics

// ResidentMemory returns 0: on macOS the resident memory of a process is available only through calls that need cgo.
func ResidentMemory() uint64 { return 0 }
