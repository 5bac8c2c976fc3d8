package filestamps

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestStamps_HaveChanged(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(path string) error
		want   bool
	}{
		"nothing":          {func(string) error { return nil }, false},
		"read":             {func(path string) error { _, err := os.ReadFile(path); return err }, false},
		"written":          {func(path string) error { return os.WriteFile(path, []byte("other"), 0o600) }, true},
		"touched":          {func(path string) error { return os.Chtimes(path, time.Time{}, time.Now().Add(time.Second)) }, true},
		"removed":          {os.Remove, true},
		"replaced":         {func(path string) error { return os.Rename(path+".next", path) }, true},
		"the missing file": {func(path string) error { return os.WriteFile(path+".missing", nil, 0o600) }, true},
		"another mode":     {func(path string) error { return os.Chmod(path, 0o644) }, true},
		"the same mode":    {func(path string) error { return os.Chmod(path, 0o600) }, false},
		"another owner":    {giveAway, os.Getuid() == 0},
		"a match":          {func(path string) error { return os.WriteFile(path+".d1", nil, 0o600) }, true},
		"a match's text":   {func(path string) error { return os.WriteFile(path+".d0", []byte("other"), 0o600) }, true},
		"no match":         {func(path string) error { return os.WriteFile(path+".e1", nil, 0o600) }, false},
		"the link's file":  {func(path string) error { return os.WriteFile(path+".target", []byte("other"), 0o600) }, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			for _, suffix := range []string{"", ".next", ".target", ".d0"} {
				if err := os.WriteFile(path+suffix, []byte("text"+suffix), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(path+".target", path+".link"); err != nil {
				t.Fatal(err)
			}
			stamps := Of(path, path+".missing", path+".link", "")
			stamps.AddMatches(path + ".d*")
			if err := tt.change(path); err != nil {
				t.Fatal(err)
			}
			if got := stamps.HaveChanged(); got != tt.want {
				t.Errorf("HaveChanged is %t, want %t", got, tt.want)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if got := stamps.AwaitChange(ctx); got != tt.want {
				t.Errorf("AwaitChange is %t, want %t", got, tt.want)
			}
		})
	}
}

// giveAway gives a file to another user, which only root may do.
func giveAway(path string) error {
	if os.Getuid() != 0 {
		return nil
	}
	return os.Chown(path, 65534, -1)
}
