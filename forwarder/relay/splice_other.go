//go:build !linux

package relay

// copyInKernel does nothing: splice(2) exists on Linux only.
func (c *copier) copyInKernel() outcome {
	c.cannotSplice = true
	return outcomeContinue
}
