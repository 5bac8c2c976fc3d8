package project

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Every key of every table, misspelled by one letter, is named in the message about its line.
func TestParse_NamesTheKeyThatIsMisspelled(t *testing.T) {
	options := builtInOptions()
	var s Service
	service := options.serviceFields(&s)
	isChecked := make(map[string]bool)
	count := 0
	checkMisspellings := func(header string, f field, siblings []field, kind string) {
		t.Helper()
		lines := strings.Split(strings.TrimSpace(header), "\n")
		where := lines[len(lines)-1] + f.name
		if strings.HasPrefix(lines[len(lines)-1], "technology") {
			where = f.name
		}
		if !isChecked[where] {
			isChecked[where] = true
			count += countMisspellings(t, options, header, f, fieldsOf(siblings, kind))
		}
	}
	for _, technology := range options.technologyNames() {
		for _, f := range service {
			if !f.appliesTo(technology) {
				continue
			}
			header := fmt.Sprintf("[services.a]\ntechnology = %q\n", technology)
			if f.name != technologyKey {
				checkMisspellings(header, f, service, technology)
			}
			if f.name != healthCheckKey {
				for _, inner := range f.fields {
					if inner.appliesTo(technology) {
						checkMisspellings(header+"[services.a."+f.name+"]\n", inner, f.fields, technology)
					}
				}
			}
		}
	}
	for _, check := range options.checkNames() {
		fields := options.healthCheckFields(&s.HealthCheck)
		for _, f := range fields {
			if f.appliesTo(check) && f.name != "type" {
				checkMisspellings(fmt.Sprintf("[services.a]\ntechnology = \"tcp\"\n[services.a.health_check]\ntype = %q\n", check), f, fields, check)
			}
		}
	}
	p := newParser(&Files{}, options)
	for _, f := range p.topLevelFields() {
		checkMisspellings("", f, p.topLevelFields(), "")
	}
	for _, f := range userFields(new(UserConfig)) {
		count += checkUserMisspellings(t, "", f)
		for _, inner := range f.fields {
			count += checkUserMisspellings(t, "["+f.name+"]\n", inner)
		}
	}
	if count < 2500 {
		t.Errorf("only %d misspellings", count)
	}
}

func fieldsOf(fields []field, kind string) []field {
	return slices.DeleteFunc(slices.Clone(fields), func(f field) bool { return !f.appliesTo(kind) })
}

func countMisspellings(t *testing.T, options Options, header string, f field, siblings []field) (count int) {
	t.Helper()
	var known []string
	for _, other := range siblings {
		known = append(append(known, plainName(other.name)), other.aliases...)
	}
	for _, misspelled := range misspellings(f.name) {
		isOther := func(name string) bool { return name != f.name && editDistance(plainName(misspelled), name) <= 1 }
		if slices.ContainsFunc(known, isOther) {
			continue // it may mean that one as well
		}
		_, err := Parse(&Files{Root: "/p", Path: "/p/" + ConfigName, Config: []byte(header + misspelled + " = " + neutralValue(f) + "\n")}, options)
		checkNamesKey(t, err, 1+strings.Count(header, "\n"), misspelled, f.name)
		count++
	}
	return count
}

func checkUserMisspellings(t *testing.T, header string, f field) (count int) {
	t.Helper()
	for _, misspelled := range misspellings(f.name) {
		_, err := parseUserConfig("/c", []byte(header+misspelled+" = "+neutralValue(f)+"\n"))
		checkNamesKey(t, err, 1+strings.Count(header, "\n"), misspelled, f.name)
		count++
	}
	return count
}

func checkNamesKey(t *testing.T, err error, line int, misspelled, name string) {
	t.Helper()
	invalid, ok := errors.AsType[*InvalidError](err)
	if !ok {
		t.Errorf("%s, meant as %s: %v", misspelled, name, err)
		return
	}
	for _, d := range invalid.Diagnostics {
		if d.Line == line && strings.Contains(d.Message, "unknown key") && (strings.Contains(d.Message, `"`+name+`"`) || strings.Contains(d.Message, "."+name+`"`) || strings.Contains(d.Message, "["+name+"]")) {
			return
		}
	}
	t.Errorf("line %d: %s, meant as %s: %v", line, misspelled, name, err)
}

func neutralValue(f field) string {
	if f.fields != nil || f.name == "services" || f.name == "defaults" || f.name == "env" {
		return "{}"
	}
	return "true"
}

// misspellings are a name with a letter too few, too many, another one or two exchanged.
func misspellings(name string) (found []string) {
	for i := range name {
		found = append(found, name[:i]+name[i+1:], name[:i+1]+name[i:])
		for _, letter := range "ax_" {
			found = append(found, name[:i]+string(letter)+name[i:], name[:i]+string(letter)+name[i+1:])
		}
		if i+1 < len(name) {
			found = append(found, name[:i]+name[i+1:i+2]+name[i:i+1]+name[i+2:])
		}
	}
	slices.Sort(found)
	return slices.DeleteFunc(slices.Compact(found), func(s string) bool { return len(s) < 2 || s == name })
}
