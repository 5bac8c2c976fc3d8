package top

import (
	"bytes"
	"unicode"
	"unicode/utf8"
)

// The keys that terminals send as a sequence: ESC [ or ESC O, and this. xterm's, the Linux console's and rxvt's differ.
var keySequences = []struct{ sequence, key string }{
	{"A", "up"},
	{"B", "down"},
	{"C", "right"},
	{"D", "left"},
	{"H", "home"},
	{"F", "end"},
	{"P", "f1"},
	{"Z", "shift+tab"},
	{"1~", "home"},
	{"7~", "home"},
	{"4~", "end"},
	{"8~", "end"},
	{"5~", "pgup"},
	{"6~", "pgdown"},
	{"11~", "f1"},
	{"[A", "f1"},
}

var (
	pasteStart = []byte("\x1b[200~")
	pasteEnd   = []byte("\x1b[201~")
)

// decodeKeys returns the keys in what a terminal sent, as KeyMsg and PasteMsg, and the beginning of a key whose rest is to come. With isComplete,
// nothing is to come. Keys without a meaning here are left out.
func decodeKeys(data []byte, isComplete bool) (messages []any, rest []byte) {
	for len(data) > 0 {
		message, size := decodeKey(data, isComplete)
		if size == 0 {
			return messages, data
		}
		if message != nil {
			messages = append(messages, message)
		}
		data = data[size:]
	}
	return messages, nil
}

// decodeKey returns the first key and its length; 0 if more bytes may belong to it.
func decodeKey(data []byte, isComplete bool) (message any, size int) {
	if data[0] == '\x1b' {
		return decodeSequence(data, isComplete)
	}
	switch c := data[0]; {
	case c == '\r', c == '\n':
		return KeyMsg{Key: "enter"}, 1
	case c == '\t':
		return KeyMsg{Key: "tab"}, 1
	case c == ' ':
		return KeyMsg{Key: "space", Text: " "}, 1
	case c == 0x7f, c == '\b':
		return KeyMsg{Key: "backspace"}, 1
	case c > 0 && c <= 26:
		return KeyMsg{Key: "ctrl+" + string(rune('a'+c-1))}, 1
	}
	if !utf8.FullRune(data) && !isComplete {
		return nil, 0
	}
	r, size := utf8.DecodeRune(data)
	if r == utf8.RuneError || !unicode.IsPrint(r) {
		return nil, size
	}
	return KeyMsg{Key: string(r), Text: string(r)}, size
}

// decodeSequence is decodeKey for what begins with ESC (ECMA-48, 5.4: parameters, intermediate bytes, and one final byte).
func decodeSequence(data []byte, isComplete bool) (message any, size int) {
	if bytes.HasPrefix(data, pasteStart) {
		text, _, found := bytes.Cut(data[len(pasteStart):], pasteEnd)
		if !found && !isComplete {
			return nil, 0
		}
		return PasteMsg{string(text)}, min(len(pasteStart)+len(text)+len(pasteEnd), len(data))
	}
	if len(data) == 1 && !isComplete {
		return nil, 0
	}
	if len(data) == 1 || data[1] != '[' && data[1] != 'O' {
		return KeyMsg{Key: "esc"}, 1
	}
	end := 2
	for end < len(data) && (data[end] < 0x40 || data[end] > 0x7e || data[end] == '[' && end == 2) {
		end++
	}
	if end == len(data) {
		if isComplete {
			return nil, len(data)
		}
		return nil, 0
	}
	for _, known := range keySequences {
		if known.sequence == string(data[2:end+1]) {
			return KeyMsg{Key: known.key}, end + 1
		}
	}
	return nil, end + 1
}
