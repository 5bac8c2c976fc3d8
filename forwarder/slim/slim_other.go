//go:build !linux

package slim

func unmap() {}
