package project

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// secretLinesOfConfig are lines and tables whose value, SECRET, nobody may see.
var secretLinesOfConfig = []string{
	"password = SECRET", "pasword = SECRET", "paswd = SECRET", "passphrase = SECRET", "api_token = SECRET", "tokn = SECRET", "secert = SECRET", "whatever = SECRET", "auth = SECRET", "pin = SECRET",
	"url = \"https://me:RAW@h/\"", "host = \"me:RAW@h\"", "remote_host = \"me:RAW@h:80\"", "connection = \"https://me:RAW@h\"", "resource = \"https://me:RAW@h/x\"", "path = \"/x?key=RAW\"",
	"environment = { A = SECRET, HOST = SECRET }", "env = { TYPE = SECRET }", "vars = [SECRET]", "command = [\"run\", SECRET, \"{port}\"]", "command = [\"run\", \"--auth=RAW\"]",
	"command = \"run --password=RAW {port}\"", "command = \"mysql://me:RAW@h\"", "login = [\"sso\", SECRET]", "description = \"the password is RAW\"", "ready = \"token: RAW\"",
	"connection = { host = 5, password = SECRET }", "connection = { remote_host = \"h\", pasword = SECRET, pot = 1 }", "connection = { host = \"b\", options = { ProxyCommand = SECRET, X = 5 } }",
	"health_check = { type = \"http\", headers = { Cookie = SECRET, N = 5 }, pth = 1 }", "health_check = { type = \"postgres\", password = SECRET, database = 5 }",
	"health_check = { type = \"redis\", pasword = SECRET }", "health_check = { type = \"redis\", user = 5, auth = SECRET }", "health_check = SECRET_WORD", "technolgy = \"http://RAW@h\"",
	"[services.a.conection]\npassword = SECRET\nhots = 1", "[services.a.environment]\nA = SECRET", "[env]\nA = SECRET\nB = 5", "[env]\nHOST = SECRET", "[env]\nURL = \"postgres://me:RAW@${a.addr\"",
	"[environment]\nKEY = SECRET", "[api]\ntechnology = \"tcp\"\npassword = SECRET", "[[services]]\npassword = SECRET", "[defaults]\ntoken = SECRET\nx = 1",
	"[services.b]\nSECRET_KEY = SECRET", "connection.password = SECRET", "\"pass word\" = SECRET",
}

// typosOfConfig are lines that make the file invalid: alone, or because they are no TOML.
var typosOfConfig = []string{"", "local_port = true", "port = \"x\"", "technology = \"tpc\"", "tags = 5", "local_port: 8080", "x = y", "services:", "depends_on = [\"nobody\"]", "[services.a", "// x", "= 1", "\"x\" \"y\"", "enabled = True # RAW", "version # RAW", "local_port = 1-2 # RAW", "tags = [a, b] # RAW", "local_port = 010 # RAW", "start = null # RAW"}

// Whatever is wrong with a config, no message and no quoted line has a secret.
func TestParse_ShowsNoSecretInExcerpts(t *testing.T) {
	options := builtInOptions()
	rapid.Check(t, func(t *rapid.T) {
		secret := rapid.StringMatching(`[a-z]zq[0-9A-Z]{4,9}`).Draw(t, "secret")
		quote := rapid.SampledFrom([]string{`"`, `'`, `"""`, `'''`, ``}).Draw(t, "quote")
		fill := strings.NewReplacer("SECRET_KEY", "key", "SECRET_WORD", `"password `+secret+`"`, "SECRET", quote+secret+quote, "RAW", secret)
		lines := []string{"[services.a]", rapid.SampledFrom([]string{`technology = "tcp"`, `technology = "ssh"`, `technology = "command"`, `technology = "kubectl"`, ""}).Draw(t, "technology")}
		body := rapid.SliceOfN(rapid.SampledFrom(append(slices.Clone(secretLinesOfConfig), typosOfConfig...)), 1, 6).Draw(t, "lines")
		text := fill.Replace(strings.Join(append(lines, body...), "\n"))
		separator := rapid.SampledFrom([]string{"", ": ", ":", "="}).Draw(t, "separator")
		if separator != "" { // of another language
			text = strings.ReplaceAll(text, " = ", separator)
		}
		for _, name := range []string{ConfigName, LocalName} {
			files := &Files{Root: "/p", Path: "/p/" + ConfigName, Config: []byte(text)}
			if name == LocalName {
				files.Config, files.Local = nil, []byte(text)
			}
			var shown []string
			p, err := Parse(files, options)
			if invalid, ok := errors.AsType[*InvalidError](err); ok {
				shown = append(shown, invalid.Error(), invalid.Summary())
			} else {
				for _, d := range slices.Concat(p.Advice, p.Warnings) {
					shown = append(shown, d.String())
				}
			}
			if _, err := parseUserConfig("/c", []byte(text)); err != nil {
				shown = append(shown, err.Error())
			}
			if all := strings.Join(shown, "\n"); strings.Contains(all, secret) {
				t.Fatalf("%s\n\nsays\n%s", text, all)
			}
		}
	})
}

// The keys whose values are shown in a line that is not TOML hold no secret in any table.
func TestPublicLineKeys_HoldNoSecret(t *testing.T) {
	options := builtInOptions()
	keys := make(publicKeys)
	keys.add(append(options.serviceFields(new(newService(""))), userFields(new(UserConfig))...))
	for _, name := range publicLineKeys {
		if h, ok := keys[name]; ok && h != maskNothing || isSecretName(name) {
			t.Errorf("%s: %v", name, h)
		}
	}
}
