package handoff

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newLinkEnds returns the two ends of a connection.
func newLinkEnds(t *testing.T) (*net.UnixConn, *net.UnixConn) {
	t.Helper()
	ours, file, err := newSocketPair()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := newUnixConn(file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

func TestFrame_DescriptorsArriveWithTheirOwnMessage(t *testing.T) {
	ours, theirs := newLinkEnds(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	large := Successor{Args: []string{"supervise", "/caf\xe9"}, Env: []string{strings.Repeat("x", 1<<20), "A=\xff"}}
	sent := make(chan error, 1)
	go func() {
		defer writer.Close()
		sent <- errors.Join(
			writeFrame(ours, frame{Verb: verbSuccessor, Successor: &large}),
			writeFrame(ours, frame{Verb: verbHold, Name: "service db", fds: []int{int(writer.Fd()), int(writer.Fd())}}),
			writeFrame(ours, frame{Verb: verbDrop, Name: "service db"}),
		)
	}()
	for i, want := range []struct {
		verb  verb
		files int
	}{{verbSuccessor, 0}, {verbHold, 2}, {verbDrop, 0}} {
		f, err := readFrame(theirs)
		if err != nil || f.Verb != want.verb || len(f.fds) != want.files {
			t.Fatalf("message %d: %q with %d files, %v", i, f.Verb, len(f.fds), err)
		}
		if f.Verb == verbSuccessor && (!slices.Equal(f.Successor.Env, large.Env) || !slices.Equal(f.Successor.Args, large.Args)) {
			t.Error("the successor was changed in transit")
		}
		for _, fd := range f.fds {
			if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Error("a child would inherit it")
			}
			if _, err := unix.Write(fd, []byte("x")); err != nil {
				t.Errorf("write to the other end's pipe: %v", err)
			}
		}
		closeDescriptors(f.fds)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(reader); err != nil || string(data) != "xx" {
		t.Errorf("the pipe held %q, %v", data, err)
	}
	ours.Close()
	if _, err := readFrame(theirs); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
}

func FuzzReadBody(f *testing.F) {
	f.Add([]byte(`{"seq":1,"verb":"hold","name":"x"}`))
	f.Add([]byte(`{"note":{"memory":{}}}`))
	f.Add([]byte("\x00\x01"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = readBody(bytes.NewReader(data), uint32(len(data)))
		if _, err := readBody(bytes.NewReader(data), uint32(len(data))+1); err == nil {
			t.Error("a truncated message was accepted")
		}
	})
}

func TestReadFrame_RejectsExcessiveLength(t *testing.T) {
	ours, theirs := newLinkEnds(t)
	if _, err := ours.Write(binary.BigEndian.AppendUint32(nil, maxMessageSize+1)); err != nil {
		t.Fatal(err)
	}
	if _, err := readFrame(theirs); err == nil {
		t.Error("it was read")
	}
}
