package session

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder"
	"github.com/localport-sh/localport/forwarder/kubectl/kubeconfig"
	"github.com/localport-sh/localport/forwarder/process"
)

// pluginTimeout is how long a plugin may run. One that opens a browser and asks for a second factor takes up to three minutes.
const pluginTimeout = 3 * time.Minute

// A plugin that fails within networkErrorTime and whose last lines hold one of networkErrors has failed because of the network: it is run
// again by itself. One that asks the user, or that takes longer, is not: it might open a browser each time.
const networkErrorTime = 10 * time.Second

// networkErrors are what programs print, in lower case, when a name cannot be resolved or a server cannot be reached: the texts of glibc's
// getaddrinfo and strerror, of Go's net package (kubelogin, aws-iam-authenticator), of Python's urllib3 and botocore (aws, gcloud, az), and
// of Node.js.
var networkErrors = []string{
	"no such host", "name or service not known", "temporary failure in name resolution", "could not resolve", "failed to resolve",
	"name resolution", "server misbehaving", "network is unreachable", "network is down", "no route to host", "connection refused",
	"connection reset", "connection timed out", "i/o timeout", "tls handshake timeout", "could not connect to the endpoint",
	"connect timeout", "read timeout", "context deadline exceeded", "client.timeout exceeded", "unable to find the server", "connection aborted", "failed to establish a new connection", "enotfound", "econnrefused",
	"econnreset", "etimedout", "eai_again", "ehostunreach", "enetunreach",
}

// execPlugin is a credential plugin, a program that users[].user.exec of a kubeconfig names. Messages call it a login helper.
// https://kubernetes.io/docs/reference/config-api/client-authentication.v1/
type execPlugin struct {
	config *kubeconfig.Exec
	info   string // value of KUBERNETES_EXEC_INFO
	dir    string
	env    []string
	log    io.Writer // receives its stderr
	hint   string
}

// execInfo is the ExecCredential that a plugin gets in KUBERNETES_EXEC_INFO, and the one that it prints. It is the same in v1 and
// v1beta1.
type execInfo struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Spec       struct {
		Cluster     *execCluster `json:"cluster,omitempty"`
		Interactive bool         `json:"interactive"`
	} `json:"spec"`
	Status *struct {
		Token       string    `json:"token"`
		Certificate string    `json:"clientCertificateData"`
		Key         string    `json:"clientKeyData"`
		Expires     time.Time `json:"expirationTimestamp"`
	} `json:"status,omitempty"`
}

type execCluster struct {
	Server   string `json:"server"`
	Name     string `json:"tls-server-name,omitempty"`
	Insecure bool   `json:"insecure-skip-tls-verify,omitempty"`
	CA       []byte `json:"certificate-authority-data,omitempty"`
	Proxy    string `json:"proxy-url,omitempty"`
	Config   any    `json:"config,omitempty"`
}

func newPlugin(config *kubeconfig.Config, dir string, env []string, log io.Writer, ref ResourceRef) (*execPlugin, error) {
	exec := config.Exec
	if exec == nil {
		return nil, nil
	}
	p := &execPlugin{config: exec, dir: dir, log: log, hint: fmt.Sprintf(`run "localport login", or see its messages with %q`, ref.Command("get namespaces"))}
	info, err := encodeExecInfo(config, false)
	if err != nil {
		return nil, err
	}
	p.info = info
	p.setEnv(env)
	return p, nil
}

// setEnv sets the plugin's environment: env, and the variables that the kubeconfig adds.
func (p *execPlugin) setEnv(env []string) {
	p.env = slices.Clone(env)
	for _, e := range p.config.Env {
		p.env = append(p.env, e.Name+"="+e.Value)
	}
}

func encodeExecInfo(config *kubeconfig.Config, interactive bool) (string, error) {
	info := execInfo{APIVersion: config.Exec.APIVersion, Kind: "ExecCredential"}
	info.Spec.Interactive = interactive
	if config.Exec.ProvideClusterInfo {
		cluster, err := newExecCluster(config)
		if err != nil {
			return "", err
		}
		info.Spec.Cluster = cluster
	}
	text, err := json.Marshal(info)
	return string(text), err
}

// newExecCluster is what a plugin is told of the cluster: its certificate authority, also one in a file, and its proxy.
func newExecCluster(config *kubeconfig.Config) (*execCluster, error) {
	cluster := &execCluster{
		Server: config.Server.String(), Name: config.ServerName, Insecure: config.Insecure, CA: config.CAData, Config: config.ExecConfig,
	}
	if len(cluster.CA) == 0 && config.CAFile != "" {
		data, err := os.ReadFile(config.CAFile)
		if err != nil {
			return nil, err
		}
		cluster.CA = data
	}
	if config.Proxy != nil {
		proxy, err := config.Proxy(&http.Request{URL: config.Server})
		if err != nil {
			return nil, err
		}
		if proxy != nil {
			cluster.Proxy = proxy.String()
		}
	}
	return cluster, nil
}

