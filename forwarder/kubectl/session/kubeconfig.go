package session

import (
	"cmp"
	"path/filepath"
	"strings"

	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
	"github.com/localport-sh/localport/forwarder/process"
)

// Location is a context of the kubeconfig and a namespace. For an empty field kubectl's default applies.
type Location struct{ Context, Namespace string }

// String is "context/namespace", or the part that is known.
func (l Location) String() string {
	return strings.Trim(l.Context+"/"+l.Namespace, "/")
}

// KubeconfigFiles returns the files that kubectl would read: the explicit one, those of KUBECONFIG, or ~/.kube/config. Relative
// entries of KUBECONFIG are relative to dir.
func KubeconfigFiles(explicit string, env []string, dir string) []string {
	if explicit != "" {
		return []string{explicit}
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

// Complete fills in empty fields from kubeconfig files, in the order in which kubectl merges them: the first file that sets a value
// wins. It ignores files that cannot be read; opening the session or kubectl reports them.
func (l Location) Complete(files []string) Location {
	config, _ := kubeconfig.Load(files...)
	l.Context = cmp.Or(l.Context, config.CurrentContext)
	if kubeContext := config.Contexts[l.Context]; l.Namespace == "" && kubeContext != nil {
		l.Namespace = cmp.Or(kubeContext.Namespace, "default")
	}
	return l
}
