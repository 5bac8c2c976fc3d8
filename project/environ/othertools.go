package environ

import (
	"compress/zlib"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/tinylib/msgp/msgp"
)

// toolVariables are the variables in which other tools with a prompt hook keep what they have changed, and how they are encoded.
var toolVariables = map[string]func(data []byte) (toolDiff, error){
	"DIRENV_DIFF": decodeDirenvDiff,
	"__MISE_DIFF": decodeMiseDiff,
}

// SessionVariables change when such a tool sets its variables again; those in toolVariables need not.
var SessionVariables = []string{"__MISE_SESSION"}

// maxToolDiff bounds what is read of such a variable, which is compressed.
const maxToolDiff = 4 << 20

// toolDiff is what another tool has changed: the values before and after. A name that is missing there was not set.
type toolDiff struct {
	before, after map[string]string
	path          []string // the entries that it has added to PATH, if it does not keep the values
}

// readToolDiffs returns the changes of the tools that are active in env. One that cannot be decoded is ignored: the tool may have changed its
// format.
func readToolDiffs(env Env) (diffs []toolDiff) {
	for _, name := range slices.Sorted(maps.Keys(toolVariables)) {
		if env[name] == "" {
			continue
		}
		if data, err := decompress(env[name]); err == nil {
			if diff, err := toolVariables[name](data); err == nil {
				diffs = append(diffs, diff)
			}
		}
	}
	return diffs
}

// findToolDiff returns the diff of the tool that has set name.
func findToolDiff(diffs []toolDiff, name string) (diff toolDiff, isFound bool) {
	for _, diff := range diffs {
		if _, isSet := diff.after[name]; isSet {
			return diff, true
		}
	}
	return toolDiff{}, false
}

// isToolsList reports whether a tool has set a list to this value, so that its entries are where it has put them.
func isToolsList(diffs []toolDiff, name, value string) bool {
	return slices.ContainsFunc(diffs, func(diff toolDiff) bool {
		after, isSet := diff.after[name]
		return isSet && after == value || name == "PATH" && slices.Contains(diff.path, splitList(value)[0])
	})
}

// decompress decodes base64, with or without padding and in either alphabet, and zlib.
func decompress(text string) ([]byte, error) {
	text = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(text, "="))
	r, err := zlib.NewReader(base64.NewDecoder(base64.RawStdEncoding, strings.NewReader(text)))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.LimitReader(r, maxToolDiff))
}

// decodeDirenvDiff reads direnv's EnvDiff, {"p": {NAME: VALUE}, "n": {…}}: internal/cmd/env_diff.go and gzenv.
func decodeDirenvDiff(data []byte) (toolDiff, error) {
	var diff struct {
		Before map[string]string `json:"p"`
		After  map[string]string `json:"n"`
	}
	err := json.Unmarshal(data, &diff)
	return toolDiff{before: diff.Before, after: diff.After}, err
}

// decodeMiseDiff reads mise's EnvDiff, MessagePack of {"old": {NAME: VALUE}, "new": {…}, "path": […]}: src/env_diff.rs.
func decodeMiseDiff(data []byte) (toolDiff, error) {
	fields, _, err := msgp.ReadMapStrIntfBytes(data, nil)
	if err != nil {
		return toolDiff{}, err
	}
	before, beforeErr := textMap(fields["old"])
	after, afterErr := textMap(fields["new"])
	if beforeErr != nil {
		return toolDiff{}, beforeErr
	}
	diff := toolDiff{before: before, after: after}
	path, _ := fields["path"].([]any)
	for _, entry := range path {
		if text, ok := entry.(string); ok {
			diff.path = append(diff.path, text)
		}
	}
	return diff, afterErr
}

func textMap(value any) (map[string]string, error) {
	entries, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("want a map, got %T", value)
	}
	texts := make(map[string]string, len(entries))
	for name, value := range entries {
		text, ok := value.(string)
		if !ok {
			return nil, fmt.Errorf("want a string, got %T", value)
		}
		texts[name] = text
	}
	return texts, nil
}
