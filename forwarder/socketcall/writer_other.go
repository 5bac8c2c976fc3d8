//go:build !linux

package socketcall

import "net"

// Writer writes to a connection. Its methods may not be called concurrently.
type Writer struct{ conn net.Conn }

// NewWriter returns a writer to a connection.
func NewWriter(conn net.Conn) *Writer { return &Writer{conn: conn} }

// WriteBuffers writes all bytes of buffers, which it changes. After an error some may have been written.
func (w *Writer) WriteBuffers(buffers net.Buffers) error {
	_, err := buffers.WriteTo(w.conn)
	return err
}
