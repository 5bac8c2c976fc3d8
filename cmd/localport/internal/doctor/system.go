package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/forwarder/bridge"
	"github.com/localport-sh/localport/forwarder/filelimit"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

func keysOf[V any](m map[string]V) iter.Seq[string] { return maps.Keys(m) }

// What a machine with an editor and some watchers needs. Linux' own defaults were 8192 and 128 for a long time.
const (
	minWatches   = 8192
	minInstances = 64
)

// checkFiles checks how many files, and how many watches of files, the user may have.
func checkFiles(_ context.Context, s *Subject) []Finding {
	limit := filelimit.Current()
	var services []project.Service
	if s.Config != nil {
		services = s.Config.Services
	}
	if err := filelimit.Check(limit, services); err != nil {
		return fail(err.Error(), raiseLimitFix())
	}
	var findings []Finding
	for _, l := range []struct {
		name string
		min  int
	}{{"max_user_watches", minWatches}, {"max_user_instances", minInstances}} {
		data, err := os.ReadFile("/proc/sys/fs/inotify/" + l.name)
		if n, numberErr := strconv.Atoi(strings.TrimSpace(string(data))); err == nil && numberErr == nil && n < l.min {
			findings = append(findings, warn(fmt.Sprintf("inotify %s is %d: changed files are noticed late", l.name, n), fmt.Sprintf("sudo sysctl fs.inotify.%s=%d", l.name, l.min))...)
		}
	}
	return orOK(findings, fmt.Sprintf("a process may have %d open files", limit))
}

// usualLimit is a usual limit of open files, which is enough for some hundred services.
const usualLimit = 1024

// raiseLimitFix is how the limit of open files is raised: by the shell, if this user may raise the hard limit, which the Go runtime has applied
// already.
func raiseLimitFix() string {
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: usualLimit, Max: usualLimit}) == nil {
		return fmt.Sprintf("ulimit -n %d", usualLimit)
	}
	return fmt.Sprintf(`let an administrator raise "nofile" for you to %d in /etc/security/limits.conf, then log in again`, usualLimit)
}

// futureTolerance is how much newer than now a file may be: clocks of network file systems differ.
const futureTolerance = 5 * time.Minute

// checkClock finds files that were written in the future: the clock has been set back since. Whether it differs from an API server's clock, the
// check of the destinations tells.
func checkClock(_ context.Context, s *Subject) []Finding {
	home, err := lockstate.StateHome()
	if err != nil {
		return skip(err.Error())
	}
	latest, path := time.Time{}, ""
	_ = filepath.WalkDir(home, func(found string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil //nolint:nilerr // what cannot be read tells nothing
		}
		if info, err := entry.Info(); err == nil && info.ModTime().After(latest) {
			latest, path = info.ModTime(), found
		}
		return nil
	})
	if ahead := time.Until(latest); ahead > futureTolerance {
		return warn(fmt.Sprintf("%s was written %v in the future: the clock was set back", path, ahead.Round(time.Second)), "touch "+s.word(path))
	}
	return ok("no file of LocalPort has a time in the future")
}

// skewFinding is what a server's clock tells of this machine's.
func skewFinding(what string, skew time.Duration) Finding {
	fix := "sudo timedatectl set-ntp true"
	if runtime.GOOS == "darwin" {
		fix = "sudo sntp -sS time.apple.com"
	}
	direction := "behind"
	if skew < 0 {
		direction = "ahead of"
	}
	return Finding{ID: "clock", Status: Warn, Text: fmt.Sprintf("this machine's clock is %v %s that of %s: logins may be refused", skew.Abs().Round(time.Second), direction, what), Fix: fix}
}

// checkNetwork looks for what makes loopback differ from that of an ordinary machine: WSL, containers, bridges of containers.
func checkNetwork(_ context.Context, s *Subject) []Finding {
	findings := describeMachine("/", s.Env["WSL_DISTRO_NAME"])
	if s.Config != nil {
		seen := make(map[string]bool)
		for _, svc := range s.Config.Services {
			if svc.Bridge == "" || seen[svc.Bridge] {
				continue
			}
			seen[svc.Bridge] = true
			findings = append(findings, checkBridge(svc)...)
		}
	}
	return orOK(findings, "not in a container or WSL; no bridge is configured")
}

