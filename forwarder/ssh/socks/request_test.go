package socks

import "testing"

func FuzzParseMessage(f *testing.F) {
	f.Add([]byte("\x05\x01\x00\x05\x01\x00\x03\x02db\x15\x38"), false)
	f.Add([]byte("\x04\x01\x00\x50\x00\x00\x00\x01\x00web\x00"), true)
	f.Fuzz(func(t *testing.T, input []byte, hasGreeting bool) {
		r, n, _, err := parseMessage(input, hasGreeting)
		if n < 0 || n > len(input) || err != nil && n != 0 || r != nil && n == 0 {
			t.Errorf("%d of %d bytes, request %+v, %v", n, len(input), r, err)
		}
	})
}
