// Package promptclient has a project's running supervisor evaluate a prompt. The supervisor is initialised and has its pages in memory: of the
// 4.8 ms of CPU that `localport export` took, more than 3 ms went into starting the program up to the evaluation, and into code that runs once.
// This takes 1.6 ms, 1.0 of which an empty Go program takes too (measured on two cores, Linux 6), and 1 ms in the supervisor. Both run the
// same code, package prompt. In every other case (no supervisor, another version of the program, another environment, an error to be reported),
// Run returns false, and this process evaluates the prompt.
//
// This package imports as little as possible, so that it is initialised before nearly all others; see its init.
package promptclient

import (
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/localport-sh/localport/forwarder/promptapi"
)

// acceptTimeout is how long the supervisor may take to accept the request. One that is stopped, or too busy, costs a prompt that much before the
// prompt is evaluated in this process.
const acceptTimeout = 100 * time.Millisecond

// maxRuntimeBase is the length from which on lockstate ignores $XDG_RUNTIME_DIR, in bytes.
const maxRuntimeBase = 38

// configName is project.ConfigName, whose package is not initialised yet.
const configName = ".localport.toml"

// This init runs before most packages of the program are initialised: the order of initialisation is by import path among the packages whose
// imports are initialised (https://go.dev/ref/spec#Program_initialization). cmd/localport/internal/prompt/init.go has more about it.
// A build that counts coverage calls Run from main.
func init() {
	if len(os.Args) > 2 && os.Args[1] == "export" && os.Args[2] != "" && os.Args[2][0] != '-' && os.Getenv("GOCOVERDIR") == "" {
		if status, ok := Run(os.Args[2:]); ok {
			os.Exit(status)
		}
	}
}

// Run has the supervisor evaluate the prompt, prints the result, and returns the exit status. It returns false, and has printed nothing, if this
// process has to evaluate the prompt. args are the arguments of `localport export`: SHELL --pid PID ….
func Run(args []string) (exitStatus int, ok bool) {
	socket := findSocket(args)
	if socket == "" {
		return 0, false
	}
	dir, err := os.Getwd()
	if err != nil {
		return 0, false
	}
	response, result := ask(socket, promptapi.Request{
		Executable: promptapi.ExecutableID(), Dir: dir, DirID: promptapi.DirID("."), Args: args, Environment: os.Environ(),
	}.Encode())
	const failed = 1 // output.ExitFailed
	switch result {
	case declined:
		return 0, false
	case timedOut: // the prompt's time is over: this process must not wait for the supervisor again
		if !hasPrefix(args, "--hold") && !hasPrefix(args, "--limit") {
			_ = writeAll(2, []byte("localport: no result in time in "+strconv.Quote(dir)+": the supervisor does not respond; run \"localport daemon restart\"\n"))
		}
		return failed, true
	}
	_ = writeAll(2, response.Stderr) // there is no other place for messages
	if err := writeAll(1, response.Stdout); err != nil {
		_ = writeAll(2, []byte("localport: write to the standard output: "+err.Error()+"\n"))
		return failed, true
	}
	return response.ExitStatus, true
}

// findSocket returns the path of the control socket of the project that the current directory is in or, if that is in none, of the one that
// the shell leaves; "" if there is no such socket.
func findSocket(args []string) string {
	root, isFound := findRoot()
	if !isFound {
		root = argument(args, "--root")
	}
	if root == "" {
		return ""
	}
	dir := runtimeDir()
	if dir == "" {
		return ""
	}
	// As lockstate names a project's state directory and its socket.
	if root == "/" {
		root = ""
	}
	sum := sha256(root + "/" + configName)
	path := append([]byte(dir), '/')
	for _, b := range sum[:8] {
		const digits = "0123456789abcdef"
		path = append(path, digits[b>>4], digits[b&0xf])
	}
	return string(path) + ".sock"
}

// findRoot is project.Find for the current directory.
func findRoot() (root string, isFound bool) {
	dir, err := syscall.Getwd() // physical
	if err != nil || dir == "" || dir[0] != '/' {
		return "", false
	}
	for {
		parent := dir
		if dir == "/" {
			parent = ""
		}
		var stat syscall.Stat_t
		if syscall.Stat(parent+"/"+configName, &stat) == nil {
			return dir, true
		}
		if dir == "/" {
			return "", false
		}
		end := len(dir) - 1
		for dir[end] != '/' {
			end--
		}
		dir = dir[:max(end, 1)]
	}
}

// argument returns the argument that follows name; "" if there is none.
func argument(args []string, name string) string {
	for i, arg := range args[:len(args)-1] {
		if arg == name {
			return args[i+1]
		}
	}
	return ""
}

// hasPrefix reports whether an argument begins with prefix.
func hasPrefix(args []string, prefix string) bool {
	for _, arg := range args {
		if len(arg) >= len(prefix) && arg[:len(prefix)] == prefix {
			return true
		}
	}
	return false
}

