package ssh

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func writeSSHConfig(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfiguredHosts_FollowsIncludes(t *testing.T) {
	dir := t.TempDir()
	writeSSHConfig(t, filepath.Join(dir, "more-1"), "Host inner other-*\nInclude "+dir+"/config\n") // which includes it in turn
	config := writeSSHConfig(t, filepath.Join(dir, "config"), "Include "+dir+"/more-*\nHost a \"b\" !c *.d a\nHost=e\n")
	got, err := ConfiguredHosts(config)
	if want := []string{"a", "b", "e", "inner"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
	if _, err := ConfiguredHosts(filepath.Join(dir, "missing")); err == nil {
		t.Error("a missing file that was given is no error")
	}
}

func TestConfiguredForwards_AreThoseThatSSHWouldMake(t *testing.T) {
	config := writeSSHConfig(t, filepath.Join(t.TempDir(), "config"), `Host b
	LocalForward 5432 db.internal:5432
	LocalForward 127.0.0.2:6379 [::1]:6379
	LocalForward /tmp/a.sock /tmp/b.sock
	LocalForward 7000 /tmp/b.sock
	LocalForward *:9000 x:9
	RemoteForward 9001 localhost:3000
	RemoteForward 0.0.0.0:9002 localhost:3001
	RemoteForward 9003
	DynamicForward 1080
	DynamicForward [::1]:1081
Match host b exec "true"
	LocalForward 7001 matched:1
`)
	got, err := ConfiguredForwards(t.Context(), config, "b")
	if err != nil {
		t.Fatal(err)
	}
	want := []ConfiguredForward{
		{LocalForward, "", 5432, "db.internal", 5432, "5432 [db.internal]:5432"},
		{LocalForward, "127.0.0.2", 6379, "::1", 6379, "[127.0.0.2]:6379 [::1]:6379"},
		{LocalForward, "", 0, "", 0, "/tmp/a.sock /tmp/b.sock"},
		{LocalForward, "", 7000, "", 0, "7000 /tmp/b.sock"},
		{LocalForward, "*", 9000, "x", 9, "[*]:9000 [x]:9"},
		{LocalForward, "", 7001, "matched", 1, "7001 [matched]:1"},
		{RemoteForward, "", 9001, "localhost", 3000, "9001 [localhost]:3000"},
		{RemoteForward, "0.0.0.0", 9002, "localhost", 3001, "[0.0.0.0]:9002 [localhost]:3001"},
		{RemoteForward, "", 9003, "socks", 0, "9003 [socks]:0"},
		{DynamicForward, "", 1080, "", 0, "1080"},
		{DynamicForward, "::1", 1081, "", 0, "[::1]:1081"},
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestConfiguredForwards_SaysWhatSSHSays(t *testing.T) {
	config := writeSSHConfig(t, filepath.Join(t.TempDir(), "config"), "Host b\n\tNoSuchOption 1\n")
	if _, err := ConfiguredForwards(t.Context(), config, "b"); err == nil || !strings.Contains(strings.ToLower(err.Error()), "nosuchoption") {
		t.Errorf("got %v, want what ssh says of the option", err)
	}
}
