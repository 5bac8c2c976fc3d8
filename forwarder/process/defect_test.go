package process

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/testdata/executable"
)

// Each program exists and cannot be executed; the failure names the cause and a next step.
func TestClassifyStartError_SaysWhyAProgramCannotBeExecuted(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	notExecutable := write("interpreter", "x", 0o644)
	foreign := "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\x16\x00\x01\x00\x00\x00" + strings.Repeat("\x00", 100)
	if err := os.Mkdir(filepath.Join(dir, "folder"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, text, reason, hint string }{
		{"mode", "#!/bin/sh\n", "permission denied: it is not executable", "run: chmod +x DIR/mode"},
		{"it's mode", "#!/bin/sh\n", "it is not executable", `run: chmod +x 'DIR/it'\''s mode'`},
		{"folder", "", "permission denied: it is a directory", "name the program in it"},
		{"lost", "#! /no/such/ruby -w\n", "no such file or directory: the interpreter in its #! line, /no/such/ruby, does not exist", "install ruby, or correct the first line of DIR/lost"},
		{"plain", "#!" + notExecutable + "\n", "the interpreter in its #! line, DIR/interpreter, is not executable", "run: chmod +x DIR/interpreter"},
		{"crlf", "#!/bin/sh\r\nexit 0\r\n", "its lines end with a carriage return", `'s/\r$//' DIR/crlf`},
		{"bom", "\xef\xbb\xbf#!/bin/sh\n", "exec format error: it begins with a byte order mark", "save DIR/bom as UTF-8 without"},
		{"bare", "echo hello\n", "exec format error: it has no #! line", `for example "#!/bin/sh", to DIR/bare`},
		{"empty", "", "exec format error: it is empty", "install empty again"},
		{"foreign", foreign, "exec format error: it is a program for Linux on s390x", "install the build of foreign for "},
		{"windows", "MZ\x90\x00\x03\x00", "it is a program for Windows", "install the build of windows for "},
		{"binary", "\x00\x01", "it is no program of this system", "install the build of binary for "},
	} {
		t.Run(test.name, func(t *testing.T) {
			mode := os.FileMode(0o755)
			if strings.HasSuffix(test.name, "mode") {
				mode = 0o644
			}
			if test.name != "folder" {
				write(test.name, test.text, mode)
			}
			for _, c := range []Command{
				{Argv: []string{test.name}, Env: []string{"PATH=" + dir}},
				{Argv: []string{"./" + test.name}, Dir: dir, Env: []string{}},
			} {
				_, err := Start(c)
				if err == nil {
					t.Fatal("it ran")
				}
				f := ClassifyStartError(err, c, "")
				reason, hint := strings.ReplaceAll(f.Reason, dir, "DIR"), strings.ReplaceAll(f.Hint, dir, "DIR")
				if f.Class != forwarder.Permanent || !strings.HasPrefix(reason, "run DIR/"+test.name+": ") || strings.Contains(reason, "fork/exec") ||
					!strings.Contains(reason, test.reason) || !strings.Contains(hint, test.hint) {
					t.Errorf("%v: %q, hint %q", f.Class, reason, hint)
				}
			}
		})
	}
}

func TestClassifyStartError_NamesAMissingDirectory(t *testing.T) {
	c := Command{Argv: []string{"sh"}, Dir: filepath.Join(t.TempDir(), "gone"), Env: os.Environ()}
	_, err := Start(c)
	if err == nil {
		t.Fatal("it ran")
	}
	if f := ClassifyStartError(err, c, ""); !strings.Contains(f.Reason, fmt.Sprintf("the directory to run it in, %s, does not exist", c.Dir)) {
		t.Errorf("got %+v", f)
	}
}

// An interpreter that is installed ends the failure, although the script has not changed.
func TestClassifyStartError_EndsWhenTheInterpreterIsInstalled(t *testing.T) {
	dir := t.TempDir()
	interpreter := filepath.Join(dir, "runner")
	if err := executable.WriteFile(filepath.Join(dir, "script"), []byte("#!"+interpreter+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	c := Command{Argv: []string{"script"}, Env: []string{"PATH=" + dir}}
	_, err := Start(c)
	f := ClassifyStartError(err, c, "")
	if err := os.Symlink("/bin/sh", interpreter); err != nil {
		t.Fatal(err)
	}
	if !f.AwaitChange(t.Context()) {
		t.Error("the interpreter was not noticed")
	}
}
