package project

import (
	"net/url"
	"slices"
	"strings"
)

// minSecretLength is the length of the shortest value that Mask hides, in bytes: masking every "1" and "dev" would make texts unreadable.
const minSecretLength = 4

// userinfoPattern matches the userinfo of a URL (RFC 3986, 3.2.1). endOfUserinfo are the characters that are not part of one.
var userinfoPattern = LazyRegexp(`://([^\s/?#"'<>]+)@`)

const endOfUserinfo = " \t\n\f\r/?#\"'<>"

// Mask replaces every secret in text, and the userinfo of every URL, by ***. Secrets shorter than four bytes are not masked.
func Mask(text string, secrets []string) string {
	text = maskUserinfo(text)
	for {
		masked := maskOnce(text, secrets)
		if masked == text || len(masked) >= len(text) {
			return masked
		}
		text = masked // a mask and the text around it may together contain a secret again
	}
}

// maskUserinfo replaces what userinfoPattern matches. It is called with all output of all children, for which the pattern would take several times
// as long.
func maskUserinfo(text string) string {
	const separator = "://"
	var b strings.Builder
	done := 0 // the part of text that is in b
	for at := 0; ; {
		found := strings.Index(text[at:], separator)
		if found < 0 {
			break
		}
		at += found + len(separator)
		length := strings.IndexAny(text[at:], endOfUserinfo)
		if length < 0 {
			length = len(text) - at
		}
		if last := strings.LastIndexByte(text[at:at+length], '@'); last > 0 {
			b.WriteString(text[done:at] + mask)
			done = at + last
			at = done + 1
		}
	}
	if done == 0 {
		return text
	}
	return b.String() + text[done:]
}

// maskOnce masks all secrets in one pass. Secrets that overlap or touch get one mask, so that no part of either is shown.
func maskOnce(text string, secrets []string) string {
	var spans []span
	for _, secret := range secrets {
		if len(secret) < minSecretLength {
			continue
		}
		for at := 0; ; at++ {
			found := strings.Index(text[at:], secret)
			if found < 0 {
				break
			}
			at += found
			spans = append(spans, span{start: at, end: at + len(secret)})
		}
	}
	if spans == nil {
		return text
	}
	slices.SortFunc(spans, func(a, b span) int { return a.start - b.start })
	var b strings.Builder
	at := 0
	for i := 0; i < len(spans); {
		start, end := spans[i].start, spans[i].end
		for i++; i < len(spans) && spans[i].start <= end; i++ {
			end = max(end, spans[i].end)
		}
		b.WriteString(text[at:start] + mask)
		at = end
	}
	return b.String() + text[at:]
}

// secretWordPattern matches a name whose value is a secret.
var secretWordPattern = LazyRegexp(
	`(?i)passw|passphrase|secret|token|sasl|credential|api_?-?key|private_?-?key|(^|[_-])(pass|pwd|pw)([_-]|\W|$)`)

// isSecretName reports whether a value of this name is likely to be a secret.
func isSecretName(name string) bool { return secretWordPattern().MatchString(name) }

// urlSecrets returns the passwords in the URLs of text, percent-encoded and decoded.
func urlSecrets(text string) []string {
	var secrets []string
	for _, m := range userinfoPattern().FindAllStringSubmatch(text, -1) {
		_, password, ok := strings.Cut(m[1], ":")
		if !ok {
			continue // only a user name, which must not be masked wherever it occurs
		}
		secrets = append(secrets, password)
		if plain, err := url.PathUnescape(password); err == nil && plain != password {
			secrets = append(secrets, plain)
		}
	}
	return secrets
}

// secretLines returns a secret and, if it has several lines, each line: logs are masked line by line.
func secretLines(secret string) []string {
	if !strings.Contains(secret, "\n") {
		return []string{secret}
	}
	return append(strings.Split(secret, "\n"), secret)
}
