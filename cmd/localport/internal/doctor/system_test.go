package doctor

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDescribeMachine_KnowsWSLAndContainers(t *testing.T) {
	t.Parallel()
	const kernel = "proc/sys/kernel/osrelease"
	for _, tt := range []struct {
		name  string
		files map[string]string
		want  []Finding
	}{
		{"a usual machine", map[string]string{kernel: "6.8.0-45-generic\n"}, nil},
		{"nothing is known", nil, nil},
		{"WSL 1", map[string]string{kernel: "4.4.0-19041-Microsoft\n"}, fail("this is WSL 1, which LocalPort does not support", "in PowerShell: wsl --set-version Debian 2")},
		{"WSL 2", map[string]string{kernel: "5.15.153.1-microsoft-standard-WSL2\n"}, ok("WSL 2: Windows programs reach the ports as localhost unless .wslconfig has localhostForwarding=false")},
		{"docker", map[string]string{kernel: "6.8.0\n", ".dockerenv": ""}, ok("this is a container: the ports can be reached in its network only")},
		{"podman", map[string]string{kernel: "6.8.0\n", "run/.containerenv": ""}, ok("this is a container: the ports can be reached in its network only")},
	} {
		root := t.TempDir()
		for name, text := range tt.files {
			path := filepath.Join(root, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		got := describeMachine(root, "Debian")
		if len(got) != len(tt.want) || len(got) == 1 && got[0] != tt.want[0] {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}
