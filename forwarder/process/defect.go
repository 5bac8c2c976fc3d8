package process

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Defect is why an existing program cannot be executed.
type Defect struct {
	Reason string // what is wrong, without the program's path
	Hint   string // the next step
}

// FindDefect looks for the reason why a program cannot be executed in a directory. err is the system's error, if that is known. The zero
// value means that none was found.
func FindDefect(path, dir string, err error) Defect {
	if info, statErr := os.Stat(dir); dir != "" && (statErr != nil || !info.IsDir()) {
		return Defect{"the directory to run it in, " + dir + ", does not exist", "create " + dir}
	}
	path = resolvePath(dir, path)
	info, statErr := os.Stat(path)
	if statErr != nil {
		return Defect{}
	}
	switch {
	case info.IsDir():
		return Defect{"it is a directory", "name the program in it"}
	case errors.Is(err, syscall.ETXTBSY):
		return Defect{"it is being written", ""}
	}
	header := readHeader(path)
	interpreter, isScript := cutInterpreter(header)
	switch {
	case isMountedNoexec(path) && isScript:
		return Defect{"its file system is mounted noexec", fmt.Sprintf("put its interpreter before it, %s %s, or move it to another file system", interpreter, QuoteWord(path))}
	case isMountedNoexec(path):
		return Defect{"its file system is mounted noexec", "move it to another file system"}
	case unix.Access(path, unix.X_OK) != nil:
		return Defect{"it is not executable", makeExecutable(path, info)}
	case isScript:
		return findInterpreterDefect(path, dir, interpreter)
	case errors.Is(err, syscall.ENOENT):
		if loader := elfLoader(path); loader != "" {
			return Defect{"its loader, " + loader + ", does not exist: it was built for another system", "install a build of " + filepath.Base(path) + " for this system"}
		}
	case errors.Is(err, syscall.ENOEXEC):
		return findFormatDefect(path, header)
	}
	return Defect{}
}

// makeExecutable returns how to make a file executable. Only its owner and root may.
func makeExecutable(path string, info os.FileInfo) string {
	hint := "run: chmod +x " + QuoteWord(path)
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() == 0 || int(stat.Uid) == os.Geteuid() {
		return hint
	}
	owner := "uid " + strconv.Itoa(int(stat.Uid))
	if u, err := user.LookupId(strconv.Itoa(int(stat.Uid))); err == nil {
		owner = u.Username
	}
	return "as its owner, " + owner + ", " + hint
}

// maxHeader is more of a file than systems read to find out how to execute it.
const maxHeader = 1024

func readHeader(path string) []byte {
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	header := make([]byte, maxHeader)
	n, _ := file.Read(header)
	return header[:n]
}

// cutInterpreter returns the interpreter that the #! line of a script names, as the system reads it: up to a blank or the end of the line. A
// carriage return is part of it.
func cutInterpreter(header []byte) (interpreter string, isScript bool) {
	line, isScript := bytes.CutPrefix(header, []byte("#!"))
	if !isScript {
		return "", false
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	line = bytes.TrimLeft(line, " \t")
	if i := bytes.IndexAny(line, " \t"); i >= 0 {
		line = line[:i]
	}
	return string(line), true
}

func findInterpreterDefect(path, dir, interpreter string) Defect {
	if interpreter == "" || interpreter == "\r" {
		return Defect{"its #! line names no interpreter", "correct the first line of " + path + `, for example "#!/bin/sh"`}
	}
	if strings.HasSuffix(interpreter, "\r") {
		return carriageReturnDefect(path)
	}
	resolved := resolvePath(dir, interpreter)
	info, err := os.Stat(resolved)
	switch {
	case err != nil:
		return Defect{"the interpreter in its #! line, " + interpreter + ", does not exist", fmt.Sprintf("install %s, or correct the first line of %s", filepath.Base(interpreter), path)}
	case info.IsDir():
		return Defect{"the interpreter in its #! line, " + interpreter + ", is a directory", "correct the first line of " + path}
	case unix.Access(resolved, unix.X_OK) != nil:
		return Defect{"the interpreter in its #! line, " + interpreter + ", is not executable", makeExecutable(resolved, info)}
	}
	return Defect{}
}

func carriageReturnDefect(path string) Defect {
	remove := `sed -i 's/\r$//' `
	if runtime.GOOS == "darwin" {
		remove = `perl -pi -e 's/\r$//' `
	}
	return Defect{"its lines end with a carriage return, as on Windows, so that its interpreter is not found", "remove the carriage returns: " + remove + QuoteWord(path)}
}

// FindCarriageReturn returns the defect of a script whose #! line ends with a carriage return. env, which can be executed, then looks for a
// program with that name and exits with status 127 or 126.
func FindCarriageReturn(path string) Defect {
	header := readHeader(path)
	if line, _, _ := bytes.Cut(header, []byte("\n")); bytes.HasPrefix(line, []byte("#!")) && bytes.HasSuffix(line, []byte("\r")) {
		return carriageReturnDefect(path)
	}
	return Defect{}
}

// findFormatDefect explains a file that the system cannot execute although its mode allows that.
func findFormatDefect(path string, header []byte) Defect {
	install := fmt.Sprintf("install the build of %s for %s/%s", filepath.Base(path), runtime.GOOS, runtime.GOARCH)
	switch kind := programKind(header); {
	case len(header) == 0:
		return Defect{"it is empty", "install " + filepath.Base(path) + " again"}
	case kind != "":
		return Defect{"it is " + kind, install}
	case bytes.HasPrefix(header, []byte("\xef\xbb\xbf#!")):
		return Defect{"it begins with a byte order mark before its #! line", "save " + path + " as UTF-8 without a byte order mark"}
	case bytes.IndexByte(header, 0) < 0:
		return Defect{"it has no #! line", `add a first line that names its interpreter, for example "#!/bin/sh", to ` + path}
	}
	return Defect{"it is no program of this system", install}
}

// programKind says for which system and processor a program was built, by the magic number; empty if it is none.
func programKind(header []byte) string {
	magic := func(text string) bool { return bytes.HasPrefix(header, []byte(text)) }
	switch {
	case magic("\x7fELF") && len(header) >= 20:
		// The ELF header: EI_DATA is byte 5, e_machine the two bytes at 18.
		machine := binary.LittleEndian.Uint16(header[18:])
		if header[5] == 2 {
			machine = binary.BigEndian.Uint16(header[18:])
		}
		name := map[uint16]string{3: "386", 8: "mips", 20: "ppc", 21: "ppc64", 22: "s390x", 40: "arm", 62: "amd64", 183: "arm64", 243: "riscv64", 258: "loong64"}[machine]
		if name == "" {
			name = "processor type " + strconv.Itoa(int(machine))
		}
		return "a program for Linux on " + name
	case magic("\xcf\xfa\xed\xfe"), magic("\xce\xfa\xed\xfe"), magic("\xca\xfe\xba\xbe"):
		return "a program for macOS"
	case magic("MZ"):
		return "a program for Windows"
	}
	return ""
}

// QuoteWord returns a word for a command line of a shell: bash, zsh, fish or another. A backslash is outside of the quotes, because fish treats it
// specially inside of them.
func QuoteWord(word string) string {
	if strings.ContainsFunc(word, func(r rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+=:,./_-", r)
	}) {
		return "'" + strings.NewReplacer("'", `'\''`, `\`, `'\\'`).Replace(word) + "'"
	}
	return word
}
