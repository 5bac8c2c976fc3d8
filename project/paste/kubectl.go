package paste

import (
	"slices"
	"strconv"
	"strings"

	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/draft"
)

var kubectlPrograms = []string{"kubectl", "k", "oc", "kubecolor"}

const portForwardVerb = "port-forward"

// The flags of kubectl and oc (kubectl options, kubectl port-forward --help).
var (
	kubectlValueFlags = []string{
		"-n", "--namespace", "--context", "--kubeconfig", "--address", "--pod-running-timeout", "-l", "--selector", "--request-timeout", "--cache-dir",
		"-v", "--v", "--vmodule", "--profile", "--profile-output", "--log-flush-frequency", "--kuberc", "--loglevel",
	}
	kubectlBoolFlags = []string{"--match-server-version", "--warnings-as-errors", "--disable-compression"}
	// identityFlags choose a cluster or an identity. A service chooses both by its context.
	identityFlags = []string{
		"--as", "--as-group", "--as-uid", "--as-user-extra", "--certificate-authority", "--client-certificate", "--client-key", "--cluster",
		"--insecure-skip-tls-verify", "-s", "--server", "--tls-server-name", "--token", "--user", "--username", "--password",
	}
)

// kubectlArgs are the arguments of kubectl port-forward.
type kubectlArgs struct {
	positional                               []string
	namespace, context, kubeconfig, selector string
	addresses                                []string
	hasVerb                                  bool
}

// IsProgram reports whether a command line that begins with a word is that of another program, with flags of its own.
func IsProgram(word string) bool {
	name := programName(word)
	return slices.Contains(kubectlPrograms, name) || slices.Contains(wrappers, name) || slices.Contains([]string{"ssh", "autossh", "socat", "minikube", "microk8s", "k3s"}, name)
}

// isResource reports whether a word is kubectl's TYPE/NAME.
func isResource(word string) bool {
	_, _, ok := project.SplitResource(withoutGroup(word))
	return ok
}

// startsLikeKubectl reports whether the words are the arguments of kubectl port-forward without the program.
func startsLikeKubectl(words []string) bool {
	kind, _, isPair := strings.Cut(words[0], "/")
	if isResource(words[0]) || isPair && len(words) > 1 && isPortPair(words[1]) && !strings.Contains(kind, ":") {
		return true
	}
	return len(words) > 1 && isResourceType(words[0])
}

func isResourceType(word string) bool { return isResource(word+"/x") && !strings.Contains(word, "/") }

// withoutGroup turns deployments.v1.apps/NAME into deployments/NAME.
func withoutGroup(word string) string {
	kind, name, found := strings.Cut(word, "/")
	if kind, _, _ = strings.Cut(kind, "."); !found {
		return word
	}
	return kind + "/" + name
}

// readKubectl adds the services of kubectl's arguments.
func (r *reader) readKubectl(c shellCommand, words []string) error {
	args, err := r.parseKubectlArgs(words)
	if err != nil {
		return err
	}
	if isProgram := len(words) < len(c.words); isProgram && !args.hasVerb && len(args.positional) > 0 && !isResource(args.positional[0]) {
		return &Error{Word: args.positional[0], Reason: "only kubectl port-forward can be a service", Advice: "write for example: kubectl port-forward svc/postgres 5432"}
	}
	for _, variable := range c.variables {
		if variable.Name == "KUBECONFIG" && args.kubeconfig == "" && !strings.Contains(variable.Value, ":") {
			args.kubeconfig = r.path(variable.Value)
			continue
		}
		r.note("%s=… is not kept: the services use the value of the shell that starts them", variable.Name)
	}
	connection, base, err := r.kubectlConnection(&args)
	if err != nil {
		return err
	}
	localAddress, err := r.localAddress(args.addresses)
	if err != nil {
		return err
	}
	if len(args.positional) == 0 {
		return &Error{Word: words[len(words)-1], Reason: "the port is missing after it", Advice: "write the port too, for example: svc/postgres 5432, or 8080:80 for another local port"}
	}
	for i, word := range args.positional {
		port, err := parseKubectlPort(word)
		if err != nil {
			return err
		}
		d := pendingService{
			technology: "kubectl", base: base, localPort: port.local, localAddress: localAddress, remotePort: port.remote, connection: slices.Clone(connection),
		}
		if i > 0 {
			d.base += "-" + port.remote
		}
		r.pending = append(r.pending, d)
	}
	return nil
}

