package startupfile

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestFindLines_TellsStatementsFromPartsOfOtherCode(t *testing.T) {
	t.Parallel()
	const alone, part, none = "alone", "part", "none"
	for text, want := range map[string]string{
		`eval "$(localport hook bash)"`:                              alone,
		`eval "$(/usr/local/bin/localport hook zsh)"     # ~/.zshrc`: alone,
		`eval "$(localport hook bash --on-cd)"`:                      alone,
		`source <(localport completion bash)        # ~/.bashrc`:     alone,
		`localport hook fish | source`:                               alone,
		"eval \"`localport hook tcsh`\"":                             alone,
		`eval (localport hook elvish | slurp)`:                       alone,
		`localport hook pwsh | Out-String | Invoke-Expression`:       alone,
		"export A=1\neval \"$(localport hook bash)\"\nexport B=2":    alone,
		`  eval "$(localport hook bash)"`:                            part,
		`command -v localport && eval "$(localport hook bash)"`:      part,
		`localport hook nu | save -f x.nu`:                           part,
		`eval "$(localport hook bash)"; echo`:                        part,
		"if true; then\neval \"$(localport hook bash)\"\nfi":         part,
		"command -v localport &&\neval \"$(localport hook bash)\"":   part,
		"if [ -t 0 ]\nthen\n\neval \"$(localport hook bash)\"\nfi":   part,
		"load() {\neval \"$(localport hook bash)\"\n}":               part,
		`# eval "$(localport hook bash)"`:                            none,
		`echo localport`:                                             none,
		`eval "$(direnv hook bash)"`:                                 none,
		`export PATH="$HOME/localport:$PATH"`:                        none,
		`alias lp=localport`:                                         none,
	} {
		file := filepath.Join(t.TempDir(), ".bashrc")
		write(t, file, text+"\n")
		lines := FindLines([]string{file, file + ".missing"})
		got := none
		if len(lines) == 1 {
			got = map[bool]string{true: alone, false: part}[lines[0].IsAlone]
		}
		if got != want || len(lines) > 1 {
			t.Errorf("%q: %s, want %s (%v)", text, got, want, lines)
		}
	}
}

func TestRemoveLines_ChangesNothingElse(t *testing.T) {
	t.Parallel()
	const hook = "eval \"$(localport hook bash)\"\n"
	dir := t.TempDir()
	real, link := filepath.Join(dir, "dotfiles-bashrc"), filepath.Join(dir, ".bashrc")
	before := "a=1\r\n" + hook + "\xff\n  " + hook + hook + "last"
	write(t, real, before)
	if err := os.Chmod(real, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	backups, err := RemoveLines(FindLines([]string{link}))
	if err != nil || !slices.Equal(backups, []string{real + BackupSuffix}) {
		t.Fatalf("backups %q, error %v", backups, err)
	}
	if got, want := read(t, link), "a=1\r\n\xff\n  "+hook+"last"; got != want {
		t.Errorf("after: %q, want %q", got, want)
	}
	if got := read(t, backups[0]); got != before {
		t.Errorf("the copy has %q", got)
	}
	info, err := os.Lstat(real)
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, error %v", info.Mode(), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone: %v", err)
	}
	names, _ := filepath.Glob(filepath.Join(dir, "*new*"))
	if len(names) > 0 {
		t.Errorf("left: %v", names)
	}
}

func TestRemoveLines_LeavesAFileThatItCannotEdit(t *testing.T) {
	t.Parallel()
	const hook = "eval \"$(localport hook bash)\"\n"
	tests := map[string]struct {
		content string
		prepare func(t *testing.T, file string)
	}{
		"the shell could not read it without the line": {"{ # a group\n" + hook + "}\n", func(*testing.T, string) {}},
		"the file has changed":                         {hook, func(t *testing.T, file string) { write(t, file, "other\n"+hook) }},
		"there is a copy already":                      {hook, func(t *testing.T, file string) { write(t, file+BackupSuffix, "precious") }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), ".bashrc")
			write(t, file, test.content)
			lines := FindLines([]string{file})
			test.prepare(t, file)
			before := read(t, file)
			if backups, err := RemoveLines(lines); err == nil || len(backups) > 0 || !strings.Contains(err.Error(), file) {
				t.Errorf("backups %q, error %v", backups, err)
			}
			if after := read(t, file); after != before {
				t.Errorf("it was changed to %q", after)
			}
		})
	}
}

