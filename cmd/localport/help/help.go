// Package help has the help topics of the command line, written in Markdown, and renders them for a terminal.
package help

import (
	"embed"
	"slices"
	"strings"
)

//go:embed topics/*.md
var files embed.FS

// Topic is one page of help.
type Topic struct {
	Name    string // as in "localport help NAME"
	Summary string // one line
	aliases []string
}

// topics are in the order in which they are listed.
var topics = []Topic{
	{"config", "every key of .localport.toml, by example", []string{"configuration", "toml", "keys"}},
	{"env", "the variables that a project sets, and where they come from", []string{"environment", "variables", "dotenv"}},
	{"hooks", "the shell hook: bash, zsh, fish, tcsh, elvish, nushell, PowerShell", []string{"shells", "shell", "prompt"}},
	{"kubernetes", "services, pods, contexts, login helpers", []string{"k8s", "kube"}},
	{"ssh", "hosts, keys, jump hosts, SOCKS and reverse forwards", []string{"socks", "reverse", "tunnels"}},
	{"commands", "Cloud SQL, AWS, IAP, Teleport: any program as a tunnel", []string{"command", "bastions"}},
	{"health-checks", "how a service is found to be healthy", []string{"health", "checks", "health-check", "probes"}},
	{"sharing", "the same forward in several worktrees or checkouts", []string{"shared", "worktrees", "worktree"}},
	{"recovery", "what is retried, when, and what restarts what", []string{"retry", "retries", "restarts", "restart-policy"}},
	{"security", "what is trusted, where secrets go, who can connect", []string{"trust", "secrets"}},
	{"troubleshooting", "what to do when a service does not work", []string{"trouble", "problems", "debug", "errors"}},
	{"ci", "in scripts and in continuous integration", []string{"scripts", "github-actions", "exit-codes"}},
	{"agents", "editors, agents, direnv and others without a prompt", []string{"agent", "editors", "editor", "ide", "leases", "vscode"}},
	{"containers", "connecting from docker, podman and dev containers", []string{"container", "docker", "podman", "devcontainer", "devcontainers"}},
	{"wsl", "Windows Subsystem for Linux", []string{"windows", "wsl2"}},
	{"json", "the output for programs", []string{"api", "status-json"}},
	{"from-kubectl", "coming from kubectl port-forward", []string{"coming-from-kubectl", "kubectl", "port-forward"}},
	{"from-autossh", "coming from autossh and ssh -L", []string{"coming-from-autossh", "autossh"}},
	{"from-direnv", "coming from direnv, beside it or instead of it", []string{"coming-from-direnv", "direnv", "mise", "from-mise", "coming-from-mise"}},
	{"from-python", "coming from the Python LocalPort", []string{"coming-from-python-localport", "coming-from-python", "python-localport", "from-python-localport", "python"}},
}

// Topics returns all topics, in the order in which they are listed.
func Topics() []Topic { return slices.Clone(topics) }

// Find returns the topic that words name, such as "ssh" or "coming from kubectl".
func Find(words []string) (Topic, bool) {
	name := strings.ToLower(strings.Join(words, "-"))
	name = strings.ReplaceAll(name, "_", "-")
	i := slices.IndexFunc(topics, func(t Topic) bool { return t.Name == name || slices.Contains(t.aliases, name) })
	if i < 0 {
		return Topic{}, false
	}
	return topics[i], true
}

// Names returns the names and aliases of the topics.
func Names() []string {
	var names []string
	for _, t := range topics {
		names = append(append(names, t.Name), t.aliases...)
	}
	return names
}

// Markdown is the text of the topic.
func (t Topic) Markdown() string {
	text, _ := files.ReadFile("topics/" + t.Name + ".md") // a test reads all
	return string(text)
}

// Render returns the topic for a terminal with this many columns; bold says whether escape sequences may be used.
func (t Topic) Render(columns int, bold bool) string {
	r := renderer{columns: min(max(columns, minColumns), maxColumns), bold: bold}
	r.document(strings.Split(t.Markdown(), "\n"))
	return r.b.String()
}

// Lines longer than maxColumns are hard to read. On a terminal that is narrower than minColumns, lines wrap.
const (
	minColumns = 40
	maxColumns = 100
)
