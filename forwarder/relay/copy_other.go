//go:build !linux

package relay

// bulk is for systems whose kernel copies between sockets.
func (f *flow) bulk() outcome {
	f.unbulky = true
	return more
}
