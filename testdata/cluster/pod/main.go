// Command pod is what runs in a test cluster's pods: it listens as its flags say. As "pod ready ADDR" it is their readiness
// probe, without arguments it does nothing, and as a network plugin it lets a pod be, with a loopback of its own.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	switch command := os.Getenv("CNI_COMMAND"); {
	case command != "":
		network(command)
	case len(os.Args) > 2 && os.Args[1] == "ready":
		conn, err := net.DialTimeout("tcp", os.Args[2], time.Second)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		conn.Close()
	default:
		serve()
	}
}

// network answers containerd, which wants an address for every pod; nobody connects to it.
// https://github.com/containernetworking/cni/blob/spec-v0.4.0/SPEC.md
func network(command string) {
	switch command {
	case "ADD":
		sum := sha256.Sum256([]byte(os.Getenv("CNI_CONTAINERID")))
		fmt.Printf(`{"cniVersion": "0.4.0", "interfaces": [{"name": "eth0", "sandbox": %q}], "ips": [{"version": "4", "interface": 0, "address": "10.%d.%d.%d/32"}]}`,
			os.Getenv("CNI_NETNS"), sum[0], sum[1], sum[2])
	case "VERSION":
		fmt.Println(`{"cniVersion": "0.4.0", "supportedVersions": ["0.3.1", "0.4.0"]}`)
	}
}

func serve() {
	var greet, echo, web string
	var late, lifetime time.Duration
	var stubborn bool
	flag.StringVar(&greet, "greet", "", "say \"hello HOSTNAME\" to who connects here, then echo")
	flag.StringVar(&echo, "echo", "", "echo what comes in here, and end when it ends")
	flag.StringVar(&web, "http", "", "speak HTTP here: / is the host name, /sum the SHA-256 of the body, /bytes?n=N random bytes")
	flag.DurationVar(&late, "late", 0, "begin to listen after so long")
	flag.DurationVar(&lifetime, "exit-after", 0, "exit with 1 after so long")
	flag.BoolVar(&stubborn, "stubborn", false, "pass over the request to end")
	flag.Parse()
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	<-time.After(late)
	host, _ := os.Hostname()
	listen(greet, func(conn *net.TCPConn) {
		fmt.Fprintf(conn, "hello %s\n", host)
		_, _ = io.Copy(conn, conn)
	})
	listen(echo, func(conn *net.TCPConn) { _, _ = io.Copy(conn, conn) })
	if web != "" {
		l, err := net.Listen("tcp", web)
		check(err)
		go func() { check(http.Serve(l, handler(host))) }()
	}
	var over <-chan time.Time
	if lifetime > 0 {
		over = time.After(lifetime)
	}
	for {
		select {
		case <-over:
			os.Exit(1)
		case <-end:
			if !stubborn {
				return
			}
		}
	}
}

func listen(addr string, handle func(*net.TCPConn)) {
	if addr == "" {
		return
	}
	l, err := net.Listen("tcp", addr)
	check(err)
	go func() {
		for {
			conn, err := l.Accept()
			check(err)
			go func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			}()
		}
	}()
}

func handler(host string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, host) })
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		_, _ = io.Copy(sum, r.Body)
		fmt.Fprintln(w, hex.EncodeToString(sum.Sum(nil)))
	})
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.ParseInt(r.FormValue("n"), 10, 64)
		w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
		_, _ = io.CopyN(w, rand.NewChaCha8([32]byte{}), n)
	})
	return mux
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
