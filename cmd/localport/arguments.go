package main

import (
	"fmt"
	"reflect"

	"github.com/alecthomas/kong"
)

// keepArgumentBytes makes kong keep every byte of arguments: paths need not be UTF-8. Its own mappers pass strings through JSON, which
// replaces other bytes.
func keepArgumentBytes() []kong.Option {
	keep := func(want string, convert func(string) string) kong.MapperFunc {
		return func(ctx *kong.DecodeContext, target reflect.Value) error {
			token, err := ctx.Scan.PopValue(want)
			if err != nil {
				return err
			}
			target.SetString(convert(fmt.Sprint(token.Value)))
			return nil
		}
	}
	return []kong.Option{
		kong.KindMapper(reflect.String, keep("string", func(text string) string { return text })),
		kong.NamedMapper("path", keep("file", kong.ExpandPath)),
	}
}
