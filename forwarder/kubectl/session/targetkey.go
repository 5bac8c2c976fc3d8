package session

import (
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
	"github.com/localport-sh/localport/forwarder/process"
)

// TargetKey returns what decides which API server a session reaches, and as whom: the server's address, its CA, the proxy, the identity, and where
// the credentials come from. The names of the context and of the kubeconfig files are not part of it. The key may hold secrets. It is not
// ok if the files describe no session, or if the login has a password, which could be guessed from a digest.
func (src Source) TargetKey() (key []string, ok bool) {
	config, err := src.loadConfig()
	if err != nil || config.Password != "" {
		return nil, false
	}
	through, err := config.Proxy(&http.Request{URL: config.Server})
	if err != nil {
		return nil, false
	}
	proxy := ""
	if through != nil {
		proxy = through.String()
	}
	for _, part := range []struct {
		data *[]byte
		path string
	}{{&config.CAData, config.CAFile}, {&config.CertData, config.CertFile}, {&config.KeyData, config.KeyFile}} {
		if len(*part.data) == 0 && part.path != "" {
			if *part.data, err = os.ReadFile(part.path); err != nil {
				return nil, false
			}
		}
	}
	token := config.Token
	if config.TokenFile != "" {
		token = "" // of the file, which is written again and again
	}
	return []string{
		digest(config.Server.String(), config.ServerName, config.Insecure, proxy, config.CAData, config.CertData, config.KeyData, config.Username, token,
			config.TokenFile, config.Impersonate),
		digest(src.loginHelperKey(config), authProviderKey(config)),
	}, true
}

// loginHelperKey is what decides which credential a login helper obtains; nil without one.
func (src Source) loginHelperKey(config *kubeconfig.Config) any {
	if config.Exec == nil {
		return nil
	}
	var identity []string
	for _, entry := range src.Env {
		if name, _, _ := strings.Cut(entry, "="); name != "KUBECONFIG" && forwarder.ChoosesTarget(name) {
			identity = append(identity, entry)
		}
	}
	slices.Sort(identity)
	program, _ := process.LookPath(config.Exec.Command, src.Env, src.Dir)
	return []any{identity, program, execKey(config.Exec), config.ExecConfig}
}

// authProviderKey is the user whose tokens an auth provider renews, in the kubeconfig file that has them; nil without one.
func authProviderKey(config *kubeconfig.Config) any {
	if config.AuthProvider == nil {
		return nil
	}
	return []string{config.AuthProvider.Name, config.UserFile, config.UserName}
}
