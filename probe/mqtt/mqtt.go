// Package mqtt checks an MQTT broker by connecting to it as a client, and disconnecting.
package mqtt

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/probe/secure"
	"github.com/localport-sh/localport/project"
)

// Type is the check of type "mqtt": healthy if the broker accepts the connection (CONNACK 0).
var Type = probe.Type{
	CheckType: project.CheckType{Name: "mqtt", Keys: append([]project.Key{
		{Name: "user", Aliases: []string{"username"}},
		{Name: "password", Secret: true},
		{Name: "client_id"},
		{Name: "version", Default: version3, Values: []string{version3, version5}},
	}, secure.Keys...)},
	New: secure.ConnectionCheck(check),
}

// The versions of the protocol, as a config names them.
const (
	version3 = "3.1.1"
	version5 = "5"
)

// The types of packet, in the high half of the first byte, with their fixed flags (MQTT 3.1.1, 2.2).
const (
	packetConnect    = 0x10
	packetConnack    = 0x20
	packetDisconnect = 0xe0
)

func check(conn net.Conn, s project.Settings) error {
	if _, err := conn.Write(encodeConnect(s)); err != nil {
		return err
	}
	head := make([]byte, 4) // type, length, flags, code: more follows in version 5
	switch _, err := io.ReadFull(conn, head); {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the broker closed the connection without answering CONNECT")
	case err != nil:
		return err
	case head[0] != packetConnack:
		return &probe.Failure{Reason: fmt.Sprintf("the answer to CONNECT is not an MQTT packet: % x", head)}
	}
	if code := head[3]; code != 0 {
		return refusalError(code)
	}
	_, err := conn.Write([]byte{packetDisconnect, 0})
	return err
}

func encodeConnect(s project.Settings) []byte {
	const cleanSession, withPassword, withUser = 0x02, 0x40, 0x80
	flags, level := byte(cleanSession), byte(4)
	id := cmp.Or(s.Text("client_id"), "localport-"+strings.ToLower(rand.Text()[:8]))
	if s.Text("version") == version5 {
		level = 5
	}
	payload := appendString(nil, id)
	if user := s.Text("user"); user != "" {
		flags |= withUser
		payload = appendString(payload, user)
	}
	if password := s.Text("password"); password != "" {
		flags |= withPassword
		payload = appendString(payload, password)
	}
	body := append(appendString(nil, "MQTT"), level, flags, 0, 10) // keep alive: 10 s
	if level == 5 {
		body = append(body, 0) // no properties
	}
	body = append(body, payload...)
	packet := append([]byte{packetConnect}, binary.AppendUvarint(nil, uint64(len(body)))...)
	return append(packet, body...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
}

// refusalReasons are the reason codes of a CONNACK in both versions (MQTT 3.1.1, 3.2.2.3; MQTT 5, 3.2.2.2).
var refusalReasons = map[byte]string{
	1: "unacceptable protocol version", 2: "client identifier rejected", 3: "server unavailable",
	4: "bad user name or password", 5: "not authorized",
	0x80: "unspecified error", 0x84: "unsupported protocol version", 0x85: "client identifier not valid",
	0x86: "bad user name or password", 0x87: "not authorized", 0x88: "server unavailable", 0x89: "server busy",
	0x8a: "banned", 0x8c: "bad authentication method", 0x95: "packet too large", 0x97: "quota exceeded",
	0x9c: "use another server", 0x9d: "server moved", 0x9f: "connection rate exceeded",
}

func refusalError(code byte) error {
	reason := cmp.Or(refusalReasons[code], fmt.Sprintf("code 0x%02x", code))
	hint := ""
	switch code {
	case 4, 5, 0x86, 0x87:
		hint = "set health_check.user and health_check.password"
	case 1, 0x84:
		hint = `set health_check.version to "3.1.1" or "5"`
	}
	return &probe.Failure{Reason: "the broker refused the connection: " + reason, Hint: hint}
}
