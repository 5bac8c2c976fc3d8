//go:build !linux

package memtrim

func dropProgramPages() {}