// describeMachine says what the files below root tell about WSL and containers. distribution is WSL's name of this system.
func describeMachine(root, distribution string) (findings []Finding) {
	kernel, _ := os.ReadFile(filepath.Join(root, "proc/sys/kernel/osrelease"))
	switch text := strings.ToLower(string(kernel)); {
	case strings.Contains(text, "microsoft") && !strings.Contains(text, "wsl2"):
		findings = fail("this is WSL 1, which LocalPort does not support", "in PowerShell: wsl --set-version "+distribution+" 2")
	case strings.Contains(text, "microsoft"):
		findings = ok("WSL 2: Windows programs reach the ports as localhost unless .wslconfig has localhostForwarding=false")
	}
	for _, path := range []string{".dockerenv", "run/.containerenv"} {
		if _, err := os.Stat(filepath.Join(root, path)); err == nil {
			return append(findings, ok("this is a container: the ports can be reached in its network only")...)
		}
	}
	return findings
}

func checkBridge(svc project.Service) []Finding {
	addr, err := bridge.Find(svc.Bridge)
	if err == nil {
		return ok(fmt.Sprintf("containers reach %s at %s", svc.Name, addr))
	}
	fix := fmt.Sprintf(`correct the bridge of %s, or write bridge = "none"`, svc.Name)
	if found, isBridge := err.(*bridge.Error); isBridge && found.Hint != "" { //nolint:errorlint // the only type that Find returns
		fix = found.Hint
	}
	return warn(fmt.Sprintf("containers cannot reach %s: %v", svc.Name, err), fix)
}

// checkRuntimeDir checks the directory for sockets.
func checkRuntimeDir(_ context.Context, s *Subject) []Finding {
	dir, err := lockstate.RuntimeDir()
	if err != nil {
		return fail(err.Error(), "mv "+s.word(dir)+" "+s.word(dir+".old"))
	}
	base := s.Env["XDG_RUNTIME_DIR"]
	preferred := filepath.Join(base, "localport")
	switch {
	case base == "":
		return ok(dir + " (XDG_RUNTIME_DIR is not set)")
	case dir == preferred:
		return ok(dir)
	}
	info, err := os.Lstat(preferred)
	if err == nil && !info.IsDir() {
		return warn(fmt.Sprintf("%s is not a directory; %s is used instead", preferred, dir), "mv "+s.word(preferred)+" "+s.word(preferred+".old"))
	}
	return ok(fmt.Sprintf("%s (XDG_RUNTIME_DIR=%s is too long, is another user's or cannot be written to)", dir, base))
}

// minFreeSpace is less than the logs of a few services need, in bytes.
const minFreeSpace = 16 << 20

// checkStateDir checks that the state can be written.
func checkStateDir(_ context.Context, s *Subject) []Finding {
	dir, err := lockstate.StateHome()
	if err != nil {
		return fail(err.Error(), "set HOME or XDG_STATE_HOME")
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return fail(dir+" is not a directory", "mv "+s.word(dir)+" "+s.word(dir+".old"))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fail(err.Error(), s.makeWritableFix(dir))
	}
	file, err := os.CreateTemp(dir, "doctor-*")
	if err != nil {
		return fail(err.Error(), s.makeWritableFix(dir))
	}
	_, err = file.Write(make([]byte, 4096))
	_ = file.Close()
	_ = os.Remove(file.Name())
	if err != nil {
		return fail("write "+dir+": "+err.Error(), "free disk space; du -sh "+s.word(dir)+" says how much LocalPort uses")
	}
	var stat unix.Statfs_t
	if unix.Statfs(dir, &stat) == nil {
		if free := uint64(stat.Bavail) * uint64(stat.Bsize); free < minFreeSpace {
			return warn(fmt.Sprintf("%s has %d MB left", dir, free>>20), "free disk space; du -sh "+s.word(dir)+" says how much LocalPort uses")
		}
	}
	return ok(dir)
}

// makeWritableFix is how a directory becomes one in which the user may make files.
func (s *Subject) makeWritableFix(dir string) string {
	for {
		info, err := os.Stat(dir)
		if err != nil && dir != "/" {
			dir = filepath.Dir(dir)
			continue
		}
		if err == nil && info.IsDir() && isOwnFile(info) && !isOnReadOnlyDisk(dir) {
			return "chmod u+rwx " + s.word(dir)
		}
		return "set HOME to your home directory, or XDG_STATE_HOME to a directory that you may write to; a supervisor that runs keeps its own"
	}
}

func isOwnFile(info os.FileInfo) bool {
	stat, isStat := info.Sys().(*syscall.Stat_t)
	return isStat && int(stat.Uid) == os.Getuid()
}

func isOnReadOnlyDisk(dir string) bool { return errors.Is(unix.Access(dir, unix.W_OK), unix.EROFS) }

func isDirectory(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// isWritable reports whether this user may make files in a directory.
func isWritable(dir string) bool { return unix.Access(dir, unix.W_OK) == nil }
