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

	"github.com/localport-sh/localport/testdata/certs"
)

// FindProgram returns the path of a program. It looks in directories, which may be glob patterns, then in PATH and in the directories
// of system programs. If it finds none it skips the test and names the Debian package that has the program.
func FindProgram(t testing.TB, program, debianPackage string, dirs ...string) string {
	t.Helper()
	dirs = append(dirs, filepath.SplitList(os.Getenv("PATH"))...)
	for _, dir := range append(dirs, "/usr/sbin", "/usr/local/sbin", "/sbin") {
		found, _ := filepath.Glob(filepath.Join(dir, program))
		for _, path := range found {
			if path, err := exec.LookPath(path); err == nil {
				return path
			}
		}
	}
	t.Skipf("%s is missing (Debian: %s)", program, debianPackage)
	return ""
}

// NewDir makes a directory with a path that is short enough for sockets. It belongs to the user that servers run as, and is removed
// after the test.
func NewDir(t testing.TB, name string) string {
	t.Helper()
	//nolint:usetesting // the path of t.TempDir is long, and only this user can enter it
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

// Write writes a file that only the user that servers run as can read, and returns its path.
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
	credential := serverCredential()
	if credential == nil {
		return
	}
	for _, path := range paths {
		if err := os.Chown(path, int(credential.Uid), int(credential.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// serverCredential returns the user that servers run as: nobody if this process is root, since many servers refuse to run as root, and
// nil, this process's user, otherwise.
var serverCredential = sync.OnceValue(func() *syscall.Credential {
	if os.Getuid() != 0 {
		return nil
	}
	nobody := &syscall.Credential{Uid: 65534, Gid: 65534} // where the system has no user of that name
	if account, err := user.Lookup("nobody"); err == nil {
		uid, _ := strconv.ParseUint(account.Uid, 10, 32)
		gid, _ := strconv.ParseUint(account.Gid, 10, 32)
		nobody.Uid, nobody.Gid = uint32(uid), uint32(gid)
	}
	return nobody
})

// Run runs a program in dir as the user that servers run as, and returns its standard output. The test fails if the program does.
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

// DirTemplate is the contents of a directory that take long to make: they are made once in this process, and copied from then on.
type DirTemplate struct {
	mu      sync.Mutex
	archive *os.File // a tar archive, already deleted, so that it vanishes with the process
}

// Fill fills the empty directory dir: the first time by calling fill, then with a copy of what fill made.
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

// IssueCertificate makes a certificate for localhost and 127.0.0.1, signed by a new authority. It writes the files to dir; they belong to the
// user that servers run as.
func IssueCertificate(t testing.TB, dir string) certs.Pair {
	t.Helper()
	pair := certs.Issue(t, dir, "localhost", "127.0.0.1")
	Chown(t, pair.CAFile, pair.CertFile, pair.KeyFile)
	return pair
}