// runtimeDir returns the directory for sockets, if it is private to this user: another one must not get the environment. It is the first one
// that lockstate uses; a supervisor of another session, with another $XDG_RUNTIME_DIR, is not found.
func runtimeDir() string {
	uid := os.Getuid()
	if uid != os.Geteuid() {
		return ""
	}
	dir := "/tmp/localport-" + strconv.Itoa(uid)
	if base := os.Getenv("XDG_RUNTIME_DIR"); base != "" && len(base) < maxRuntimeBase {
		dir = base + "/localport"
	}
	var stat syscall.Stat_t
	if dir[0] != '/' || syscall.Lstat(dir, &stat) != nil || stat.Mode&syscall.S_IFMT != syscall.S_IFDIR || int(stat.Uid) != uid || stat.Mode&0o077 != 0 {
		return ""
	}
	return dir
}

// result is how a request has ended.
type result int

const (
	declined result = iota // the supervisor did not accept the request in time, or did not evaluate the prompt
	answered
	timedOut // the supervisor has accepted the request, and the time for its answer is over
)

// ask sends the body of a request to the socket.
func ask(socket string, body []byte) (promptapi.Response, result) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		return promptapi.Response{}, declined
	}
	defer func() { _ = syscall.Close(fd) }()
	syscall.CloseOnExec(fd)
	deadline := time.Now().Add(acceptTimeout)
	if setTimeout(fd, syscall.SO_SNDTIMEO, deadline) != nil || syscall.Connect(fd, &syscall.SockaddrUnix{Name: socket}) != nil {
		return promptapi.Response{}, declined
	}
	header := "POST " + promptapi.Path + " HTTP/1.0\r\nHost: localport\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n"
	if setTimeout(fd, syscall.SO_SNDTIMEO, deadline) != nil || writeAll(fd, append([]byte(header), body...)) != nil {
		return promptapi.Response{}, declined
	}
	r := reader{fd: fd, deadline: deadline}
	if !r.readHeader() {
		return promptapi.Response{}, declined
	}
	for {
		limit, rest, ok := promptapi.CutLimit(r.data)
		if !ok {
			if !r.read() {
				return promptapi.Response{}, declined
			}
			continue
		}
		r.data, r.deadline = rest, time.Now().Add(time.Duration(limit)*time.Millisecond)
		for r.read() {
		}
		if response, ok := promptapi.ParseResponse(r.data); ok {
			return response, answered
		}
		if r.hasEnded {
			return promptapi.Response{}, declined
		}
		return promptapi.Response{}, timedOut
	}
}

// errTimedOut says that a deadline has passed.
var errTimedOut error = syscall.ETIMEDOUT

// setTimeout has the next calls on the socket fail after the deadline.
func setTimeout(fd, option int, deadline time.Time) error {
	left := time.Until(deadline)
	if left < time.Microsecond { // 0 would mean no timeout
		return errTimedOut
	}
	timeout := syscall.NsecToTimeval(left.Nanoseconds())
	return syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, option, &timeout)
}

// reader reads an HTTP response (RFC 1945: the server closes the connection at its end).
type reader struct {
	fd       int
	deadline time.Time
	data     []byte // read and not used yet
	hasEnded bool   // the server has closed the connection
}

// read reads more. It returns false at the end, after an error, and after the deadline.
func (r *reader) read() bool {
	if len(r.data) == cap(r.data) {
		r.data = append(make([]byte, 0, 2*cap(r.data)+4096), r.data...)
	}
	for {
		if setTimeout(r.fd, syscall.SO_RCVTIMEO, r.deadline) != nil {
			return false
		}
		n, err := syscall.Read(r.fd, r.data[len(r.data):cap(r.data)])
		if err == syscall.EINTR {
			continue
		}
		if n > 0 && err == nil {
			r.data = r.data[:len(r.data)+n]
			return true
		}
		r.hasEnded = err == nil || err == syscall.ECONNRESET
		return false
	}
}

// readHeader reads the header and removes it. It returns false unless the status is 200.
func (r *reader) readHeader() bool {
	const separator = "\r\n\r\n"
	for {
		for i := 0; i+len(separator) <= len(r.data); i++ {
			if string(r.data[i:i+len(separator)]) == separator {
				const status = "HTTP/1.x 200 "
				isOK := i > len(status) && string(r.data[:7]) == status[:7] && string(r.data[8:len(status)]) == status[8:]
				r.data = r.data[i+len(separator):]
				return isOK
			}
		}
		if !r.read() {
			return false
		}
	}
}

// writeAll writes all of data, as far as the file takes it.
func writeAll(fd int, data []byte) error {
	for len(data) > 0 {
		n, err := syscall.Write(fd, data)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return err
		case n == 0:
			return syscall.EIO
		default:
			data = data[n:]
		}
	}
	return nil
}
