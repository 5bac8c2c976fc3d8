package builtin

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/localport-sh/localport/probe"
	"github.com/localport-sh/localport/project"
)

// caFileKey names the file of the authorities that a check trusts.
const caFileKey = "ca_file"

// newCheck returns a check of a type. One with a file of authorities reads it again after a failure if the file has changed, as when a certificate
// was renewed by another authority. A file inside the project's root is not followed: a change of it needs an approval, after which the config is
// loaded again.
func newCheck(kind probe.Type, s project.Settings) (probe.Check, error) {
	file := s.Text(caFileKey)
	seen := stampOf(file) // before it is read
	check, err := kind.New(s)
	if err != nil || file == "" {
		return check, err
	}
	return func(ctx context.Context, dialer probe.Dialer) error {
		err := check(ctx, dialer)
		if !errors.As(err, new(*probe.Failure)) {
			return err
		}
		now := stampOf(file)
		if now == seen || isCovered(dialer, file) {
			return err
		}
		next, readErr := kind.New(s)
		if readErr != nil {
			return &probe.Failure{Reason: readErr.Error(), Hint: "restore the file: " + file}
		}
		check, seen = next, now
		return check(ctx, dialer)
	}, nil
}

// isCovered reports whether a file is covered by the approval of the project whose service a dialer connects to.
func isCovered(dialer probe.Dialer, file string) bool {
	root, ok := dialer.(probe.ProcessContext)
	return ok && project.IsCovered(root.Dir(), file)
}

// stamp distinguishes the versions of a file. The zero value: it cannot be read.
type stamp struct {
	modTime time.Time
	size    int64
}

func stampOf(file string) stamp {
	info, err := os.Stat(file)
	if err != nil {
		return stamp{}
	}
	return stamp{info.ModTime(), info.Size()}
}
