//go:build !linux

package memtrim

func unmap() {}
