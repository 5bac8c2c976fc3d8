package secure

import (
	"errors"
	"fmt"
	"strings"

	"github.com/localport-sh/localport/project"
)

// HeadersKey is the key for additional headers of a check over HTTP. Their values are secret, except those in PublicEntries.
var HeadersKey = project.Key{
	Name: "headers", Type: project.TypeTable, Secret: true, Validate: validateHeaders,
	PublicEntries: []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Content-Type", "Host", "Origin", "Referer", "User-Agent",
	},
}

// validateHeaders returns an error about a header that is invalid in HTTP (RFC 9110, 5.1 and 5.5). It shows no value.
func validateHeaders(value any) error {
	for name, text := range value.(map[string]string) {
		if strings.ContainsFunc(name, isNotTokenChar) || name == "" {
			return fmt.Errorf("invalid header name %q", name)
		}
		if strings.ContainsFunc(text, isControlChar) {
			return errors.New("the value of " + name + " must not contain control characters")
		}
	}
	return nil
}

func isNotTokenChar(r rune) bool {
	letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9'
	return !letter && !strings.ContainsRune("!#$%&'*+-.^_`|~", r)
}

func isControlChar(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
