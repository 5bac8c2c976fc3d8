// Package redis checks a Redis server, or a compatible one, with PING.
package redis

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/secure"
	"github.com/localport-sh/localport/project"
)

// Type is the check of type "redis": healthy if PING is answered. It logs in if a password is given.
var Type = probe.Type{
	CheckType: project.CheckType{Name: "redis", Keys: append([]project.Key{
		{Name: "user", Aliases: []string{"username"}},
		{Name: "password", Secret: true},
		{Name: "database", Aliases: []string{"db"}, Type: project.TypeNumber},
	}, secure.Keys...)},
	New: secure.ConnectionCheck(check),
}

// checkRequests returns the commands of one check.
func checkRequests(s project.Settings) [][]string {
	var all [][]string
	switch user, password := s.Text("user"), s.Text("password"); {
	case user != "":
		all = append(all, []string{"AUTH", user, password})
	case password != "":
		all = append(all, []string{"AUTH", password})
	}
	if database := s.Number("database"); database > 0 {
		all = append(all, []string{"SELECT", strconv.Itoa(database)})
	}
	return append(all, []string{"PING"})
}

func check(conn net.Conn, s project.Settings) error {
	reader := bufio.NewReaderSize(conn, 4096)
	for _, request := range checkRequests(s) {
		if _, err := io.WriteString(conn, encodeRequest(request)); err != nil {
			return err
		}
		reply, err := reader.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("the server closed the connection without answering " + request[0])
		case errors.Is(err, bufio.ErrBufferFull):
			return &probe.Failure{Reason: "the answer to " + request[0] + " is not a Redis reply"}
		case err != nil:
			return err
		}
		if err := checkReply(request[0], strings.TrimRight(string(reply), "\r\n")); err != nil {
			return err
		}
	}
	_, _ = io.WriteString(conn, encodeRequest([]string{"QUIT"}))
	return nil
}

// encodeRequest encodes a command as an array of bulk strings (https://redis.io/docs/latest/develop/reference/protocol-spec/).
func encodeRequest(request []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(request))
	for _, word := range request {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(word), word)
	}
	return b.String()
}

// hints are the next steps of the user, by the first word of the error.
var hints = map[string]string{
	"NOAUTH":    "set health_check.password",
	"WRONGPASS": "set health_check.user and health_check.password",
	"LOADING":   "the server is loading its data; wait until it has finished",
	"DENIED":    "the server is in protected mode: set a password or a bind address on the server",
}

func checkReply(command, reply string) error {
	if reason, isError := strings.CutPrefix(reply, "-"); isError {
		word, _, _ := strings.Cut(reason, " ")
		return &probe.Failure{Reason: reason, Hint: hints[word]}
	}
	if !strings.HasPrefix(reply, "+") {
		return &probe.Failure{Reason: fmt.Sprintf("the answer to %s is not a Redis reply: %.40q", command, reply)}
	}
	return nil
}
