package process

import (
	"debug/elf"
	"strings"

	"golang.org/x/sys/unix"
)

func isMountedNoexec(path string) bool {
	var fs unix.Statfs_t
	return unix.Statfs(path, &fs) == nil && fs.Flags&unix.ST_NOEXEC != 0
}

// elfLoader returns the path of the loader that an ELF program names, if it does not exist.
func elfLoader(path string) string {
	program, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = program.Close() }()
	for _, header := range program.Progs {
		if header.Type != elf.PT_INTERP || header.Filesz > 4096 {
			continue
		}
		data := make([]byte, header.Filesz)
		if _, err := header.ReadAt(data, 0); err != nil {
			return ""
		}
		loader, _, _ := strings.Cut(string(data), "\x00")
		if unix.Access(loader, unix.F_OK) == nil {
			return ""
		}
		return loader
	}
	return ""
}
