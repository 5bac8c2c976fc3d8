package client

import (
	"path/filepath"

	"github.com/localport-sh/localport/lockstate"
	"github.com/localport-sh/localport/project"
)

// ReadUser reads the user's config. With an error it returns the defaults.
func ReadUser() (project.UserConfig, error) {
	home, err := lockstate.ConfigHome()
	if err != nil {
		return project.DefaultUserConfig(), err
	}
	return project.ReadUserConfig(filepath.Join(home, project.UserConfigName))
}
