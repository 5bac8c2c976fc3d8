package ssh

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/project"
)

// keyMistake is what a file is that is named as a private key and is none.
type keyMistake struct {
	kind string // as in "is a public key"; empty: none is known
	hint string
	// isPublicHalf is set for a public key or certificate: with it, ssh can use the private key that an agent has.
	isPublicHalf bool
}

// keyTypePattern matches the type of a public key or certificate, as in "ssh-ed25519" and "ecdsa-sha2-nistp256-cert-v01@openssh.com".
var keyTypePattern = project.LazyRegexp(`^(sk-)?(ssh|ecdsa)-[a-z0-9-]+(@openssh\.com)?$`)

const certificateSuffix = "-cert-v01@openssh.com"

// maxKeyHead is how much of a file is read to tell what it is: more than a line of any public key.
const maxKeyHead = 16 << 10

// findKeyMistake tells what the file at path is if it is not a private key. option is what names it: key_file, or IdentityFile.
func findKeyMistake(path, option string) keyMistake {
	info, err := os.Stat(path)
	switch {
	case err != nil || !filepath.IsAbs(path):
		return keyMistake{}
	case info.IsDir():
		hint := fmt.Sprintf("set %s to a private key", option)
		for _, name := range defaultKeys {
			if file := filepath.Join(path, name); isRegular(file) {
				hint = fmt.Sprintf("set %s to the private key in it: %s", option, file)
			}
		}
		return keyMistake{kind: "a directory", hint: hint}
	case !info.Mode().IsRegular():
		return keyMistake{}
	}
	head := readHead(path)
	if len(head) == 0 && info.Size() > 0 {
		return keyMistake{} // it cannot be read
	}
	return classifyKey(path, option, string(head))
}

// classifyKey tells what a file with this beginning is.
func classifyKey(path, option, head string) keyMistake {
	text := strings.TrimLeft(head, "\ufeff \t\r\n")
	words := keyWords(text)
	switch {
	case text == "":
		return keyMistake{kind: "empty", hint: fmt.Sprintf("restore the private key, or create one: rm %s; ssh-keygen -t ed25519 -f %[1]s", process.QuoteWord(path))}
	case strings.HasPrefix(text, "PuTTY-User-Key-File-"):
		converted := strings.TrimSuffix(path, ".ppk")
		if converted == path {
			converted += ".openssh"
		}
		return keyMistake{kind: "a key of PuTTY", hint: fmt.Sprintf("convert it: puttygen %s -O private-openssh -o %s; then set %s = %q", process.QuoteWord(path), process.QuoteWord(converted), option, converted)}
	case strings.HasPrefix(text, "---- BEGIN SSH2 PUBLIC KEY"), isPEM(text, "PUBLIC KEY"):
		return keyMistake{kind: "a public key", hint: privateKeyHint(option, strings.TrimSuffix(path, ".pub")), isPublicHalf: true}
	case isPEM(text, "CERTIFICATE"), isPEM(text, "TRUSTED CERTIFICATE"):
		return keyMistake{kind: "an X.509 certificate, which ssh does not use", hint: fmt.Sprintf("set %s to a private key", option)}
	case len(words) < 2:
		return keyMistake{}
	case strings.HasSuffix(words[0], certificateSuffix) && keyTypePattern().MatchString(words[0]):
		return keyMistake{kind: "a certificate", hint: privateKeyHint(option, strings.TrimSuffix(path, "-cert.pub")) + "; ssh finds the certificate next to it by its name", isPublicHalf: true}
	case keyTypePattern().MatchString(words[0]):
		return keyMistake{kind: "a public key", hint: privateKeyHint(option, strings.TrimSuffix(path, ".pub")), isPublicHalf: true}
	case slices.ContainsFunc(words, keyTypePattern().MatchString):
		return keyMistake{kind: "a list of keys, as known_hosts or authorized_keys", hint: fmt.Sprintf("set %s to a private key; the file with the keys of hosts is UserKnownHostsFile in the ssh config", option)}
	}
	return keyMistake{}
}

// isPEM reports whether a text is PEM (RFC 7468) with a label, or with one that ends with it, as in "RSA PUBLIC KEY".
func isPEM(text, label string) bool {
	line, _, _ := strings.Cut(text, "\n")
	line = strings.TrimSpace(line)
	return strings.HasPrefix(line, "-----BEGIN ") && strings.HasSuffix(line, " "+label+"-----")
}

// keyWords returns the first words of the first line that is no comment.
func keyWords(text string) []string {
	for line := range strings.Lines(text) {
		if words := strings.Fields(line); len(words) > 0 && !strings.HasPrefix(words[0], "#") {
			return words[:min(4, len(words))] // a marker, the hosts, the type
		}
	}
	return nil
}

// privateKeyHint names the private key if it exists.
func privateKeyHint(option, path string) string {
	head := readHead(path)
	if isRegular(path) && bytes.Contains(head, []byte("PRIVATE KEY")) {
		return fmt.Sprintf("set %s = %q, the private key next to it", option, path)
	}
	return fmt.Sprintf("set %s to the private key that belongs to it; without that file, an agent must have the key: \"ssh-add -l\" lists those that it has", option)
}

// isRegular reports whether a regular file exists.
func isRegular(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// readHead returns the beginning of a regular file; nil if it cannot be read.
func readHead(path string) []byte {
	if !isRegular(path) {
		return nil
	}
	file, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer file.Close()
	head, _ := io.ReadAll(io.LimitReader(file, maxKeyHead))
	return head
}