// parseKubectlArgs separates flags from the rest. The verb and "--" are removed.
func (r *reader) parseKubectlArgs(words []string) (args kubectlArgs, err error) {
	for i := 0; i < len(words); i++ {
		word := words[i]
		if !strings.HasPrefix(word, "-") {
			if word == portForwardVerb && !args.hasVerb && len(args.positional) == 0 {
				args.hasVerb = true
				continue
			}
			args.positional = append(args.positional, word)
			continue
		}
		if word == "--" || slices.Contains(kubectlBoolFlags, word) {
			continue
		}
		count, err := r.takeFlag(words[i:])
		if err != nil {
			return args, err
		}
		if count > 0 {
			i += count - 1
			continue
		}
		name, value, hasValue := splitKubectlFlag(word)
		switch {
		case slices.Contains(identityFlags, name):
			return args, &Error{Word: word, Reason: "the cluster and the identity come from a context", Advice: `"kubectl config set-context" makes one with them; then write --context NAME`}
		case !slices.Contains(kubectlValueFlags, name):
			return args, r.unknownFlagError(word, "kubectl port-forward", slices.Concat(kubectlValueFlags, kubectlBoolFlags))
		case !hasValue && i+1 == len(words):
			return args, &Error{Word: word, Reason: "it needs a value"}
		case !hasValue:
			i++
			value = words[i]
		}
		r.setKubectlFlag(&args, name, value)
	}
	return args, nil
}

// splitKubectlFlag splits --name=value and -nvalue.
func splitKubectlFlag(word string) (name, value string, hasValue bool) {
	if strings.HasPrefix(word, "--") {
		return strings.Cut(word, "=")
	}
	if len(word) > 2 {
		return word[:2], strings.TrimPrefix(word[2:], "="), true
	}
	return word, "", false
}

func (r *reader) setKubectlFlag(args *kubectlArgs, name, value string) {
	switch name {
	case "-n", "--namespace":
		args.namespace = value
	case "--context":
		args.context = value
	case "--kubeconfig":
		args.kubeconfig = r.path(value)
	case "-l", "--selector":
		args.selector = value
	case "--address":
		args.addresses = append(args.addresses, strings.Split(value, ",")...)
	case "--pod-running-timeout", "--request-timeout":
		r.note("%s has no effect: connections wait for connect_timeout, and retries do not end", name)
	default:
		r.note("%s has no effect", name)
	}
}

// kubectlConnection returns the connection table, and what the name begins with. It removes the resource from the arguments.
func (r *reader) kubectlConnection(args *kubectlArgs) (table draft.Table, base string, err error) {
	switch {
	case args.selector != "":
		table.Set("selector", draft.Template(args.selector))
		_, base, _ = strings.Cut(args.selector, "=")
		base, _, _ = strings.Cut(base, ",")
	case len(args.positional) == 0:
		return nil, "", &Error{Reason: "the resource is missing", Advice: "write for example: svc/postgres 5432"}
	default:
		kind, name, err := takeResource(args)
		if err != nil {
			return nil, "", err
		}
		base = name
		if kind == "pod" && podSuffixPattern().MatchString(name) {
			base = podSuffixPattern().ReplaceAllString(name, "")
			r.note("the pod %s is gone after the next rollout: deploy/%s would follow it", name, base)
		}
		if kind != "service" { // the default
			table.Set("resource_type", draft.Template(kind))
		}
		table.Set("resource_name", draft.Template(name))
	}
	table.Set("namespace", draft.Template(args.namespace))
	table.Set("context", draft.Template(args.context))
	table.Set("kubeconfig", draft.Template(args.kubeconfig))
	for _, entry := range table {
		if err := checkWord(table.Text(entry.Key), entry.Key != "selector" && entry.Key != "kubeconfig" && entry.Key != "context"); err != nil {
			return nil, "", err
		}
	}
	return table, base, nil
}

