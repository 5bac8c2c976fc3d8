package recipes

import (
	"embed"
	"strings"
)

//go:embed setups
var setupFiles embed.FS

// Setup is a recipe for programs that have no prompt: what to write where.
type Setup struct {
	Name  string
	Title string // where it is for, in Markdown
	Text  string // a comment, then what to write
	file  string
}

// Setups returns the recipes in the order of the help topic agents.
func Setups() []Setup {
	setups := []Setup{
		{Title: "direnv's `.envrc`", file: "direnv.envrc"},
		{Title: "a script, an agent's commands", file: "script.sh"},
		{Title: "the file that an agent reads before each of its commands", file: "agent-env-file.sh"},
		{Title: "every `bash -c` and script: the file that `BASH_ENV` names", file: "bash-env.sh"},
		{Title: "every zsh: `~/.zshenv`", file: "zshenv.zsh"},
		{Title: "cron", file: "cron.crontab"},
		{Title: "a systemd unit", file: "systemd.service"},
		{Title: "GitHub Actions", file: "github.yml"},
		{Title: "docker and podman", file: "docker.sh"},
		{Title: "a dev container", file: "devcontainer.json"},
		{Title: "VS Code", file: "vscode.json"},
		{Title: "IDEs of JetBrains", file: "jetbrains.xml"},
	}
	for i := range setups {
		s := &setups[i]
		s.Name, _, _ = strings.Cut(s.file, ".")
		data, _ := setupFiles.ReadFile("setups/" + s.file) // a test finds one that is missing
		s.Text = string(data)
	}
	return setups
}

// Summary is the recipe's only line without a comment, or else the command that prints the recipe; in Markdown.
func (s Setup) Summary() string {
	var lines []string
	for line := range strings.Lines(s.Text) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	if len(lines) == 1 {
		return "`" + lines[0] + "`"
	}
	return "`localport recipes " + s.Name + "` prints it"
}

// SetupNames returns the names of the setups, in the order of the help topic agents.
func SetupNames() (names []string) {
	for _, s := range Setups() {
		names = append(names, s.Name)
	}
	return names
}
