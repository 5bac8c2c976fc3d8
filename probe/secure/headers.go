package secure

import (
	"errors"
	"fmt"
	"strings"

	"github.com/localport-sh/localport/project"
)

// Headers are those that a check over HTTP sends besides its own. Their values are secret, but for those that never are.
var Headers = project.Key{
	Name: "headers", Type: project.TypeTable, Secret: true, Validate: sendable,
	PublicEntries: []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Type", "Host", "Origin", "Referer", "User-Agent",
	},
}

// sendable says which header HTTP could not carry (RFC 9110, 5.1 and 5.5). It shows no value.
func sendable(value any) error {
	for name, text := range value.(map[string]string) {
		if strings.ContainsFunc(name, notOfToken) || name == "" {
			return fmt.Errorf("%q is no name of a header", name)
		}
		if strings.ContainsFunc(text, control) {
			return errors.New("the value of " + name + " must hold no control characters")
		}
	}
	return nil
}

func notOfToken(r rune) bool {
	letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func control(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
