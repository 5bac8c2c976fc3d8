package project

import (
	"encoding/json"
	"maps"
	"os"
	"slices"
	"testing"
)

// BuiltInChecks are the types of health check that localport comes with.
var BuiltInChecks []CheckType

func builtInOptions() Options { return Options{Technologies: BuiltIn, Checks: BuiltInChecks} }

// schema is a JSON Schema or a part of one.
type schema map[string]any

// After a change of a key: go test ./project -run JSONSchema -update
func TestJSONSchema_IsGeneratedFromTheKeys(t *testing.T) {
	g := schemaGenerator{t: t, options: builtInOptions()}
	text, err := json.MarshalIndent(g.document(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	for path := range descriptions {
		if !g.described[path] {
			t.Errorf("%s is described and no key", path)
		}
	}
	if *update {
		if err := os.WriteFile("schema.json", text, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(text) != JSONSchema {
		t.Errorf("schema.json is not what the keys give; see it with: go test ./project -run JSONSchema -update")
	}
}

// schemaGenerator turns the tables of keys into a schema.
type schemaGenerator struct {
	t         *testing.T
	options   Options
	described map[string]bool
}

// describe returns the schema of a key with its description. path is as in descriptions.
func (g *schemaGenerator) describe(path string, s schema) schema {
	text, ok := descriptions[path]
	if !ok {
		g.t.Errorf("the key %s has no description", path)
	}
	if g.described == nil {
		g.described = make(map[string]bool)
	}
	g.described[path] = true
	described := schema{"description": text}
	maps.Copy(described, s)
	return described
}

// The schemas of values. A string may always hold ${…}, whose value the schema does not know.
var (
	anyText        = schema{"type": "string", "minLength": 1}
	port           = schema{"type": "integer", "minimum": 1, "maximum": 65535}
	boolean        = schema{"type": "boolean"}
	argument       = textMatching(`^[^-]`)
	word           = textMatching(`^[^-\s]\S*$`)
	textList       = schema{"type": "array", "items": anyText}
	argv           = schema{"type": "array", "minItems": 1, "items": schema{"type": "string"}}
	durationText   = textMatching(`^\+?(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+$|^[0-9]*\.?[0-9]+$`)
	positiveNumber = schema{"type": "number", "exclusiveMinimum": 0}
	duration       = schema{"anyOf": []schema{durationText, positiveNumber}}
)

// textMatching is the schema of a string that matches an expression or holds ${…}.
func textMatching(expression string) schema {
	return schema{"type": "string", "minLength": 1, "pattern": `\$\{|` + expression}
}

// wordOf is the schema of a string that is one of words.
func wordOf(words ...string) schema {
	return schema{"type": "string", "anyOf": []schema{{"enum": words}, {"pattern": `\$\{`}}}
}

func withDefault(s schema, value any) schema {
	if value == nil {
		return s
	}
	result := schema{"default": value}
	maps.Copy(result, s)
	return result
}

func atLeast(minimum int) schema {
	return schema{"type": "integer", "minimum": minimum, "maximum": 1<<31 - 1}
}

// document is the whole schema.
func (g *schemaGenerator) document() schema {
	service, defaults := g.service(false), g.service(true)
	named := func(s schema) schema {
		return schema{"properties": schema{"services": schema{"additionalProperties": s}}}
	}
	lacksDefault := func(key string) schema {
		return schema{"properties": schema{"defaults": schema{"not": schema{"required": []string{key}}}}}
	}
	return schema{
		"$schema": "http://json-schema.org/draft-07/schema#", "$id": SchemaURL,
		"title": ".localport.toml", "description": "LocalPort: the port forwards of a project.",
		"type": "object", "additionalProperties": false,
		"properties": schema{
			"version":      g.describe("version", withDefault(schema{"type": "string", "enum": []string{"1", "1.0"}}, "1")),
			"linger":       g.describe("linger", withDefault(schema{"anyOf": []schema{{"type": "string", "enum": []string{lingerConnections}}, durationText, positiveNumber}}, "10s")),
			"metrics_port": g.describe("metrics_port", port),
			"defaults":     g.describe("defaults", defaults),
			"services": g.describe("services", schema{
				"type": "object", "propertyNames": schema{"pattern": serviceNamePattern().String(), "maxLength": maxServiceName, "not": schema{"enum": []string{reservedServiceName}}},
				"additionalProperties": service,
			}),
			"env": g.describe("env", schema{
				"type": "object", "propertyNames": schema{"pattern": variableNamePattern().String(), "not": schema{"enum": reservedNames()}},
				"additionalProperties": schema{"type": "string"},
			}),
		},
		"allOf": []schema{
			{"if": lacksDefault(technologyKey), "then": named(schema{"required": []string{technologyKey}})},
			{"if": lacksDefault(connectionKey), "then": named(schema{"allOf": g.requiredConnections()})},
		},
	}
}

// reservedNames are the variables that [env] cannot set.
func reservedNames() []string {
	var names []string
	for _, list := range unsettableVariables {
		names = append(names, list...)
	}
	slices.Sort(names)
	return names
}

// service is the schema of a service, or of [defaults].
func (g *schemaGenerator) service(isDefaults bool) schema {
	properties := schema{}
	s := newService("")
	for _, f := range g.options.serviceFields(&s) {
		if !isDefaults || !f.perService {
			properties[f.name] = g.serviceKey(f)
		}
	}
	result := schema{"type": "object", "additionalProperties": false, "properties": properties}
	if !isDefaults {
		result["required"], result["allOf"] = []string{"local_port"}, g.technologyRules()
	}
	return result
}

// serviceKey is the schema of a key in a service's own table, as far as it does not depend on the technology.
func (g *schemaGenerator) serviceKey(f field) schema {
	switch f.name {
	case connectionKey:
		return g.describe(f.name, g.table(f.name, f.fields, nil))
	case healthCheckKey:
		common := schema{
			"type":     withDefault(wordOf(g.options.checkNames()...), CheckTCP),
			"interval": withDefault(duration, "30s"), "timeout": withDefault(duration, "5s"),
			"failure_threshold": withDefault(atLeast(1), 3), "success_threshold": withDefault(atLeast(1), 1),
		}
		table := g.table(f.name, f.fields, common)
		table["allOf"] = g.checkRules()
		return g.describe(f.name, table)
	case "restart_policy":
		return g.describe(f.name, g.table(f.name, f.fields, schema{
			"enabled": withDefault(boolean, true), "initial_delay": withDefault(duration, "250ms"), "max_delay": withDefault(duration, "15s"),
			"backoff_multiplier": withDefault(schema{"type": "number", "minimum": 1, "maximum": 1000}, 2), "max_attempts": withDefault(atLeast(0), 0),
		}))
	}
	return g.describe(f.name, g.serviceValue(f))
}

// serviceValue is the schema of a value in a service's own table.
func (g *schemaGenerator) serviceValue(f field) schema {
	values := schema{
		technologyKey: wordOf(g.options.technologyNames()...),
		"local_port":  schema{"anyOf": []schema{port, wordOf("auto")}},
		"remote_port": schema{"anyOf": []schema{port, textMatching(`^[1-9][0-9]{0,4}$|^[a-z0-9-]*[a-z][a-z0-9-]*$`)}},

		"local_address": textMatching(`^127\.|^::1$|^::ffff:127\.`), bridgeKey: withDefault(anyText, bridgeNone),
		"tags": textList, "depends_on": textList, "description": anyText,
		"enabled": withDefault(boolean, true), "optional": withDefault(boolean, false),
		"start": withDefault(wordOf(startAlways, startOnDemand), startAlways), "idle_timeout": withDefault(duration, "15m"), "connect_timeout": withDefault(duration, "30s"), maxConnectionsKey: atLeast(1),
	}
	if value, ok := values[f.name]; ok {
		return value.(schema)
	}
	for _, technology := range g.options.Technologies {
		for _, key := range technology.Keys {
			if key.Name == f.name && key.OutsideConnection {
				return keySchema(key)
			}
		}
	}
	g.t.Errorf("the type of the key %s is not known", f.name)
	return schema{}
}

// table is the schema of a table in a service: of its fields that all services have, which are in common, and those of every technology or type
// of check.
func (g *schemaGenerator) table(name string, fields []field, common schema) schema {
	properties := schema{}
	for _, f := range fields {
		if f.types == nil {
			value, ok := common[f.name].(schema)
			if !ok {
				g.t.Errorf("the type of the key %s.%s is not known", name, f.name)
			}
			properties[f.name] = g.describe(name+"."+f.name, value)
			continue
		}
		properties[f.name] = g.describe(name+"."+f.name, g.anyTypeOf(name, f.name))
	}
	return schema{"type": "object", "additionalProperties": false, "properties": properties}
}

// anyTypeOf is the schema of a key that technologies or types of check may define differently.
func (g *schemaGenerator) anyTypeOf(table, name string) schema {
	var keys []Key
	for _, technology := range g.options.Technologies {
		keys = append(keys, technology.Keys...)
	}
	if table == healthCheckKey {
		keys = nil
		for _, check := range g.options.Checks {
			keys = append(keys, check.Keys...)
		}
	}
	var alternatives []schema
	var texts []string
	for _, key := range keys {
		s := keySchema(key)
		if text, _ := json.Marshal(s); key.Name == name && !slices.Contains(texts, string(text)) {
			alternatives, texts = append(alternatives, s), append(texts, string(text))
		}
	}
	if len(alternatives) == 1 {
		return alternatives[0]
	}
	return schema{"anyOf": alternatives}
}

// keySchema is the schema of a technology's or a check's key.
func keySchema(key Key) schema {
	s := map[KeyType]schema{
		TypeText: anyText, TypeNumber: atLeast(0), TypeBool: boolean, TypeTextList: argv, TypeFile: anyText, TypePort: port, TypeRegexp: anyText,
		TypeArgument: argument, TypeWord: word,
		TypeNumberList: {"anyOf": []schema{atLeast(0), {"type": "array", "items": atLeast(0)}}},
		TypeTable:      {"type": "object", "additionalProperties": schema{"type": "string"}},
	}[key.Type]
	if key.Type == TypeTable && key.ReadEntry != nil {
		s = schema{"type": "object", "additionalProperties": schema{"type": []string{"string", "integer", "boolean"}}}
	}
	if key.Values != nil {
		s = wordOf(key.Values...)
	}
	return withDefault(s, key.Default)
}

// isType is the condition that a table gives a type.
func isType(key, name string) schema {
	return schema{"properties": schema{key: schema{"const": name}}, "required": []string{key}}
}

// technologyRules say which keys the services of a technology have.
func (g *schemaGenerator) technologyRules() (rules []schema) {
	for _, technology := range g.options.Technologies {
		var inside, outside, required []string
		for _, key := range technology.Keys {
			switch {
			case !key.OutsideConnection:
				inside = append(inside, key.Name)
				continue
			case key.Required:
				required = append(required, key.Name)
			}
			outside = append(outside, key.Name)
		}
		if technology.HasRemotePort && technology.RemotePortAlternative == "" {
			required = append(required, "remote_port")
		}
		properties := schema{}
		for _, name := range g.foreignKeys(outside, technology.HasRemotePort) {
			properties[name] = false
		}
		properties[connectionKey] = schema{"propertyNames": schema{"enum": inside}}
		if len(inside) == 0 {
			properties[connectionKey] = schema{"maxProperties": 0}
		}
		if technology.HasRemotePort && !technology.SupportsPortNames {
			properties["remote_port"] = schema{"anyOf": []schema{port, textMatching(`^[1-9][0-9]{0,4}$`)}}
		}
		then := schema{"properties": properties}
		if required != nil {
			then["required"] = required
		}
		rules = append(rules, schema{"if": isType(technologyKey, technology.Name), "then": then})
	}
	return rules
}

// foreignKeys are the keys of a service's own table that only other technologies have.
func (g *schemaGenerator) foreignKeys(own []string, hasRemotePort bool) (names []string) {
	if !hasRemotePort {
		names = append(names, "remote_port")
	}
	for _, technology := range g.options.Technologies {
		for _, key := range technology.Keys {
			if key.OutsideConnection && !slices.Contains(own, key.Name) {
				names = append(names, key.Name)
			}
		}
	}
	return names
}

// requiredConnections say which keys of connection a technology requires, unless [defaults] has a connection.
func (g *schemaGenerator) requiredConnections() (rules []schema) {
	for _, technology := range g.options.Technologies {
		var conditions []schema
		for _, key := range technology.Keys {
			if !key.Required || key.OutsideConnection {
				continue
			}
			condition := schema{"required": []string{key.Name}}
			if key.Alternative != "" {
				condition = schema{"anyOf": []schema{condition, {"required": []string{key.Alternative}}}}
			}
			conditions = append(conditions, condition)
		}
		if conditions == nil {
			continue
		}
		then := schema{"required": []string{connectionKey}, "properties": schema{connectionKey: schema{"allOf": conditions}}}
		if other := technology.RemotePortAlternative; other != "" {
			hasOther := schema{"properties": schema{connectionKey: schema{"required": []string{other}}}}
			then["anyOf"] = []schema{{"required": []string{"remote_port"}}, hasOther}
		}
		rules = append(rules, schema{"if": isType(technologyKey, technology.Name), "then": then})
	}
	return rules
}

// checkRules say which keys the health checks of a type have.
func (g *schemaGenerator) checkRules() (rules []schema) {
	var h HealthCheck
	fields := g.options.healthCheckFields(&h)
	for _, name := range g.options.checkNames() {
		then := schema{"propertyNames": schema{"enum": fieldNames(fields, name)}}
		for _, check := range g.options.Checks {
			properties := schema{}
			for _, key := range check.Keys {
				if check.Name == name {
					properties[key.Name] = keySchema(key)
				}
			}
			if len(properties) > 0 {
				then["properties"] = properties
			}
		}
		rules = append(rules, schema{"if": isType("type", name), "then": then})
	}
	return rules
}
