package session

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"slices"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/wait"
)

// ConfigFiles are the files from which a session is made, as they were when they were read: the kubeconfig files, and the token and
// certificate files that they name. The files may be rewritten at any time, by kind, aws or kubelogin for example.
type ConfigFiles struct {
	src      Source
	stamps   map[string]fileStamp
	identity string // of the session; empty if the files describe none
}

// fileStamp tells a file from a later version of it. The zero value stands for a file that cannot be read.
type fileStamp struct {
	modTime time.Time
	size    int64
}

func stampOf(path string) fileStamp {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}
	}
	return fileStamp{info.ModTime(), info.Size()}
}

// ReadFiles notes how the files of a source are now. It is called before they are used, so that no later change is missed.
func (src Source) ReadFiles() *ConfigFiles {
	files := &ConfigFiles{src: src, stamps: make(map[string]fileStamp)}
	for _, path := range src.files() {
		files.stamps[path] = stampOf(path)
	}
	files.identity = src.identity()
	return files
}

// files are the paths of the kubeconfig files, and of those that the kubeconfig names for the context.
func (src Source) files() []string {
	paths := KubeconfigFiles(src.Kubeconfig, src.Env, src.Dir)
	raw, err := src.loadingRules(paths).Load()
	if err != nil {
		return paths
	}
	kubeContext := raw.Contexts[cmp.Or(src.Location.Context, raw.CurrentContext)]
	if kubeContext == nil {
		return paths
	}
	if cluster := raw.Clusters[kubeContext.Cluster]; cluster != nil {
		paths = append(paths, cluster.CertificateAuthority)
	}
	if user := raw.AuthInfos[kubeContext.AuthInfo]; user != nil {
		paths = append(paths, user.TokenFile, user.ClientCertificate, user.ClientKey)
	}
	return slices.DeleteFunc(paths, func(path string) bool { return path == "" })
}

// identity distinguishes the sessions that a source's files describe, by the contents of the files too; empty if they describe none.
func (src Source) identity() string {
	config, err := src.loadConfig()
	if err != nil {
		return ""
	}
	return src.sessionKey(config)
}

// sessionKey is the digest of all that distinguishes sessions.
func (src Source) sessionKey(config *rest.Config) string {
	parts := []any{src.key(config)}
	for _, path := range []string{config.CAFile, config.CertFile, config.KeyFile, config.BearerTokenFile} {
		data, _ := os.ReadFile(path)
		parts = append(parts, sha256.Sum256(data))
	}
	return digest(parts...)
}

// haveChanged reports whether a file was written, created or removed since ReadFiles.
func (f *ConfigFiles) haveChanged() bool {
	for path, stamp := range f.stamps {
		if stampOf(path) != stamp {
			return true
		}
	}
	return false
}

// DescribeAnother reports whether the files describe another session by now: another server, user or certificate.
func (f *ConfigFiles) DescribeAnother() bool {
	if !f.haveChanged() {
		return false
	}
	now := f.src.identity()
	return now != "" && now != f.identity
}

// Reconsider returns what a failure of a session amounts to now. One that only a person can end is transient if the files describe
// another session by now; else it ends when a file changes.
func (f *ConfigFiles) Reconsider(failure *forwarder.Failure) *forwarder.Failure {
	if failure.Class == forwarder.Transient {
		return failure
	}
	reconsidered := *failure
	reconsidered.AwaitChange = f.AwaitChange
	if f.DescribeAnother() {
		reconsidered.Class = forwarder.Transient
	}
	return &reconsidered
}

// ReconsiderError is Reconsider for an error that may be a failure.
func (f *ConfigFiles) ReconsiderError(err error) error {
	if failure, ok := errors.AsType[*forwarder.Failure](err); ok {
		return f.Reconsider(failure)
	}
	return err
}

// fileCheckInterval is the time between checks of the files while something waits for a change. They are stat calls: files on other
// machines and in mounted secrets send no event.
const fileCheckInterval = 2 * time.Second

// AwaitChange waits until a file was written, created or removed since ReadFiles. It returns false when ctx ends.
func (f *ConfigFiles) AwaitChange(ctx context.Context) bool {
	for !f.haveChanged() {
		if !wait.Sleep(ctx, fileCheckInterval) {
			return false
		}
	}
	return true
}

// loadingRules are kubectl's rules for these kubeconfig files.
func (src Source) loadingRules(files []string) *clientcmd.ClientConfigLoadingRules {
	if src.Kubeconfig != "" {
		return &clientcmd.ClientConfigLoadingRules{ExplicitPath: src.Kubeconfig}
	}
	return &clientcmd.ClientConfigLoadingRules{Precedence: files}
}