// run runs the plugin without a terminal.
func (p *execPlugin) run(ctx context.Context) (*credential, error) {
	name := p.config.Command
	if p.config.InteractiveMode == kubeconfig.AlwaysInteractive {
		return nil, p.newFailure("the login helper " + name + " needs a terminal")
	}
	var output bytes.Buffer
	startedAt := time.Now()
	program := process.Command{
		Argv: append([]string{name}, p.config.Args...), Dir: p.dir,
		Env: append(slices.Clip(p.env), "KUBERNETES_EXEC_INFO="+p.info), Stdout: &output,
		OnLine: func(_ process.Stream, line string) {
			_, _ = io.WriteString(p.log, line+"\n")
		},
	}
	c, err := process.Start(program)
	if err != nil {
		return nil, p.classifyStartError(err, program)
	}
	limitedCtx, cancel := context.WithTimeout(ctx, pluginTimeout)
	defer cancel()
	select {
	case <-c.Done():
	case <-limitedCtx.Done():
		c.Stop(process.DefaultGracePeriod)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, p.newFailure(fmt.Sprintf("the login helper %s did not answer within %v%s", name, pluginTimeout, lastLineSuffix(c)))
	}
	if !c.HasSucceeded() {
		failure := p.newFailure(fmt.Sprintf("the login helper %s failed: %s%s", name, c.ExitStatus(), lastLineSuffix(c)))
		MarkNetworkError(failure, c.LastLines(), time.Since(startedAt))
		return nil, failure
	}
	cred, err := parseCredential(output.Bytes(), p.config.APIVersion)
	if err != nil {
		return nil, p.newFailure(fmt.Sprintf("the login helper %s: %v%s", name, err, lastLineSuffix(c)))
	}
	return cred, nil
}

func (p *execPlugin) classifyStartError(err error, program process.Command) *forwarder.Failure {
	failure := process.ClassifyStartError(err, program, "install "+p.config.Command)
	failure.Reason = "the login helper: " + failure.Reason
	if _, isMissing := errors.AsType[*process.NotFoundError](err); isMissing && p.config.InstallHint != "" {
		failure.Hint = strings.Join(strings.Fields(p.config.InstallHint), " ")
	}
	return failure
}

// Preflight returns why the kubeconfig cannot be used, or that the login helper is not installed; nil if nothing is missing. It runs nothing.
func (src Source) Preflight() *forwarder.Failure {
	config, err := src.loadConfig()
	if err != nil {
		failure, isFailure := errors.AsType[*forwarder.Failure](err)
		if !isFailure {
			failure = &forwarder.Failure{Reason: err.Error(), Hint: src.Command("config view")}
		}
		return failure
	}
	plugin, err := newPlugin(config, src.Dir, src.Env, io.Discard, src.ResourceRef)
	if plugin == nil || err != nil {
		return nil
	}
	program := process.Command{Argv: []string{config.Exec.Command}, Dir: src.Dir, Env: plugin.env}
	if _, err := process.LookPath(config.Exec.Command, plugin.env, src.Dir); err != nil {
		return plugin.classifyStartError(err, program)
	}
	return nil
}

// lastLineSuffix returns ": " and the last line that a plugin printed; empty if it printed none.
func lastLineSuffix(c *process.Child) string {
	last := c.LastLines()
	if len(last) == 0 {
		return ""
	}
	return ": " + strings.TrimSpace(last[len(last)-1])
}

// MarkNetworkError makes the failure of a login helper a transient one if it is one of the network: if the helper has run for less than
// networkErrorTime and one of the last lines that it printed says that the network or a server cannot be reached.
func MarkNetworkError(failure *forwarder.Failure, lines []string, running time.Duration) {
	text := strings.ToLower(strings.Join(lines, "\n"))
	isNetworkError := slices.ContainsFunc(networkErrors, func(message string) bool { return strings.Contains(text, message) })
	if isNetworkError && running < networkErrorTime {
		failure.Class, failure.Hint = forwarder.Transient, "check the network or VPN; the login helper is run again by itself"
	}
}

// newSlowFailure says that the plugin is still running, perhaps because it waits for the user in a browser.
func (p *execPlugin) newSlowFailure(running time.Duration) *forwarder.Failure {
	return &forwarder.Failure{
		Reason: fmt.Sprintf("the login helper %s has been running for %v and may be waiting for you", p.config.Command, running.Round(time.Second)),
		Hint:   `finish the login where it asks for it, for example in the browser, or run "localport login"`,
	}
}

func (p *execPlugin) newFailure(reason string) *forwarder.Failure {
	return &forwarder.Failure{Class: forwarder.NeedsUser, Reason: reason, Hint: p.hint}
}

// parseCredential parses a plugin's output. Its errors do not quote the output, which is secret.
func parseCredential(output []byte, version string) (*credential, error) {
	var info execInfo
	if err := json.Unmarshal(output, &info); err != nil {
		return nil, errors.New("its output is not an ExecCredential")
	}
	switch {
	case info.Kind != "ExecCredential":
		return nil, errors.New("its output is not an ExecCredential")
	case info.APIVersion != version:
		return nil, fmt.Errorf("its output has apiVersion %s, the kubeconfig expects %s", info.APIVersion, version)
	case info.Status == nil:
		return nil, errors.New("its output has no status")
	}
	status := info.Status
	cred := &credential{token: status.Token, expiresAt: status.Expires}
	if (status.Certificate == "") != (status.Key == "") {
		return nil, errors.New("its output has a certificate without a key, or a key without a certificate")
	}
	if status.Certificate != "" {
		cert, err := tls.X509KeyPair([]byte(status.Certificate), []byte(status.Key))
		if err != nil {
			return nil, fmt.Errorf("its output has an invalid certificate: %w", err)
		}
		cred.cert = &cert
		if cert.Leaf != nil && cred.expiresAt.IsZero() {
			cred.expiresAt = cert.Leaf.NotAfter
		}
	}
	if cred.token == "" && cred.cert == nil {
		return nil, errors.New("its output has neither a token nor a certificate")
	}
	return cred, nil
}
