package session

import (
	"cmp"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/localport-sh/localport/forwarder/process"
)

// Place is where in which cluster; a part that is empty is left to kubectl.
type Place struct{ Context, Namespace string }

// String is "context/namespace", or what is known of it.
func (p Place) String() string {
	return strings.Trim(p.Context+"/"+p.Namespace, "/")
}

// Files are the files that kubectl would read: the one named, or those of KUBECONFIG, or ~/.kube/config.
func Files(named string, env []string, dir string) []string {
	if named != "" {
		return []string{named}
	}
	var files []string
	for _, file := range filepath.SplitList(process.Getenv(env, "KUBECONFIG")) {
		if file != "" && !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		if file != "" {
			files = append(files, file)
		}
	}
	if home := process.Getenv(env, "HOME"); len(files) == 0 && home != "" {
		files = []string{filepath.Join(home, ".kube", "config")}
	}
	return files
}

// kubeconfig is the part of a file that says what is current.
type kubeconfig struct {
	CurrentContext string `yaml:"current-context"`
	Contexts       []struct {
		Name    string `yaml:"name"`
		Context struct {
			Namespace string `yaml:"namespace"`
		} `yaml:"context"`
	} `yaml:"contexts"`
}

// Complete fills in what the config left out, from files in the order in which kubectl merges them: the first to set
// something wins. Files that are missing or wrong are for kubectl to complain of.
func (p Place) Complete(files []string) Place {
	var all []kubeconfig
	for _, file := range files {
		var one kubeconfig
		if data, err := os.ReadFile(file); err == nil && yaml.Unmarshal(data, &one) == nil {
			all = append(all, one)
		}
	}
	for _, one := range all {
		p.Context = cmp.Or(p.Context, one.CurrentContext)
	}
	if p.Namespace != "" || p.Context == "" {
		return p
	}
	for _, one := range all {
		for _, entry := range one.Contexts {
			if entry.Name == p.Context {
				p.Namespace = cmp.Or(entry.Context.Namespace, "default")
				return p
			}
		}
	}
	return p
}
