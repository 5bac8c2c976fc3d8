package ports

import (
	"net"
	"strconv"
	"testing"
)

func TestReserve_GivesNoPortTwiceUntilReleased(t *testing.T) {
	reserved := map[int]bool{}
	for range 500 {
		number := FreePort(t)
		if reserved[number] {
			t.Fatalf("%d was returned twice", number)
		}
		reserved[number] = true
		l, err := net.Listen("tcp", address("127.0.0.1", number))
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
}

func TestIsFree_IsFalseForPortInUse(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1", "0.0.0.0"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		_, port, _ := net.SplitHostPort(l.Addr().String())
		number, _ := strconv.Atoi(port)
		if isFree("127.0.0.1", number) && isFree("::1", number) {
			t.Errorf("%s is in use, and isFree is true for both addresses", l.Addr())
		}
	}
}
