package client

import (
	"testing"
	"time"
)

func TestTimeouts_LocalportLimitSetsPromptsAndExtendsCommands(t *testing.T) {
	for _, tt := range []struct {
		limit           string
		prompt, command time.Duration
	}{
		{"", 2 * time.Second, 10 * time.Second},
		{"soon", 2 * time.Second, 10 * time.Second},
		{"1s", time.Second, 10 * time.Second},
		{"60", time.Minute, time.Minute},
	} {
		t.Setenv("LOCALPORT_LIMIT", tt.limit)
		if PromptTimeout() != tt.prompt || CommandTimeout() != tt.command {
			t.Errorf("%q: a prompt waits %v, a command %v", tt.limit, PromptTimeout(), CommandTimeout())
		}
	}
}
