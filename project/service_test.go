package project

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestService_ListensOnBothLoopbacksOrLocalAddress(t *testing.T) {
	s := Service{LocalPort: 80}
	if got := fmt.Sprintf("%v %s %s", s.Addresses(), s.Host(), s.Addr()); got != "[127.0.0.1:80 [::1]:80] 127.0.0.1 127.0.0.1:80" {
		t.Error(got)
	}
	s.LocalAddress = netip.IPv6Loopback()
	if got := fmt.Sprintf("%v %s %s", s.Addresses(), s.Host(), s.Addr()); got != "[[::1]:80] ::1 [::1]:80" {
		t.Error(got)
	}
}

func TestEnvPrefix_IsTheUppercaseServiceName(t *testing.T) {
	for name, want := range map[string]string{"db": "DB", "my-db": "MY_DB", "_X9": "_X9"} {
		if got := EnvPrefix(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestProject_FindsServiceByName(t *testing.T) {
	p := Project{Services: []Service{{Name: "a"}, {Name: "b", LocalPort: 2}}}
	if s, ok := p.FindService("b"); !ok || s.LocalPort != 2 {
		t.Errorf("%+v", s)
	}
	if _, ok := p.FindService("c"); ok {
		t.Error("found what is not there")
	}
}

func TestParseDuration_AcceptsTextAndSeconds(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"30s": 30 * time.Second, "1m30s": 90 * time.Second, "30": 30 * time.Second, "0.5": 500 * time.Millisecond, "1ns": 1,
	} {
		if got, err := ParseDuration(text); got != want || err != nil {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "0", "0s", "-1s", "-1", "x", "30 s", "NaN", "inf", "1e300", "9999999h", "1e-10"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q is %v", text, got)
		}
	}
}
