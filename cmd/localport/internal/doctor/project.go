package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"github.com/localport-sh/localport/forwarder/client"
	"github.com/localport-sh/localport/forwarder/process/holder"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

func formatCount(n int) string { return strconv.Itoa(n) }

func checkConfig(_ context.Context, s *Subject) []Finding {
	invalid, isInvalid := errors.AsType[*project.InvalidError](s.ConfigErr)
	switch {
	case isInvalid && len(invalid.Diagnostics) > 0:
		first := invalid.Diagnostics[0]
		text := fmt.Sprintf("%s:%d: %s", filepath.Base(first.Path), first.Line, first.Message)
		if more := len(invalid.Diagnostics) - 1; more > 0 {
			text += fmt.Sprintf(" (and %d more)", more)
		}
		return fail(text, `correct the file; "localport config validate" shows every mistake`)
	case s.ConfigErr != nil:
		return fail(s.ConfigErr.Error(), `correct what the message names, then run "localport doctor" again`)
	}
	return ok(fmt.Sprintf("%s, %s", filepath.Base(s.Project.Config), plural(len(s.Config.Services), "service", "services")))
}

func checkTrust(_ context.Context, s *Subject) []Finding {
	if s.ConfigErr != nil && s.Verdict != trust.Allowed {
		return skip("not checked: the config is invalid")
	}
	if s.Verdict == trust.Allowed {
		return ok("the current contents are allowed")
	}
	return fail("the project's files are new or changed: nothing is started from them", "localport allow")
}

func checkSupervisor(_ context.Context, s *Subject) []Finding {
	switch {
	case s.StatusErr != nil:
		return fail(s.StatusErr.Error(), "localport daemon restart")
	case s.Running == nil:
		return ok("not running: the project is not in use")
	case s.Running.Supervisor == nil:
		return skip("its version is not known")
	}
	running := s.Running.Supervisor
	text := fmt.Sprintf("running, pid %d, version %s", running.PID, running.Version)
	built := client.BuildTime(s.Exe)
	switch {
	case client.Supersedes(running.Version, s.Version):
		return warn(fmt.Sprintf("%s, which is newer than this program, %s", text, s.Version), "install the newer version here too")
	case running.Version != s.Version:
		return warn(fmt.Sprintf("%s; this program is %s", text, s.Version), "localport daemon restart")
	case !client.IsRelease(s.Version) && running.Built != nil && !built.IsZero() && !running.Built.Equal(built):
		return warn(text+", but another build than this program", "localport daemon restart")
	}
	return ok(text)
}

// checkPorts checks that nobody else has the ports of the config.
func checkPorts(_ context.Context, s *Subject) []Finding {
	if s.Config == nil {
		return skip("not checked: the config is invalid")
	}
	var findings []Finding
	count := 0
	for _, svc := range s.Config.Services {
		if s.isHeld(svc.Name) {
			count++
			continue
		}
		for _, addr := range svc.ListenAddresses() {
			if found := checkPort(svc.Name, addr); found != nil {
				findings = append(findings, *found)
				break
			}
		}
		count++
	}
	return orOK(findings, plural(count, "service: its port is open or free", "services: their ports are open or free"))
}

// checkPort returns a finding if another process listens on an address; nil if none does.
func checkPort(service string, addr netip.AddrPort) *Finding {
	h, isTaken := holder.Find(addr)
	if !isTaken {
		return nil
	}
	finding := &Finding{Status: Fail, Text: fmt.Sprintf("%s of %s is in use by %s", addr, service, h)}
	if owner := projectOf(h.PID); owner != "" {
		finding.Status, finding.Text = Warn, fmt.Sprintf("%s of %s is in use by the project of %s", addr, service, owner)
		finding.Fix = "give one of the two services another local_port; localport stop in the other project frees it"
		return finding
	}
	finding.Fix = `give the service another local_port, or local_port = "auto"`
	if h.PID > 0 && h.UID == os.Getuid() && h.PID != os.Getpid() {
		finding.Fix = fmt.Sprintf("kill %d", h.PID)
	}
	return finding
}

// projectOf returns the config of the project that a process is the supervisor or the keeper of; empty if it is neither.
func projectOf(pid int) string {
	dirs, _ := lockstate.ListDirs()
	for _, dir := range dirs {
		if other := dir.ReadOrZero().Supervisor; pid != 0 && other != nil && (other.PID == pid || other.Keeper == pid) {
			return dir.Config
		}
	}
	return ""
}

// isHeld reports whether the project has the ports of a service.
func (s *Subject) isHeld(service string) bool {
	if s.Running == nil {
		return s.StatusErr != nil // it cannot be told, and the supervisor probably has them
	}
	for _, svc := range s.Running.Services {
		if svc.Name == service {
			return svc.Held
		}
	}
	return false
}
