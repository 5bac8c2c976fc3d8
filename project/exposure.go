package project

import "slices"

// What is shown of the values of variables, and what is warned of:
//
//   - A value from .env is masked in every message, log, event and in status, also in --json; so is the value of any variable whose name says
//     that it is a secret.
//   - Where a service leads, targetKeys and remote_port, is no secret: a hint that masks the host is of no use. A value from .env that is used
//     there, and nowhere else or as the whole value, is masked nowhere, unless the variable's name says that it is a secret. Then it is masked in
//     the target too, and a warning says so.
//   - What becomes an argument of a process, other than where the service leads, is warned of, because every user of the machine can read it:
//     the keys of commandArgumentPattern and sshArgumentPattern. It is masked, in the target too, which shows the user.
//   - All other keys take part in no message but those about mistakes in the file: publicvalues.go says what these show.

// The keys whose values become arguments: of the user's own programs, and of ssh.
var (
	commandArgumentPattern = LazyRegexp(`^(services\..*|defaults)\.(command|login)\[\d+\]$`)
	sshArgumentPattern     = LazyRegexp(`^(services\..*|defaults)\.connection\.(user|jump|options\..+)$`)
)

// targetKeys are the keys of a connection whose values status shows in the target: where the service leads.
var targetKeys = []string{"host", "port", "remote_host", "resource_name", "selector", "namespace", "context"}

// targetPattern matches the paths of the keys that the target shows: those, remote_port, and user.
var targetPattern = LazyRegexp(`^(?:services\.(.*)|defaults)\.(?:connection\.(?:host|port|remote_host|resource_name|selector|namespace|context|user)|remote_port)$`)

// exposure is what the variables of .env and those with the names of secrets are used for.
type exposure struct {
	shown   map[string]bool     // the variables of .env that say where a service leads; false: and something else
	secrets map[string][]string // the secrets in the target of each service; "" has those in [defaults]
}

// checkExposure warns of what a value shows of a variable, and keeps what the target must mask.
func (p *parser) checkExposure(n *node, t template) {
	path := n.path()
	target := targetPattern().FindStringSubmatch(path)
	isCommand, isSSH := commandArgumentPattern().MatchString(path), sshArgumentPattern().MatchString(path)
	for ref := range t.references() {
		value, isSet := p.scope.lookupVariable(ref.variable)
		if ref.variable == "" || !isSet {
			continue
		}
		if wasShown, isUsed := p.exposure.shown[ref.variable]; target == nil || isSSH || isUsed && !wasShown {
			p.exposure.shown[ref.variable] = false
		} else {
			p.exposure.shown[ref.variable] = true
		}
		isFromEnv, hasSecretName := p.isFromDotEnv(ref.variable), isSecretName(ref.variable)
		isMasked := hasSecretName || isSSH && isFromEnv
		switch {
		case isCommand && isFromEnv:
			p.warnArgument(n, ref.variable, "let the command read %s from its environment instead")
		case isSSH && isFromEnv:
			p.warnArgument(n, ref.variable, "set what %s holds in ~/.ssh/config instead")
		case target != nil && hasSecretName:
			p.warnings.reportValue(n, "%s has the name of a secret, so its value is masked in the target that status shows; if it is none, rename the variable", ref.variable)
		}
		if target != nil && isMasked {
			p.exposure.secrets[target[1]] = append(p.exposure.secrets[target[1]], value)
		}
	}
}

// warnArgument warns of a secret that would become an argument of a process.
func (p *parser) warnArgument(n *node, variable, advice string) {
	p.warnings.reportValue(n, "%s comes from %s, and other users can read the arguments of a process; "+advice, variable, EnvName, variable)
}

// isFromDotEnv reports whether the value of a variable is that in .env.
func (p *parser) isFromDotEnv(name string) bool {
	_, isInFile := p.dotEnv.values[name]
	_, isSet := p.options.Getenv(name)
	return isInFile && !isSet
}

// targetSecrets returns the secrets in the target of a service.
func (p *parser) targetSecrets(service string) []string {
	secrets := slices.Concat(p.exposure.secrets[""], p.exposure.secrets[service])
	slices.Sort(secrets)
	return slices.Compact(secrets)
}

// MaskTarget returns the service's target without the secrets in it.
func (s Service) MaskTarget(target string) string {
	if len(s.TargetSecrets) == 0 {
		return target
	}
	return Mask(target, s.TargetSecrets)
}
