package uninstall

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/localport-sh/localport/project/backup"
	"github.com/localport-sh/localport/project/edit"
)

// Line is a line of a shell's start-up file that runs localport.
type Line struct {
	File   string
	Number int
	Text   string
	// IsAlone: it is a whole statement at the top level, as "localport hook --help" shows it, and can be removed without changing the others.
	IsAlone bool
}

func (l Line) String() string { return fmt.Sprintf("%s:%d: %s", l.File, l.Number, l.Text) }

// mention finds a line that gets the hook or the completion of a shell from localport.
const mention = `^[^#]*\blocalport(?:"|'|\b)\s+(?:hook|completion)\b`

// statement is a line that does nothing else: those of "localport hook --help" and "localport completion --help", with any path of the program.
const statement = `^(?:` +
	`eval "\$\(` + program + ` hook (?:bash|zsh)(?: --on-cd)?\)"|` +
	`(?:source|\.) <\(` + program + ` (?:hook|completion) (?:bash|zsh)(?: --on-cd)?\)|` +
	program + ` (?:hook|completion) fish \| source|` +
	"eval \"`" + program + " hook tcsh`\"|" +
	`eval \(` + program + ` hook elvish \| slurp\)` +
	`)\s*(?:#.*)?$`

const program = `[\w./~-]*localport`

// rcFiles are the start-up files of all shells that have a hook.
func rcFiles(home string, getenv func(string) string) []string {
	config := absoluteOr(getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config"))
	var files []string
	for _, name := range []string{".bashrc", ".bash_profile", ".bash_login", ".profile", ".tcshrc", ".cshrc", ".login", ".elvish/rc.elv"} {
		files = append(files, filepath.Join(home, name))
	}
	for _, dir := range slices.Compact([]string{home, absoluteOr(getenv("ZDOTDIR"), home)}) {
		for _, name := range []string{".zshrc", ".zprofile", ".zshenv", ".zlogin"} {
			files = append(files, filepath.Join(dir, name))
		}
	}
	for _, name := range []string{"fish/config.fish", "elvish/rc.elv", "nushell/config.nu", "nushell/env.nu"} {
		files = append(files, filepath.Join(config, name))
	}
	fish, _ := filepath.Glob(filepath.Join(config, "fish/conf.d/*.fish"))
	return append(files, fish...)
}

// absoluteOr returns a directory from the environment if it is absolute, as the XDG specification requires, else the default.
func absoluteOr(dir, fallback string) string {
	if filepath.IsAbs(dir) {
		return filepath.Clean(dir)
	}
	return fallback
}

// scriptFiles are where people are told to save scripts that localport prints.
func scriptFiles(home string, getenv func(string) string) []string {
	config := absoluteOr(getenv("XDG_CONFIG_HOME"), filepath.Join(home, ".config"))
	data := absoluteOr(getenv("XDG_DATA_HOME"), filepath.Join(home, ".local/share"))
	return []string{
		filepath.Join(data, "nushell/vendor/autoload/localport.nu"), filepath.Join(data, "bash-completion/completions/localport"),
		filepath.Join(config, "fish/completions/localport.fish"), filepath.Join(config, "fish/conf.d/localport.fish"),
	}
}

// findScripts returns the files that localport has printed: all its scripts define functions or variables with this prefix.
func findScripts(files []string) (scripts []string) {
	for _, file := range files {
		info, err := os.Lstat(file)
		if err != nil || !info.Mode().IsRegular() {
			continue
		}
		if data, err := os.ReadFile(file); err == nil && bytes.Contains(data, []byte("__localport_")) {
			scripts = append(scripts, file)
		}
	}
	return scripts
}

// findLines returns the lines of the files that exist.
func findLines(files []string) (lines []Line) {
	mention, statement := regexp.MustCompile(mention), regexp.MustCompile(statement) // here: at start-up, every command would pay for it
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		previous := ""
		for i, text := range strings.Split(string(data), "\n") {
			text = strings.TrimSuffix(text, "\r")
			if mention.MatchString(text) {
				lines = append(lines, Line{file, i + 1, strings.TrimSpace(text), statement.MatchString(text) && !continues(previous)})
			}
			if strings.TrimSpace(text) != "" {
				previous = text
			}
		}
	}
	return lines
}

