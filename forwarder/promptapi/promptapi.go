// Package promptapi is the request by which `localport export` has a running supervisor evaluate a prompt, and the response. Path is its path
// on the control socket. Neither is JSON, and this package imports next to nothing: the client runs before the program's other packages are
// initialised (cmd/localport/internal/promptclient).
//
// The body of a request is a list of fields, each of which ends with a zero byte, as in /proc/PID/environ: none can contain one.
//
//	EXECUTABLE DIRECTORY DIRECTORY-ID NUMBER-OF-ARGUMENTS ARGUMENT... VARIABLE=VALUE...
//
// The status of the response is 200 if the supervisor accepts the request: it runs the same executable, and the client's environment and
// namespaces mean the same to it. Its body has two parts, which are sent as soon as they are known:
//
//	MILLISECONDS\n                        how long the client may wait for the second part
//	STATUS LENGTH LENGTH\nSTDOUTSTDERR    the exit status, and what the prompt prints
//
// Without the second part the supervisor could not evaluate the prompt, or an error is to be reported. With that, or with another status, the
// client evaluates the prompt itself.
package promptapi

import "strconv"

// Path is the path of the request.
const Path = "/v1/prompt"

// Request asks for the evaluation of a prompt.
type Request struct {
	Executable  string   // identifies the client's program; see ExecutableID
	Dir         string   // the client's current directory, as os.Getwd returns it
	DirID       string   // identifies the directory; see DirID
	Args        []string // of `localport export`: SHELL --pid PID …
	Environment []string // in the form of os.Environ
}

// Response is the result of an evaluated prompt.
type Response struct {
	ExitStatus     int
	Stdout, Stderr []byte
}

// Encode returns the body of the request.
func (r Request) Encode() []byte {
	size := len(r.Executable) + len(r.Dir) + len(r.DirID) + 16
	for _, list := range [][]string{r.Args, r.Environment} {
		for _, text := range list {
			size += len(text) + 1
		}
	}
	body := make([]byte, 0, size)
	field := func(text string) { body = append(append(body, text...), 0) }
	field(r.Executable)
	field(r.Dir)
	field(r.DirID)
	field(strconv.Itoa(len(r.Args)))
	for _, list := range [][]string{r.Args, r.Environment} {
		for _, text := range list {
			field(text)
		}
	}
	return body
}

// ParseRequest parses the body of a request; false if it is none.
func ParseRequest(body []byte) (r Request, ok bool) {
	var fields []string
	for start, i := 0, 0; i < len(body); i++ {
		if body[i] == 0 {
			fields = append(fields, string(body[start:i]))
			start = i + 1
		}
	}
	const first = 4 // the fields before the arguments
	if len(fields) < first || body[len(body)-1] != 0 {
		return Request{}, false
	}
	n, err := strconv.Atoi(fields[first-1])
	if err != nil || n < 0 || n > len(fields)-first {
		return Request{}, false
	}
	return Request{
		Executable: fields[0], Dir: fields[1], DirID: fields[2], Args: fields[first : first+n], Environment: fields[first+n:],
	}, true
}

// Encode returns the second part of the response's body.
func (r Response) Encode() []byte {
	part := strconv.AppendInt(nil, int64(r.ExitStatus), 10)
	part = append(part, ' ')
	part = strconv.AppendInt(part, int64(len(r.Stdout)), 10)
	part = append(part, ' ')
	part = strconv.AppendInt(part, int64(len(r.Stderr)), 10)
	part = append(part, '\n')
	return append(append(part, r.Stdout...), r.Stderr...)
}

// ParseResponse parses the second part of a response's body; false if it is not complete.
func ParseResponse(part []byte) (r Response, ok bool) {
	status, rest, hasStatus := cutNumber(part, ' ')
	stdout, rest, hasStdout := cutNumber(rest, ' ')
	stderr, rest, hasStderr := cutNumber(rest, '\n')
	if !hasStatus || !hasStdout || !hasStderr || stdout > len(rest) || stderr != len(rest)-stdout {
		return Response{}, false
	}
	return Response{ExitStatus: status, Stdout: rest[:stdout], Stderr: rest[stdout:]}, true
}

// EncodeLimit returns the first part of a response's body: how many milliseconds the client may wait.
func EncodeLimit(milliseconds int) []byte {
	return append(strconv.AppendInt(nil, int64(milliseconds), 10), '\n')
}

// CutLimit returns the number in the first part of a response's body, and what follows that; false if the part is not complete.
func CutLimit(body []byte) (milliseconds int, rest []byte, ok bool) { return cutNumber(body, '\n') }

// cutNumber returns the decimal number before the first byte end, and what follows that.
func cutNumber(data []byte, end byte) (n int, rest []byte, ok bool) {
	for i, c := range data {
		if c == end {
			n, err := strconv.Atoi(string(data[:i]))
			return n, data[i+1:], err == nil && n >= 0
		}
	}
	return 0, nil, false
}
