package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/project"
)

const backupTestConfig = "# keep me\n[services.api]\ntechnology = \"tcp\"\nlocal_port = 8080\nremote_port = 80\nconnection = { remote_host = \"h\" }\n"

func readProjectFile(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func mustRunInProcess(t *testing.T, dir string, args ...string) string {
	t.Helper()
	code, text := runInProcess(t, dir, args...)
	if code != 0 {
		t.Fatalf("%q: exit %d\n%s", args, code, text)
	}
	return text
}

func TestConfigRestore_BringsBackWhatWasBackedUp(t *testing.T) {
	isolateConfigCommands(t)
	dir := t.TempDir()
	writeConfig(t, dir, backupTestConfig)
	mustRunInProcess(t, dir, "backup")
	if text := mustRunInProcess(t, dir, "config", "backup", "--list"); strings.Count(text, "\n") != 1 || !strings.Contains(text, "ago)  .localport.toml") {
		t.Errorf("the list is\n%s", text)
	}
	if text := mustRunInProcess(t, dir, "config", "restore"); !strings.Contains(text, "the files are as in backup") {
		t.Errorf("nothing has changed, and restore says\n%s", text)
	}
	changed := strings.Replace(backupTestConfig, "8080", "8081", 1)
	writeConfig(t, dir, changed)
	if err := os.Chmod(filepath.Join(dir, project.ConfigName), 0o640); err != nil {
		t.Fatal(err)
	}
	text := mustRunInProcess(t, dir, "config", "restore")
	for _, want := range []string{"-local_port = 8081", "+local_port = 8080", "wrote ", "the files before are in backup ", ` allow"`} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if got := readProjectFile(t, dir, project.ConfigName); got != backupTestConfig {
		t.Errorf("restored is\n%s", got)
	}
	if info, err := os.Stat(filepath.Join(dir, project.ConfigName)); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the mode is %v", info.Mode())
	}
	if code, text := runInProcess(t, dir, "env"); code != 4 {
		t.Errorf("restore has allowed the config: %d %s", code, text)
	}
	mustRunInProcess(t, dir, "config", "restore") // undoes the restore
	if got := readProjectFile(t, dir, project.ConfigName); got != changed {
		t.Errorf("after a second restore the file is\n%s", got)
	}
}

func TestConfigRestore_NamesWhatThereIs(t *testing.T) {
	isolateConfigCommands(t)
	dir := t.TempDir()
	writeConfig(t, dir, backupTestConfig)
	if code, text := runInProcess(t, dir, "config", "restore"); code != 1 || !strings.Contains(text, `hint: "localport config backup" makes one`) {
		t.Errorf("%d %s", code, text)
	}
	mustRunInProcess(t, dir, "config", "backup")
	if code, text := runInProcess(t, dir, "restore", "yesterday"); code != 1 || !strings.Contains(text, "hint: localport config restore --list") {
		t.Errorf("%d %s", code, text)
	}
}

