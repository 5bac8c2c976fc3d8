package daemon

import (
	"context"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// FindProgram looks for a program in folders, which may be patterns, then on PATH and where servers are kept. It skips the
// test if there is none, naming the Debian package that has it.
func FindProgram(t testing.TB, program, debian string, folders ...string) string {
	t.Helper()
	folders = append(folders, filepath.SplitList(os.Getenv("PATH"))...)
	for _, folder := range append(folders, "/usr/sbin", "/usr/local/sbin", "/sbin") {
		found, _ := filepath.Glob(filepath.Join(folder, program))
		for _, path := range found {
			if path, err := exec.LookPath(path); err == nil {
				return path
			}
		}
	}
	t.Skipf("%s is missing (Debian: %s)", program, debian)
	return ""
}

// NewDir makes a folder with a short path, so that sockets can lie in it. It belongs to the user that servers run as, and
// is removed after the test.
func NewDir(t testing.TB, name string) string {
	t.Helper()
	//nolint:usetesting // t.TempDir is long, and lies in a folder that only this user can enter
	dir, err := os.MkdirTemp("", "lp-"+name+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	Chown(t, dir)
	return dir
}

// Write makes a file that only the user that servers run as can read, and returns its path.
func Write(t testing.TB, dir, name string, lines ...string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	Chown(t, path)
	return path
}

// Chown gives files to the user that servers run as.
func Chown(t testing.TB, paths ...string) {
	t.Helper()
	who := serverCredential()
	if who == nil {
		return
	}
	for _, path := range paths {
		if err := os.Chown(path, int(who.Uid), int(who.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// serverCredential is the user that servers run as: many refuse to be root. Nil is this one.
var serverCredential = sync.OnceValue(func() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534} // Linux's, where it has no other
	if known, err := user.Lookup("nobody"); err == nil {
		uid, _ := strconv.ParseUint(known.Uid, 10, 32)
		gid, _ := strconv.ParseUint(known.Gid, 10, 32)
		nobody.Uid, nobody.Gid = uint32(uid), uint32(gid)
	}
	return nobody
})

// Run runs a program to its end in dir, as the user that servers run as, and returns what it printed.
func Run(t testing.TB, dir, stdin string, argv ...string) string {
	t.Helper()
	var out strings.Builder
	runProgram(t, dir, strings.NewReader(stdin), &out, argv...)
	return out.String()
}

func runProgram(t testing.TB, dir string, in io.Reader, out io.Writer, argv ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	var errs strings.Builder
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = dir, environment(dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, out, &errs
	cmd.WaitDelay = time.Second
	cmd.SysProcAttr = sysProcAttr(0)
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s%v", argv, err, errs.String(), out)
	}
}

// DirTemplate is a folder that takes long to make: it is made once in this process, and copied from then on.
type DirTemplate struct {
	mu      sync.Mutex
	archive *os.File // has no name any more: it vanishes with the process
}

// Fill fills the empty folder dir: by fill, the first time.
func (m *DirTemplate) Fill(t testing.TB, dir string, fill func()) {
	t.Helper()
	tar := FindProgram(t, "tar", "tar")
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.archive != nil {
		runProgram(t, dir, io.NewSectionReader(m.archive, 0, 1<<40), io.Discard, tar, "-xpf", "-")
		return
	}
	fill()
	//nolint:usetesting // it outlives the test
	archive, err := os.CreateTemp("", "lp-template-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(archive.Name())
	runProgram(t, dir, nil, archive, tar, "-cf", "-", ".")
	m.archive = archive
}
