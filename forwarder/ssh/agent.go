package ssh

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"time"
)

// AgentVariable has the path of the agent's socket.
const AgentVariable = "SSH_AUTH_SOCK"

// The messages of the agent protocol that list the keys (draft-miller-ssh-agent, sections 4.4 and 7.1).
const (
	agentRequestIdentities = 11
	agentIdentitiesAnswer  = 12
	agentFailure           = 5 // of a locked agent
)

const (
	agentTimeout     = time.Second
	maxAgentResponse = 256 << 10 // as in OpenSSH's authfd.c
)

var errAgentResponse = errors.New("invalid response of the agent")

// AgentKeys returns the public keys of the agent at a socket, in the agent's encoding. The error says why it does not answer within a second.
func AgentKeys(socket string) ([]string, error) {
	conn, err := net.DialTimeout("unix", socket, agentTimeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(agentTimeout)); err != nil {
		return nil, err
	}
	if _, err := conn.Write([]byte{0, 0, 0, 1, agentRequestIdentities}); err != nil {
		return nil, err
	}
	var header [5]byte
	if _, err := io.ReadFull(conn, header[:]); err != nil {
		return nil, err
	}
	size := binary.BigEndian.Uint32(header[:4])
	if header[4] == agentFailure {
		return nil, nil
	}
	if header[4] != agentIdentitiesAnswer || size < 5 || size > maxAgentResponse {
		return nil, errAgentResponse
	}
	response := make([]byte, size-1)
	if _, err := io.ReadFull(conn, response); err != nil {
		return nil, err
	}
	return parseAgentKeys(response)
}

// parseAgentKeys parses a number of keys and for each the key and a comment, both as strings (RFC 4251, section 5).
func parseAgentKeys(response []byte) ([]string, error) {
	count, rest := binary.BigEndian.Uint32(response), response[4:]
	var keys []string
	for range count {
		key, afterKey, ok := cutString(rest)
		_, afterComment, hasComment := cutString(afterKey)
		if !ok || !hasComment {
			return nil, errAgentResponse
		}
		keys, rest = append(keys, string(key)), afterComment
	}
	return keys, nil
}

func cutString(data []byte) (text, rest []byte, ok bool) {
	if len(data) < 4 {
		return nil, nil, false
	}
	size := binary.BigEndian.Uint32(data)
	if data = data[4:]; uint64(size) > uint64(len(data)) {
		return nil, nil, false
	}
	return data[:size], data[size:], true
}