func TestConfigRestore_BringsBackAFileThatIsGoneAndOneWithMistakes(t *testing.T) {
	isolateConfigCommands(t)
	dir := t.TempDir()
	writeConfig(t, dir, "[services.api]\npassword = \"hunter2hunter\"\n")
	local := filepath.Join(dir, project.LocalName)
	if err := os.WriteFile(local, []byte("[services.api]\nlocal_port = 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRunInProcess(t, dir, "config", "backup")
	if err := os.Remove(local); err != nil {
		t.Fatal(err)
	}
	writeConfig(t, dir, backupTestConfig)
	text := mustRunInProcess(t, dir, "config", "restore")
	if !strings.Contains(text, "unknown key") || strings.Contains(text, "hunter2") {
		t.Errorf("it says\n%s", text)
	}
	if info, err := os.Stat(local); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the local file: %v %v", info, err)
	}
}

func TestConfigMigrate_WritesTheCurrentVersion(t *testing.T) {
	isolateConfigCommands(t)
	dir := t.TempDir()
	writeConfig(t, dir, "# mine\nversion = \"1.0\" # old\n"+backupTestConfig)
	text := mustRunInProcess(t, dir, "config", "migrate")
	for _, want := range []string{`-version = "1.0" # old`, `+version = "1" # old`, "in backup "} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if got := readProjectFile(t, dir, project.ConfigName); got != "# mine\nversion = \"1\" # old\n"+backupTestConfig {
		t.Errorf("migrated is\n%s", got)
	}
	if text := mustRunInProcess(t, dir, "migrate"); !strings.Contains(text, "nothing to do") {
		t.Errorf("a second time:\n%s", text)
	}
}

func TestConfigMigrate_ConvertsThePythonToolsConfig(t *testing.T) {
	isolateConfigCommands(t)
	dir := t.TempDir()
	yaml := "version: \"1.0\"\nservices:\n  - name: postgres\n    technology: kubectl\n    local_port: 5432\n    remote_port: 5432\n    connection:\n      resource_name: postgres\n      namespace: db\n"
	if err := os.WriteFile(filepath.Join(dir, "localport.yaml"), []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	text := mustRunInProcess(t, dir, "config", "migrate")
	if !strings.Contains(text, "+[services.postgres]") || !strings.Contains(text, ` allow"`) {
		t.Errorf("it says\n%s", text)
	}
	mustRunInProcess(t, dir, "config", "validate")
	if readProjectFile(t, dir, "localport.yaml") != yaml {
		t.Error("localport.yaml was changed")
	}
	if code, text := runInProcess(t, dir, "migrate", filepath.Join(dir, "localport.yaml")); code != 1 || !strings.Contains(text, "exists already") {
		t.Errorf("with a config: %d %s", code, text)
	}
	if code, text := runInProcess(t, t.TempDir(), "migrate"); code != 1 {
		t.Errorf("without any: %d %s", code, text)
	}
}

// What a migration writes waits for "allow", also if the text before was allowed.
func TestConfigMigrate_NeverAllowsWhatItWrites(t *testing.T) {
	t.Parallel()
	const service = "[services.web]\ntechnology = \"tcp\"\nlocal_port = \"auto\"\nremote_port = 80\nconnection = { remote_host = \"127.0.0.1\" }\n"
	w := newTestEnv(t)
	check := func(root string, args ...string) {
		t.Helper()
		migrated := w.localport(root, append([]string{"config", "migrate"}, args...)...)
		if migrated.code != 0 || !strings.Contains(migrated.stderr, `localport allow`) {
			t.Fatalf("migrate: exit %d\n%s%s", migrated.code, migrated.stdout, migrated.stderr)
		}
		for _, command := range [][]string{{"start", "--no-wait"}, {"env"}} {
			if o := w.localport(root, command...); o.code != 4 {
				t.Errorf("%v after migrate: exit %d\n%s%s", command, o.code, o.stdout, o.stderr)
			}
		}
		if len(w.processes()) > 0 {
			t.Error("a supervisor was started")
		}
		w.mustRun(root, "allow")
		w.mustRun(root, "env")
	}
	check(w.allowedProject("version = \"1.0\"\n" + service))
	root := w.allowedProject("version = \"1.0\"\n" + service)
	w.writeFile(root, ".localport.toml", "# reviewed\nversion = \"1.0\"\n"+service)
	w.mustRun(root, "allow")
	check(root)
	// An allowed config that is gone, replaced by that of the Python LocalPort.
	root = w.allowedProject(service)
	if err := os.Remove(filepath.Join(root, ".localport.toml")); err != nil {
		t.Fatal(err)
	}
	w.writeFile(root, "localport.yaml", "version: \"1.0\"\nservices:\n  - name: web\n    technology: kubectl\n    local_port: 8080\n    remote_port: 80\n    connection:\n      resource_name: web\n")
	check(root)
}
