// Package localportyaml converts the configs of LocalPort 1.x, the tool in Python that is published on PyPI: localport.yaml. Its
// localport/infrastructure/repositories/yaml_config_repository.py has the keys.
package localportyaml

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/localport-sh/localport/cmd/localport/internal/convert"
	"github.com/localport-sh/localport/cmd/localport/internal/convert/yamlfile"
	"github.com/localport-sh/localport/project/draft"
)

// Convert converts the text of a localport.yaml. path is the file's name in findings. Passwords are not taken over: the config refers to
// variables instead. Every key of the file is in the config or in a finding. The error is about a file that is not such a config at all.
func Convert(path string, data []byte) (convert.Result, error) {
	text, refs := replaceReferences(string(data))
	root, err := yamlfile.Parse([]byte(text))
	if format, ok := errors.AsType[*yamlfile.FormatError](err); ok {
		format.Reason, format.Advice = refs.original(format.Reason), refs.original(format.Advice)
		return convert.Result{}, convert.FileError(path, format)
	}
	if !root.Member("services").IsSequence() {
		return convert.Result{}, fmt.Errorf("%s: %w", path, ErrNoServices)
	}
	c := &converter{path: path, refs: refs, names: draft.Names{}, ports: draft.LocalPorts{Privileged: true}, contextsWithoutHealth: map[string]bool{}}
	c.convertRoot(root)
	slices.SortStableFunc(c.findings, func(a, b convert.Finding) int { return cmp.Compare(a.Line, b.Line) })
	c.config.Comment = append(c.config.Comment, "Converted from "+path+". Review it, then run: localport allow")
	return convert.Result{Config: c.config, Findings: c.findings}, nil
}

// ErrNoServices is the error about a file without a list of services.
var ErrNoServices = errors.New(`it has no list "services", so it is not a config of the Python LocalPort`)

// converter converts one file.
type converter struct {
	path     string
	refs     *references
	config   draft.Config
	findings []convert.Finding
	names    draft.Names
	ports    draft.LocalPorts

	clusterHealthOff      bool            // of all contexts
	contextsWithoutHealth map[string]bool // whose cluster_health is disabled; false: enabled
	usesSSH               bool
}

func (c *converter) convertRoot(root yamlfile.Node) {
	m := newMapping("", root)
	if version := m.take("version"); version.value.Exists() && version.value.Text() != "1" && version.value.Text() != "1.0" {
		c.report(version, "only version 1.0 is known; the rest was converted as that")
	}
	c.convertDefaults(m.take("defaults"))
	c.convertContexts(m.take("cluster_contexts"))
	services := m.take("services")
	for i, item := range services.value.Items() {
		c.convertService(field{fmt.Sprintf("services[%d]", i), item.Line(), item})
	}
	c.reportUnknown(m)
}

// convertDefaults converts the defaults of all services.
func (c *converter) convertDefaults(f field) {
	m := c.mapping(f)
	check, policy := m.take("health_check"), m.take("restart_policy")
	if table := c.healthCheck(check, nil); len(table) > 0 {
		c.config.Defaults = append(c.config.Defaults, draft.Entry{Key: "health_check", Value: table})
	}
	if table := c.restartPolicy(policy); len(table) > 0 {
		c.config.Defaults = append(c.config.Defaults, draft.Entry{Key: "restart_policy", Value: table})
	}
	c.clusterHealthOff = !c.clusterHealth(m.take("cluster_health"))
	c.reportUnknown(m)
}

// convertContexts converts what is set for single contexts of the kubeconfig.
func (c *converter) convertContexts(f field) {
	for _, entry := range f.value.Entries() {
		m := c.mapping(field{f.path + "." + entry.Key, entry.Line, entry.Value})
		c.contextsWithoutHealth[c.refs.original(entry.Key)] = !c.clusterHealth(m.take("cluster_health"))
		c.reportUnknown(m)
	}
}

// clusterHealth reports whether the cluster's health is to be shown. The details of how the Python tool looked at it have no counterpart.
func (c *converter) clusterHealth(f field) (isEnabled bool) {
	m := c.mapping(f)
	isEnabled = true
	if enabled := m.take("enabled"); enabled.value.Exists() {
		isEnabled = c.isTrue(enabled)
	}
	const advice = "left out: LocalPort watches the cluster itself, there is nothing to set"
	for _, key := range []string{"interval", "timeout", "retry_attempts", "failure_threshold"} {
		if f := m.take(key); f.value.Exists() {
			c.report(f, advice)
		}
	}
	commands := m.take("commands")
	for _, entry := range commands.value.Entries() {
		c.report(field{commands.path + "." + entry.Key, entry.Line, entry.Value}, "left out: LocalPort runs no such commands; cluster_health = false in connection turns off what it shows")
	}
	c.reportUnknown(m)
	return isEnabled
}

func (c *converter) restartPolicy(f field) (table draft.Table) {
	m := c.mapping(f)
	if enabled := m.take("enabled"); enabled.value.Exists() {
		table = append(table, draft.Entry{Key: "enabled", Value: c.isTrue(enabled)})
	}
	table.Set("initial_delay", c.seconds(m.take("initial_delay")))
	if multiplier := m.take("backoff_multiplier"); multiplier.value.Exists() {
		if number, ok := c.number(multiplier, 1, 1000); ok {
			table.Set("backoff_multiplier", number)
		}
	}
	table.Set("max_delay", c.seconds(m.take("max_delay")))
	table.Set("max_attempts", c.integer(m.take("max_attempts"), 0, 1_000_000))
	c.reportUnknown(m)
	return table
}
