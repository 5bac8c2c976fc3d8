package forwarder

import (
	"slices"
	"strings"
)

// targetVariablePrefixes begin the names of variables by which the command-line programs of clouds, and their login helpers for Kubernetes, choose
// a profile, an account or a server.
var targetVariablePrefixes = []string{
	"AWS_", "AZURE_", "AAD_", "ARM_", "GOOGLE_", "CLOUDSDK_", "OCI_", "OS_", "DIGITALOCEAN_", "VAULT_", "TELEPORT_", "TSH_", "KUBERNETES_",
}

// ChoosesTarget reports whether programs choose by a variable where they connect, or as whom: kubeconfig files, cloud profiles and credentials,
// proxies.
func ChoosesTarget(name string) bool {
	return name == "KUBECONFIG" || IsProxyVariable(name) ||
		slices.ContainsFunc(targetVariablePrefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}

// IsProxyVariable reports whether a variable selects a proxy, in upper or lower case as curl and Go read it.
func IsProxyVariable(name string) bool {
	return slices.Contains([]string{"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"}, strings.ToUpper(name))
}
