package project

import _ "embed"

// JSONSchema is the JSON Schema (draft-07) of .localport.toml, for editors. A test generates it from the keys that Parse reads.
//
//go:embed schema.json
var JSONSchema string

// SchemaURL is where JSONSchema is published, for the first line of a config: "#:schema URL".
const SchemaURL = "https://raw.githubusercontent.com/localport-sh/localport/main/project/schema.json"