// continues reports whether a statement goes on in the next line.
func continues(line string) bool {
	line = strings.TrimSpace(line)
	for _, end := range []string{`\`, "&&", "||", "|", "{", "(", "then", "else", "do", "begin"} {
		if strings.HasSuffix(line, end) {
			return true
		}
	}
	first, _, _ := strings.Cut(line, " ")
	return slices.Contains([]string{"if", "while", "for", "switch", "function", "case"}, first) && !strings.HasSuffix(line, "fi")
}

// BackupSuffix is that of the copy that RemoveLines keeps of a file.
const BackupSuffix = ".before-localport-uninstall"

// errSyntax says that a file would have a syntax error without the line.
var errSyntax = errors.New("without the line the file would have a syntax error; remove it by hand")

// RemoveLines removes lines that are alone from their files, keeps a copy of each file, and returns the paths of the copies. All other bytes stay as
// they are, and so do mode and owner. A file that changed since, or that its shell could not read without the lines, is left alone.
func RemoveLines(lines []Line) (backups []string, err error) {
	for _, file := range filesOf(lines) {
		backup, fileErr := removeFromFile(file, slices.DeleteFunc(slices.Clone(lines), func(l Line) bool { return l.File != file || !l.IsAlone }))
		if fileErr != nil {
			err = errors.Join(err, fmt.Errorf("edit %s: %w", file, fileErr))
		} else if backup != "" {
			backups = append(backups, backup)
		}
	}
	return backups, err
}

func filesOf(lines []Line) (files []string) {
	for _, l := range lines {
		if l.IsAlone && !slices.Contains(files, l.File) {
			files = append(files, l.File)
		}
	}
	return files
}

func removeFromFile(file string, lines []Line) (copied string, err error) {
	path, err := filepath.EvalSymlinks(file) // people keep these files elsewhere, and link to them
	if err != nil {
		return "", err
	}
	before, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	all := bytes.SplitAfter(before, []byte("\n"))
	for _, l := range lines {
		if l.Number > len(all) || strings.TrimSpace(string(all[l.Number-1])) != l.Text {
			return "", fmt.Errorf("line %d has changed", l.Number)
		}
		all[l.Number-1] = nil
	}
	after := bytes.Join(all, nil)
	if isValidFor(file, before) && !isValidFor(file, after) {
		return "", errSyntax
	}
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	copied = path + BackupSuffix
	if err := backup.WriteCopy(copied, backup.File{Data: before, Info: info}); err != nil {
		return "", err
	}
	return copied, edit.Replace(path, before, after)
}

// isValidFor reports whether the shell whose start-up file this is can parse data. Without the shell, or for one that cannot check, it is true.
func isValidFor(file string, data []byte) bool {
	shell := ""
	switch name := filepath.Base(file); {
	case strings.HasPrefix(name, ".bash"), name == ".profile":
		shell = "bash"
	case strings.HasPrefix(name, ".z"):
		shell = "zsh"
	case strings.HasSuffix(name, ".fish"):
		shell = "fish"
	default:
		return true
	}
	path, err := exec.LookPath(shell)
	if err != nil {
		return true
	}
	script, err := os.CreateTemp("", "localport-*")
	if err != nil {
		return true
	}
	defer os.Remove(script.Name()) //nolint:errcheck // a temporary file
	_, err = script.Write(data)
	if err := errors.Join(err, script.Close()); err != nil {
		return true
	}
	return exec.Command(path, "-n", script.Name()).Run() == nil
}
