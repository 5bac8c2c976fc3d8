// Package ephemeral makes projects that exist only as long as the process that made them. Their files are in a run directory, which that process
// keeps locked: whoever finds the lock free removes them.
package ephemeral

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/localport-sh/localport/forwarder/process"
	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
	"github.com/localport-sh/localport/project/trust"
)

// namePrefix begins the names of the directories of such projects in the runtime directory.
const namePrefix = "forward-"

// Project is the project that this process has made.
type Project struct {
	Config string // path of the config file, without symbolic links
	dir    lockstate.RunDir
}

// Create makes a project of the texts of its config and of its .env, and allows it. What earlier processes left, because they and their
// supervisors were killed, is removed. The caller removes the project.
func Create(config, dotEnv string) (*Project, error) {
	removeAbandoned()
	dir, err := lockstate.CreateRunDir(namePrefix + strings.ToLower(rand.Text()[:8]))
	if err != nil {
		return nil, err
	}
	p := &Project{dir: dir}
	err = useOwnState(dir.Path)
	if err == nil {
		err = p.write(config, dotEnv)
	}
	if err != nil {
		return nil, errors.Join(err, p.Remove(context.Background()))
	}
	return p, nil
}

// useOwnState has the state and the approval stored in the project's directory if the user's home directory cannot be written, as in many
// containers. Otherwise the environment stays as it is: the programs of services find their own files by these variables.
func useOwnState(root string) error {
	for variable, home := range map[string]func() (string, error){"XDG_STATE_HOME": lockstate.StateHome, "XDG_DATA_HOME": lockstate.DataHome} {
		if dir, err := home(); err == nil && isWritable(dir) {
			continue
		}
		if err := os.Setenv(variable, filepath.Join(root, strings.ToLower(variable))); err != nil {
			return err
		}
	}
	return nil
}

// isWritable reports whether files can be made in a directory, which is made if it does not exist.
func isWritable(dir string) bool {
	if os.MkdirAll(dir, 0o700) != nil {
		return false
	}
	file, err := os.CreateTemp(dir, ".writable-")
	if err != nil {
		return false
	}
	file.Close()
	return os.Remove(file.Name()) == nil
}

func (p *Project) write(config, dotEnv string) error {
	root, err := filepath.EvalSymlinks(p.dir.Path)
	if err != nil {
		return err
	}
	p.Config = filepath.Join(root, project.ConfigName)
	if err := os.WriteFile(p.Config, []byte(config), 0o600); err != nil {
		return err
	}
	if dotEnv != "" {
		if err := os.WriteFile(filepath.Join(root, project.EnvName), []byte(dotEnv), 0o600); err != nil {
			return err
		}
	}
	files, err := project.ReadFiles(p.Config)
	if err != nil {
		return err
	}
	store, err := trustStore()
	if err != nil {
		return err
	}
	return store.Allow(files)
}

func trustStore() (trust.Store, error) {
	data, err := lockstate.DataHome()
	return trust.Store{Dir: filepath.Join(data, "trust")}, err
}

// Remove removes the project and all that is stored about it. Its supervisor must have ended.
func (p *Project) Remove(ctx context.Context) error {
	err := p.dir.Remove()
	if p.Config == "" {
		return err
	}
	return errors.Join(err, lockstate.RemoveAbandonedRunDirs(killOrphans), forget(ctx, p.Config))
}

// RemoveAfterSupervisor removes what is left of the project of a config if that is ephemeral, the process that made it has ended, and no
// supervisor of it runs: its last supervisor calls it at its end.
func RemoveAfterSupervisor(ctx context.Context, config string) error {
	if !IsEphemeral(config) {
		return nil
	}
	if err := lockstate.RemoveAbandonedRunDirs(killOrphans); err != nil {
		return err
	}
	if _, err := os.Lstat(filepath.Dir(config)); err == nil {
		return nil // the process lives, and removes it
	}
	return forget(ctx, config)
}

// removeAbandoned removes what is left of all ephemeral projects whose directory is gone.
func removeAbandoned() {
	_ = lockstate.RemoveAbandonedRunDirs(killOrphans) // the next one tries again
	dirs, _ := lockstate.ListDirs()
	for _, dir := range dirs {
		if _, err := os.Lstat(filepath.Dir(dir.Config)); IsEphemeral(dir.Config) && err != nil {
			_ = forget(context.Background(), dir.Config)
		}
	}
}

// killOrphans kills what a killed supervisor has left.
func killOrphans(run string) { _, _ = process.KillOrphans(run) }

// IsEphemeral reports whether a config file is one that Create has made.
func IsEphemeral(config string) bool {
	root := filepath.Dir(config)
	parent := filepath.Base(filepath.Dir(root))
	return strings.HasPrefix(filepath.Base(root), namePrefix) && (parent == "localport" || parent == fmt.Sprintf("localport-%d", os.Getuid()))
}

// forget removes the state and the approval of a project, unless a supervisor of it runs.
func forget(ctx context.Context, config string) error {
	if home, err := lockstate.StateHome(); err == nil && strings.HasPrefix(home, filepath.Dir(config)+"/") {
		return nil // they were in the project's directory
	}
	dir, err := lockstate.Open(config)
	if err != nil {
		return err
	}
	isRunning := false
	if _, err := dir.Update(ctx, func(tx *lockstate.Tx) error {
		isRunning = tx.IsSupervisorRunning()
		return nil
	}); err != nil || isRunning {
		return err
	}
	store, err := trustStore()
	if err != nil {
		return err
	}
	errs := []error{os.RemoveAll(dir.Path), store.Forget(config)}
	for _, socket := range dir.Sockets() { // a killed supervisor leaves it
		if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
