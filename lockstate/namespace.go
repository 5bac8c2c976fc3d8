package lockstate

// namespaces are the ids of a process's namespaces; 0: not known, as on macOS, which has none.
type namespaces struct{ pid, net, mount, user uint64 }
