package promptclient

import (
	cryptosha256 "crypto/sha256"
	"testing"

	"pgregory.net/rapid"
)

func TestSHA256_IsTheStandardLibrarys(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		message := rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(t, "message")
		if got, want := sha256(string(message)), cryptosha256.Sum256(message); got != want {
			t.Fatalf("of %x: %x, want %x", message, got, want)
		}
	})
}
