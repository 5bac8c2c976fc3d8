package notify

import (
	"slices"
	"strings"
)

// desktopCommand returns the argv that shows a notification on the desktop; nil if the settings do not ask for it, or the
// environment names no desktop.
func (s Settings) desktopCommand(goos string, n Notification) []string {
	title, body := n.titleAndBody()
	switch {
	case !s.Desktop:
		return nil
	case goos == "darwin":
		// The texts are the script's arguments, so that they need no quoting.
		return []string{
			"osascript", "-e", "on run argv", "-e", "display notification (item 2 of argv) with title (item 1 of argv)",
			"-e", "end run", "--", title, body,
		}
	case slices.ContainsFunc(s.Env, isDesktopVariable):
		return []string{"notify-send", "--app-name=localport", "--", title, markupEscaper.Replace(body)}
	}
	return nil
}

// isDesktopVariable reports whether an entry of the environment names a desktop session.
func isDesktopVariable(entry string) bool {
	name, value, _ := strings.Cut(entry, "=")
	return value != "" && slices.Contains([]string{"DISPLAY", "WAYLAND_DISPLAY", "DBUS_SESSION_BUS_ADDRESS"}, name)
}

// markupEscaper escapes the markup that notify-send interprets in the body, but not in the title.
var markupEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")

// titleAndBody returns the text for people: "shop: db failed", and the reason.
func (n Notification) titleAndBody() (title, body string) {
	title = n.Project + ": " + strings.TrimSpace(n.Service+" "+n.Event)
	body = n.Reason
	if body == "" {
		body = strings.ReplaceAll(n.State, "_", " ")
	}
	return strings.ReplaceAll(title, "\x00", ""), strings.ReplaceAll(body, "\x00", "")
}