func TestAll_AreTheFilesOfAllShells(t *testing.T) {
	t.Parallel()
	home, zdotdir := t.TempDir(), t.TempDir()
	if err := os.MkdirAll(filepath.Join(home, ".config/fish/conf.d"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(home, ".config/fish/conf.d/localport.fish")
	write(t, conf, "localport hook fish | source\n")
	files := All(func(name string) string {
		return map[string]string{"HOME": home, "ZDOTDIR": zdotdir, "XDG_CONFIG_HOME": "relative"}[name]
	})
	for _, want := range []string{
		conf, filepath.Join(home, ".bashrc"), filepath.Join(home, ".zshrc"), filepath.Join(zdotdir, ".zshrc"), filepath.Join(home, ".tcshrc"),
		filepath.Join(home, ".config/fish/config.fish"), filepath.Join(home, ".config/elvish/rc.elv"), filepath.Join(home, ".config/nushell/config.nu"),
	} {
		if !slices.Contains(files, want) {
			t.Errorf("%s is missing", want)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	mode := os.FileMode(0o600)
	if strings.HasPrefix(text, "#!") {
		mode = 0o700
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestHookLines_KnowTheOrderOfHooks(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	f, _ := Of("zsh", func(name string) string { return map[string]string{"HOME": home}[name] })
	if found := f.Read(); found.HookLine != 0 {
		t.Errorf("without a file: %+v", found)
	}
	write(t, f.Path, "eval \"$(direnv hook zsh)\"\n\neval \"$(localport hook zsh)\"\n# eval \"$(mise activate zsh)\"\neval \"$(starship init zsh)\"\nprecmd_functions=(mine)\n")
	c := f.Read()
	if got := c.String(); !strings.HasSuffix(got, ".zshrc:3, after direnv, before starship") || c.ListResetLine != 6 {
		t.Errorf("%s, replaced in line %d", got, c.ListResetLine)
	}
}

func TestFile_IsAlsoLoadedByTheShellsOtherFiles(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	for shell, other := range map[string]string{"bash": ".bash_profile", "zsh": ".zprofile", "fish": ".config/fish/conf.d/own.fish", "tcsh": ".login", "elvish": ".elvish/rc.elv"} {
		path := filepath.Join(home, other)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, path, "\nlocalport hook "+shell+"\n")
		f, _ := Of(shell, func(name string) string { return map[string]string{"HOME": home}[name] })
		if c := f.Read(); c.Path != path || c.HookLine != 2 {
			t.Errorf("%s: %s, line %d", shell, c.Path, c.HookLine)
		}
	}
	script := filepath.Join(home, ".config/fish/conf.d/localport.fish")
	write(t, script, "function __localport_enter; end\n")
	f, _ := Of("fish", func(name string) string { return map[string]string{"HOME": home}[name] })
	if c := f.Read(); c.Path != script || c.HookLine != 1 {
		t.Errorf("a printed hook: %+v", c)
	}
}

func TestFile_CanAppendOnlyWhereTheUserMayWrite(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	file := filepath.Join(home, "file")
	write(t, file, "")
	if err := os.Symlink(filepath.Join(home, "missing/file"), filepath.Join(home, "link")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]bool{
		file: true, filepath.Join(home, "new"): true, filepath.Join(home, "new/dir/file"): true, home: false, "/dev/null/.bashrc": false,
		filepath.Join(file, ".bashrc"): false, filepath.Join(home, "link"): false,
	} {
		if got := (File{Path: path}).CanAppend(); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
