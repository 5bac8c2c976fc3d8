// Package mistakes has mistakes that people make in .localport.toml, and what "localport config validate" says about each.
package mistakes

import (
	"embed"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Mistake is a config with a mistake.
type Mistake struct {
	Name   string
	Config string
	// Files are the texts of other files: .localport.local.toml, .env, and config.toml, the user's own config.
	Files  map[string]string
	Output string // what validate prints, with the paths of the files as their names
	file   string
}

//go:embed *.txt
var files embed.FS

// Each mistake is a line "== NAME", the config, a line "== file NAME" and the text of each other file, a line "== output", and what validate prints.
const (
	header       = "== "
	fileHeader   = "== file "
	outputHeader = "== output\n"
)

// All returns the mistakes, by file.
func All() (all []Mistake) {
	names, err := files.ReadDir(".")
	if err != nil {
		panic(err) // it is embedded
	}
	for _, name := range names {
		text, _ := files.ReadFile(name.Name())
		all = append(all, parse(name.Name(), string(text))...)
	}
	return all
}

func parse(file, text string) (found []Mistake) {
	var m *Mistake
	target := new(string)
	other := "" // the file to which lines belong
	for line := range strings.Lines(text) {
		name, isHeader := strings.CutPrefix(line, header)
		fileName, isFileHeader := strings.CutPrefix(line, fileHeader)
		switch {
		case line == outputHeader:
			target, other = &m.Output, ""
		case isFileHeader:
			if other = strings.TrimSpace(fileName); m.Files == nil {
				m.Files = make(map[string]string)
			}
			m.Files[other] = ""
		case other != "":
			m.Files[other] += line
		case isHeader:
			found = append(found, Mistake{Name: strings.TrimSpace(name), file: file})
			m = &found[len(found)-1]
			target = &m.Config
		default:
			*target += line
		}
	}
	return found
}

// Rewrite replaces the files by these mistakes.
func Rewrite(all []Mistake) error {
	texts := make(map[string]string)
	for _, m := range all {
		texts[m.file] += header + m.Name + "\n" + m.Config
		for _, name := range slices.Sorted(maps.Keys(m.Files)) {
			texts[m.file] += fileHeader + name + "\n" + m.Files[name]
		}
		texts[m.file] += outputHeader + m.Output
	}
	_, source, _, _ := runtime.Caller(0)
	for file, text := range texts {
		if err := os.WriteFile(filepath.Join(filepath.Dir(source), path.Base(file)), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
