package lockstate

import (
	"fmt"
	"os"
	"sync"
)

// ownHostID names what this process sees of the file system: the machine and, on Linux, the mount namespace. Home directories are shared between
// machines and with containers, in which the projects of the others do not exist.
var ownHostID = sync.OnceValue(func() string {
	host, err := os.Hostname()
	if err != nil {
		return ""
	}
	return fmt.Sprintf("%s/%d", host, ownNamespaces().mount)
})
