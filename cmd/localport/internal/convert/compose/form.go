package compose

import (
	"fmt"
	"slices"
	"strings"

	"github.com/localport-sh/localport/cmd/localport/internal/convert/yamlfile"
	"github.com/localport-sh/localport/project"
)

// rootKeys are the keys of a compose file (https://docs.docker.com/reference/compose-file/). Like serviceKeys, it is no variable: few runs of the
// program need it.
func rootKeys() []string {
	return strings.Fields("version name services networks volumes configs secrets include models jobs")
}

// serviceKeys are those of its services (https://docs.docker.com/reference/compose-file/services/).
func serviceKeys() []string {
	return strings.Fields(`annotations attach blkio_config build cap_add cap_drop cgroup cgroup_parent command configs container_name cpu_count cpu_percent
	cpu_period cpu_quota cpu_rt_period cpu_rt_runtime cpu_shares cpus cpuset credential_spec depends_on deploy develop device_cgroup_rules devices dns dns_opt
	dns_search domainname driver_opts entrypoint env_file environment expose extends external_links extra_hosts gpus group_add healthcheck hostname image init ipc
	isolation label_file labels links logging mac_address mem_limit mem_reservation mem_swappiness memswap_limit models net network_mode networks oom_kill_disable
	oom_score_adj pid pids_limit platform ports post_start pre_start pre_stop privileged profiles provider pull_policy read_only restart runtime scale secrets security_opt
	shm_size stdin_open stop_grace_period stop_signal storage_opt sysctls tmpfs tty ulimits use_api_socket user userns_mode uts volumes volumes_from working_dir`)
}

// checkForm returns an error unless the file has a mapping of services.
func checkForm(root yamlfile.Node) error {
	const neither = "neither a compose file nor a localport.yaml: "
	services := root.Member("services")
	switch {
	case !root.Exists():
		return &yamlfile.FormatError{Reason: neither + "it is empty", Advice: "name another file"}
	case !root.IsMapping():
		return &yamlfile.FormatError{Line: root.Line(), Reason: neither + "it is " + root.Describe() + " instead of a mapping", Advice: `write "services:" above, and indent the rest below it`}
	case !services.IsMapping() && !slices.ContainsFunc(root.Entries(), func(e yamlfile.Entry) bool { return e.Key == "services" }):
		return noServicesError(root, neither)
	case !services.IsMapping():
		return &yamlfile.FormatError{Line: keyLine(root, "services"), Reason: neither + `its "services" is ` + services.Describe(), Advice: "write the services below it, indented: a compose file has keys there, a localport.yaml has a list"}
	}
	for _, entry := range services.Entries() {
		if entry.Value.Member("technology").Exists() || entry.Value.Member("remote_port").Exists() { // no compose file has these
			return &yamlfile.FormatError{
				Line: entry.Line, Reason: "a localport.yaml has a list of services, not keys with their names",
				Advice: fmt.Sprintf(`write "- name: %s" instead of "%s:", and so for each service`, entry.Key, entry.Key),
			}
		}
	}
	return nil
}

// noServicesError says which key may be meant to be "services".
func noServicesError(root yamlfile.Node, neither string) error {
	e := &yamlfile.FormatError{Reason: neither + `it has no "services"`, Advice: "name another file"}
	for _, entry := range root.Entries() {
		if project.NearestName(entry.Key, []string{"services"}) != "" {
			e.Line, e.Advice = entry.Line, fmt.Sprintf(`did you mean "services" instead of %q?`, entry.Key)
		}
	}
	return e
}

func keyLine(n yamlfile.Node, key string) int {
	for _, entry := range n.Entries() {
		if entry.Key == key {
			return entry.Line
		}
	}
	return 0
}

// reportUnknown reports the keys that compose does not know, and those that are there twice: it refuses both.
func (c *converter) reportUnknown(prefix string, n yamlfile.Node, known []string) {
	lines := make(map[string]int)
	for _, entry := range n.Entries() {
		if first := lines[entry.Key]; first > 0 {
			c.report(entry.Line, prefix+entry.Key, "was not read: line %d has this key already", first)
			continue
		}
		lines[entry.Key] = entry.Line
		if !slices.Contains(known, entry.Key) && !strings.HasPrefix(entry.Key, "x-") {
			c.report(entry.Line, prefix+entry.Key, "was not read: compose has no such key%s", project.SuggestNearest(entry.Key, known))
		}
	}
}

// reportKinds reports the keys that are read here and have a value of another kind.
func (c *converter) reportKinds(prefix string, n yamlfile.Node) {
	for _, want := range []struct {
		key                string
		isList, isMapping  bool
		description, write string
	}{
		{"ports", true, false, "a list", `- "8080:80"`},
		{"environment", true, true, "a list or a mapping", "NAME: value"},
		{"depends_on", true, true, "a list or a mapping", "- NAME"},
		{"profiles", true, false, "a list", "- NAME"},
		{"healthcheck", false, true, "a mapping", "test: …"},
	} {
		value := n.Member(want.key)
		isOfKind := want.isList && value.IsSequence() || want.isMapping && value.IsMapping()
		if value.Exists() && !isOfKind {
			c.report(value.Line(), prefix+want.key, "was not read: it must be %s; it is %s; write %s below it", want.description, value.Describe(), want.write)
		}
	}
}
