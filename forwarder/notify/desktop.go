package notify

import (
	"slices"
	"strings"
)

// desktopCommand is the argv that shows a notice on the desktop; none where there is no desktop to be seen.
func (s Settings) desktopCommand(goos string, n Notification) []string {
	title, body := n.titleAndBody()
	switch {
	case !s.Desktop:
		return nil
	case goos == "darwin":
		// The texts are arguments of the script and no part of it: there is nothing to quote.
		return []string{
			"osascript", "-e", "on run argv", "-e", "display notification (item 2 of argv) with title (item 1 of argv)",
			"-e", "end run", "--", title, body,
		}
	case slices.ContainsFunc(s.Env, isDesktopVariable):
		return []string{"notify-send", "--app-name=localport", "--", title, markupEscaper.Replace(body)}
	}
	return nil
}

// isDesktopVariable reports whether an entry of the environment says where a desktop is.
func isDesktopVariable(entry string) bool {
	name, value, _ := strings.Cut(entry, "=")
	return value != "" && slices.Contains([]string{"DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"}, name)
}

// markupEscaper is for the body, which may have markup; the title has none.
var markupEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// titleAndBody are the notice for people: "shop: db failed", and why.
func (n Notification) titleAndBody() (title, body string) {
	title = n.Project + ": " + strings.TrimSpace(n.Service+" "+n.Event)
	body = n.Reason
	if body == "" {
		body = strings.ReplaceAll(n.State, "_", " ")
	}
	return strings.ReplaceAll(title, "\x00", ""), strings.ReplaceAll(body, "\x00", "")
}
