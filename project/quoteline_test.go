package project

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

const configWithSecrets = `version = "1" # hunter2
[services.db]
technology = "command"
local_port = 5432
command = ["run", "{port}", "--auth", "hunter2", "$UNSET"]
password = "hunter2"
health_check = { token = "hunter2", sasl = 'hunter2', type = "none" }
description = """
hunter2
hunter2 \" ""hunter2"""
tags = ['''
hunter2''', "hunter2",
  "hunter2" # hunter2
]
[env]
PGPASSWORD = "hunter2"
ANY = 'hunter2' # "hunter2
URL = "postgres://app:hunter2@${db.addr}/"
`

// Whatever typo makes the file invalid, the contents of its strings are not quoted.
func TestParse_QuotesNoSecretOfAnInvalidFile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := configWithSecrets
		for range rapid.IntRange(1, 2).Draw(t, "typos") {
			at := rapid.IntRange(0, len(text)-1).Draw(t, "at")
			typo := rapid.SampledFrom([]string{"", "\"", "'", "=", "\n", "#", "[", "]", "{", "}", ",", "x", "\\", "$", " ", "\"\"\""}).Draw(t, "typo")
			end := at + rapid.IntRange(0, 1).Draw(t, "deleted")
			if strings.Contains(text[max(0, at-7):min(len(text), end+7)], "hunter2") && typo != "" && typo != "\"" && typo != "'" && at > 0 && strings.Contains("hunter2", text[at-1:at]) {
				continue // the typo would split the word that this test looks for
			}
			text = text[:at] + typo + text[end:]
		}
		files := &Files{Root: "/root", Path: "/root/" + ConfigName, Config: []byte(text)}
		if _, err := Parse(files, Options{Technologies: BuiltIn}); err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Fatalf("%s\n\n%v", text, err)
		}
	})
}
