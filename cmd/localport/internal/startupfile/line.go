package startupfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/localport-sh/localport/project"
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

// mentionPattern matches a line that gets the hook or the completion of a shell from localport.
var mentionPattern = project.LazyRegexp(`^[^#]*\blocalport(?:"|'|\b)\s+(?:hook|completion)\b`)

// statementPattern matches a line that does nothing else: those of "localport help hooks" and "localport completion --help", with any path of the program.
var statementPattern = project.LazyRegexp(`^(?:` +
	`eval "\$\(` + program + ` hook (?:bash|zsh)(?: --on-cd)?\)"|` +
	`(?:source|\.) <\(` + program + ` (?:hook|completion) (?:bash|zsh)(?: --on-cd)?\)|` +
	program + ` (?:hook|completion) fish \| source|` +
	"eval \"`" + program + " hook tcsh`\"|" +
	`eval \(` + program + ` hook elvish \| slurp\)|` +
	program + ` hook pwsh \| Out-String \| Invoke-Expression` +
	`)\s*(?:#.*)?$`)

const program = `[\w./~-]*localport`

// FindLines returns the lines of those files that exist.
func FindLines(files []string) (lines []Line) {
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		previous := ""
		for i, text := range strings.Split(string(data), "\n") {
			text = strings.TrimSuffix(text, "\r")
			if mentionPattern().MatchString(text) {
				lines = append(lines, Line{file, i + 1, strings.TrimSpace(text), statementPattern().MatchString(text) && !continues(previous)})
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
