package session

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/filestamps"
	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
	"github.com/localport-sh/localport/forwarder/process"
)

// ConfigFiles are the files from which a session is made, as they were when they were read: the kubeconfig files, and the token and
// certificate files that they name. The files may be rewritten at any time, by kind, aws or kubelogin for example.
type ConfigFiles struct {
	filestamps.Stamps

	src      Source
	identity string // of the session; empty if the files describe none
}

// ReadFiles notes how the files of a source are now. It is called before they are used, so that no later change is missed.
func (src Source) ReadFiles() *ConfigFiles {
	stamps := filestamps.Of(src.files()...)
	return &ConfigFiles{stamps, src, src.identity()}
}

// files are the paths of the kubeconfig files, and of those that the kubeconfig names for the context.
func (src Source) files() []string {
	paths := KubeconfigFiles(src.Kubeconfig, src.Env, src.Dir)
	raw, err := kubeconfig.Load(paths...)
	if err != nil {
		return paths
	}
	kubeContext := raw.Contexts[cmp.Or(src.Location.Context, raw.CurrentContext)]
	if kubeContext == nil {
		return paths
	}
	for _, file := range namedFiles(raw, kubeContext) {
		paths = append(paths, file.path)
	}
	if user := raw.Users[kubeContext.User]; user != nil && user.Exec != nil {
		paths = append(paths, helperFiles(src.Env)...)
	}
	return paths
}

// namedFile is a file that a kubeconfig names.
type namedFile struct {
	kind string // as in "its KIND file"
	path string
}

// namedFiles are the files that a kubeconfig names for a context.
func namedFiles(raw *kubeconfig.Kubeconfig, kubeContext *kubeconfig.Context) []namedFile {
	var files []namedFile
	if cluster := raw.Clusters[kubeContext.Cluster]; cluster != nil && len(cluster.CertificateAuthorityData) == 0 {
		files = append(files, namedFile{"certificate authority", cluster.CertificateAuthority})
	}
	if user := raw.Users[kubeContext.User]; user != nil {
		if user.Token == "" {
			files = append(files, namedFile{"token", user.TokenFile})
		}
		if len(user.ClientCertificateData) == 0 {
			files = append(files, namedFile{"client certificate", user.ClientCertificate})
		}
		if len(user.ClientKeyData) == 0 {
			files = append(files, namedFile{"client key", user.ClientKey})
		}
	}
	return slices.DeleteFunc(files, func(f namedFile) bool { return f.path == "" })
}

// configNamedFiles are the files that a loaded config names.
func configNamedFiles(config *kubeconfig.Config) []namedFile {
	var files []namedFile
	for _, f := range []namedFile{{"certificate authority", config.CAFile}, {"client certificate", config.CertFile}, {"client key", config.KeyFile}, {"token", config.TokenFile}} {
		if f.path != "" {
			files = append(files, f)
		}
	}
	return files
}

// describeUnreadable says which of the files cannot be read, and why; empty if all can.
func describeUnreadable(files []namedFile) string {
	for _, f := range files {
		file, err := os.Open(f.path)
		if err == nil {
			file.Close()
			continue
		}
		if failed, ok := errors.AsType[*fs.PathError](err); ok {
			err = failed.Err
		}
		return fmt.Sprintf("the kubeconfig's %s file, %s, cannot be read: %v", f.kind, f.path, err)
	}
	return ""
}

// describeUnreadableKubeconfig says that none of the kubeconfig files exists; empty if one does.
func describeUnreadableKubeconfig(files []string) string {
	for _, path := range files {
		if _, err := os.Stat(path); err == nil {
			return ""
		}
	}
	if len(files) == 0 {
		return ""
	}
	return "the kubeconfig, " + strings.Join(files, ", ") + ", does not exist"
}

// helperFilePatterns are where the usual login helpers keep what a login gives them: aws, gcloud, az and kubelogin. A login in another
// terminal changes one of them. A directory changes when a file is created in it.
var helperFilePatterns = []string{
	".aws/credentials", ".aws/sso/cache", ".aws/sso/cache/*.json", ".aws/cli/cache", ".aws/cli/cache/*.json",
	".config/gcloud/credentials.db", ".config/gcloud/access_tokens.db", ".config/gcloud/application_default_credentials.json",
	".azure/msal_token_cache.json", ".azure/msal_token_cache.bin",
	".kube/cache/oidc-login", ".kube/cache/oidc-login/*", ".kube/cache/kubelogin", ".kube/cache/kubelogin/*",
}

// helperFiles are the files of login helpers in the home directory of an environment.
func helperFiles(env []string) []string {
	home := process.Getenv(env, "HOME")
	if home == "" {
		return nil
	}
	var files []string
	for _, pattern := range helperFilePatterns {
		path := filepath.Join(home, pattern)
		if !strings.Contains(pattern, "*") {
			files = append(files, path) // it may be created
			continue
		}
		matches, _ := filepath.Glob(path)
		files = append(files, matches...)
	}
	return files
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
func (src Source) sessionKey(config *kubeconfig.Config) string {
	parts := []any{src.key(config), src.proxies()}
	for _, path := range []string{config.CAFile, config.CertFile, config.KeyFile, config.TokenFile} {
		data, _ := os.ReadFile(path)
		parts = append(parts, sha256.Sum256(data))
	}
	return digest(parts...)
}

// DescribeAnother reports whether the files describe another session by now: another server, user or certificate.
func (f *ConfigFiles) DescribeAnother() bool {
	if !f.HaveChanged() {
		return false
	}
	now := f.src.identity()
	return now != "" && now != f.identity
}

// Reconsider returns what a failure of a session amounts to now: it ends when a file changes, and one that only a person can end is transient
// if the files describe another session by now.
func (f *ConfigFiles) Reconsider(failure *forwarder.Failure) *forwarder.Failure {
	reconsidered := failure.AlsoAwaiting(f.AwaitChange)
	if f.DescribeAnother() {
		reconsidered.Class = forwarder.Transient
	}
	return reconsidered
}

// ReconsiderError is Reconsider for an error that may be a failure.
func (f *ConfigFiles) ReconsiderError(err error) error {
	if failure, ok := errors.AsType[*forwarder.Failure](err); ok {
		return f.Reconsider(failure)
	}
	return err
}
