package project

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strings"
	"unicode"
)

// MaskedFile is one of a project's files as it may be shown, and kept to be compared with later.
type MaskedFile struct {
	Name string `json:"name"` // relative to the root
	// Text is the config with its secrets masked, or the names of the variables in .env, each on a line. It is empty for a file that the config
	// names: such files hold keys and tokens.
	Text   string `json:"text,omitempty"`
	Digest string `json:"digest"` // SHA-256 of the file, in hex: what is masked may have changed too
}

// MaskedFiles returns the files that are there, the config first. secrets are those that Parse has found. A config that is not TOML has no Text.
func (f *Files) MaskedFiles(secrets []string) []MaskedFile {
	var files []MaskedFile
	for name, data := range f.all() {
		if data == nil {
			continue
		}
		sum := sha256.Sum256(data)
		masked := MaskedFile{Name: name, Digest: hex.EncodeToString(sum[:])}
		switch {
		case name == EnvName:
			masked.Text = maskDotEnv(data)
		case len(files) == 0, name == LocalName:
			masked.Text = f.maskConfig(data, secrets)
		}
		files = append(files, masked)
	}
	return files
}

// maskDotEnv returns the names of the variables in .env, in the order of the file.
func maskDotEnv(data []byte) string {
	d := parseDotEnv("", data, func(string) (string, bool) { return "", false })
	byLine := func(a, b string) int { return cmp.Or(cmp.Compare(d.lines[a], d.lines[b]), cmp.Compare(a, b)) }
	var b strings.Builder
	for _, name := range slices.SortedFunc(maps.Keys(d.values), byLine) {
		b.WriteString(name + "=" + mask + "\n")
	}
	return b.String()
}

// maskConfig returns a config in which the values of keys with the names of secrets are masked, and what comments say of such, and all secrets.
func (f *Files) maskConfig(data []byte, secrets []string) string {
	d, invalid := parseDocument(f, "", data)
	if invalid != nil {
		return ""
	}
	hidden := d.secretSpans()
	var b strings.Builder
	at := 0
	for _, s := range hidden {
		b.Write(data[at:s.start])
		b.WriteString(maskHidden(s, data))
		at = s.end
	}
	b.Write(data[at:])
	return Mask(b.String(), secrets)
}

// secretSpans returns the values and the comments that maskConfig hides, in order.
func (d *document) secretSpans() []span {
	isSecretAt := make(map[int]bool)
	for n := range d.root.descendants() {
		if n.isSecret && n.kind != tableKind && n.kind != arrayKind && !isOnlyReferences(n) {
			isSecretAt[n.valueOffset] = true
		}
	}
	hidden := slices.DeleteFunc(slices.Clone(d.spans), func(s span) bool {
		if s.isComment {
			return !isSecretName(string(d.data[s.start:s.end]))
		}
		return !isSecretAt[s.start]
	})
	slices.SortFunc(hidden, func(a, b span) int { return cmp.Compare(a.start, b.start) })
	return slices.CompactFunc(hidden, func(a, b span) bool { return a.start == b.start })
}

// isOnlyReferences reports whether a text has ${…} without a default, and nothing else: it says where a secret comes from, and is none.
func isOnlyReferences(n *node) bool {
	return n.kind == stringKind && isReferenceOnly(n.text)
}

// isReferenceOnly is isOnlyReferences for the text of a string.
func isReferenceOnly(text string) bool {
	t, err := parseTemplate(text)
	if err != nil || len(t) == 0 {
		return false
	}
	return !slices.ContainsFunc(t, func(p part) bool { return p.ref == nil || len(p.ref.fallback) > 0 })
}

// maskHidden returns what is shown instead of a span: of a comment, what precedes its value.
func maskHidden(s span, data []byte) string {
	text := string(data[s.start:s.end])
	if !s.isComment {
		return maskSpan(data[s.start:s.end])
	}
	if at := strings.IndexAny(text, "=:"); at >= 0 {
		end := ""
		if strings.HasSuffix(text, "\r") {
			end = "\r"
		}
		return strings.TrimRightFunc(text[:at+1], unicode.IsSpace) + " " + mask + end
	}
	return text
}
