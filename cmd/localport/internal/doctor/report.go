package doctor

import (
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/localport-sh/localport/project"
)

// WriteReport writes a text for a bug report: versions, and the findings. Without withNames, the names of hosts, clusters, users and projects, and
// addresses other than loopback's, are replaced.
func WriteReport(w io.Writer, s *Subject, findings []Finding, withNames bool) {
	var b strings.Builder
	fmt.Fprintf(&b, "localport %s, %s, %s/%s, kernel %s\n", s.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH, kernelRelease())
	fmt.Fprintf(&b, "shell %s, terminal %s, uid %d\n", filepath.Base(s.Env["SHELL"]), s.Env["TERM"], os.Getuid())
	if s.Config != nil {
		fmt.Fprintf(&b, "services: %s\n", countTechnologies(s.Config.Services))
	}
	for _, f := range findings {
		fmt.Fprintf(&b, "%-4s %-12s %s\n", f.Status, f.ID, f.Text)
		if f.Fix != "" {
			fmt.Fprintf(&b, "%-17s fix: %s\n", "", f.Fix)
		}
	}
	text := b.String()
	if !withNames {
		text = s.redact(text)
	}
	_, _ = io.WriteString(w, text)
}

func kernelRelease() string {
	var name unix.Utsname
	if unix.Uname(&name) != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(name.Release[:])
}

// countTechnologies is "3 kubectl, 1 ssh".
func countTechnologies(services []project.Service) string {
	counts := make(map[string]int)
	for _, svc := range services {
		counts[svc.Technology]++
	}
	var parts []string
	for _, name := range slices.Sorted(keysOf(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[name], name))
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// nameKeys are the settings of connections that name hosts, users and places in clusters.
var nameKeys = []string{"host", "user", "remote_host", "jump", "context", "namespace", "resource_name", "selector"}

var (
	emailPattern   = project.LazyRegexp(`[\w.+-]+@[\w.-]+`)
	urlHostPattern = project.LazyRegexp(`(https?://)[^/\s:)]+`)
	addressPattern = project.LazyRegexp(`\b\d{1,3}(?:\.\d{1,3}){3}\b`)
)

// redact replaces names. Loopback addresses stay: every machine has them.
func (s *Subject) redact(text string) string {
	type replacement struct{ name, with string }
	var all []replacement
	add := func(name, with string) {
		if len(name) > 1 && name != "localhost" && !strings.HasPrefix(name, "127.") {
			all = append(all, replacement{name, with})
		}
	}
	if s.Project != nil {
		add(s.Project.Root, "PROJECT")
	}
	if home := filepath.Clean(s.Env["HOME"]); filepath.IsAbs(home) && home != "/" {
		add(home, "~")
		text = strings.ReplaceAll(text, "'"+home+"/", "~/'") // shells expand ~ only outside of quotes
	}
	if s.Config != nil {
		for _, svc := range s.Config.Services {
			for _, key := range nameKeys {
				add(svc.Connection.Settings.Text(key), strings.ToUpper(key))
			}
			add(svc.Name, "SERVICE")
		}
	}
	if host, err := os.Hostname(); err == nil {
		add(host, "THIS-HOST")
	}
	if u, err := user.Current(); err == nil {
		add(u.Username, "USER")
	}
	add(s.Env["USER"], "USER")
	slices.SortStableFunc(all, func(a, b replacement) int { return len(b.name) - len(a.name) }) // a name may contain another one
	for _, r := range all {
		pattern := regexp.MustCompile(`(^|[^\w-])` + regexp.QuoteMeta(r.name) + `($|[^\w-])`)
		for range 2 { // a match may begin where the one before it ends
			text = pattern.ReplaceAllString(text, "${1}"+r.with+"${2}")
		}
	}
	text = emailPattern().ReplaceAllString(text, "USER@HOST")
	text = urlHostPattern().ReplaceAllString(text, "${1}HOST")
	return addressPattern().ReplaceAllStringFunc(text, func(address string) string {
		if strings.HasPrefix(address, "127.") {
			return address
		}
		return "ADDRESS"
	})
}