// podSuffixPattern matches what a ReplicaSet and a Deployment append to a name (k8s.io/apimachinery/pkg/util/rand).
var podSuffixPattern = project.LazyRegexp(`-[bcdfghjklmnpqrstvwxz2456789]{6,10}-[bcdfghjklmnpqrstvwxz2456789]{5}$`)

// takeResource removes TYPE/NAME, TYPE NAME or the name of a pod from the arguments.
func takeResource(args *kubectlArgs) (kind, name string, err error) {
	first := args.positional[0]
	args.positional = args.positional[1:]
	if kind, name, ok := project.SplitResource(withoutGroup(first)); ok {
		return kind, name, nil
	}
	if strings.Contains(first, "/") {
		return "", "", &Error{
			Word: first, Reason: "a port cannot be forwarded to this kind of resource",
			Advice: "write svc/NAME, pod/NAME, deploy/NAME, sts/NAME, rs/NAME, ds/NAME or job/NAME",
		}
	}
	if isResourceType(first) && len(args.positional) > 0 && !isPortPair(args.positional[0]) {
		name := args.positional[0]
		args.positional = args.positional[1:]
		if strings.Contains(name, "/") {
			return "", "", &Error{Word: name, Reason: "a name without a slash is expected after " + first, Advice: "write " + first + "/NAME, or " + first + " NAME"}
		}
		kind, _, _ := project.SplitResource(first + "/" + name)
		return kind, name, nil
	}
	if isPortPair(first) {
		return "", "", &Error{Word: first, Reason: "the resource is missing before the port", Advice: "write for example: svc/postgres " + first}
	}
	return "pod", first, nil
}

// portPair is kubectl's [LOCAL]:REMOTE or REMOTE.
type portPair struct {
	local  int // draft.Auto: any
	remote string
}

var portPairPattern = project.LazyRegexp(`^(?:[0-9]+|[0-9]*:[a-z0-9-]+)$`)

func isPortPair(word string) bool { return portPairPattern().MatchString(word) }

func parseKubectlPort(word string) (portPair, error) {
	local, remote, isPair := strings.Cut(word, ":")
	if !isPair {
		local, remote = word, word
	}
	if strings.HasSuffix(remote, "/udp") || strings.HasSuffix(remote, "/UDP") {
		return portPair{}, &Error{Word: word, Reason: "only TCP can be forwarded", Advice: "write a TCP port"}
	}
	p := portPair{remote: remote}
	number, err := parsePort(remote)
	isName := err != nil && project.IsPortName(remote)
	switch {
	case err != nil && !isName:
		return p, &Error{Word: word, Reason: "not a port", Advice: "write REMOTE, LOCAL:REMOTE or :REMOTE, for example 8080:80; a port is 1-65535 or the name of a service's port"}
	case err == nil:
		p.remote = strconv.Itoa(number)
	}
	switch {
	case !isPair:
		p.local = number // 0 for a name
	case local != "" && local != "0":
		if p.local, err = parsePort(local); err != nil {
			return p, &Error{Word: word, Reason: "the local port is not 1-65535", Advice: "write LOCAL:REMOTE, for example 8080:80"}
		}
	}
	return p, nil
}

// parsePort parses a port number.
func parsePort(text string) (int, error) {
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return 0, strconv.ErrRange
	}
	return int(port), nil
}
