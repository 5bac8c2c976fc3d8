// Command echo is what runs in a test cluster's pods. It listens as its flags say. As `echo ready ADDR` it is their
// readiness probe, and as `echo pause` it does nothing.
package main

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM, syscall.SIGINT)
	command := ""
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	switch command {
	case "pause":
		<-end
	case "ready":
		check(ready(os.Args[2:]))
	default:
		serve(end)
	}
}

// ready reports whether somebody listens at an address, or whether a file is there.
func ready(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("ready takes an address or the path of a file, not %q", args)
	}
	if strings.HasPrefix(args[0], "/") {
		_, err := os.Stat(place(args[0]))
		return err
	}
	conn, err := dial(args[0])
	if err != nil {
		return err
	}
	return conn.Close()
}

func serve(end <-chan os.Signal) {
	var greets, echoes, webs addresses
	flag.Var(&greets, "greet", "say \"hello HOSTNAME\" at once to whoever connects to this `address`, then echo; may be repeated")
	flag.Var(&echoes, "echo", "echo what comes to this `address`, and end when it ends; may be repeated")
	flag.Var(&webs, "http", "speak HTTP at this `address`: see web; may be repeated")
	late := flag.Duration("late", 0, "listen only after so long")
	readyFile := flag.String("ready-file", "", "make this file when everything listens")
	exitAfter := flag.Duration("exit-after", 0, "crash after so long")
	stubborn := flag.Bool("stubborn", false, "do not end when asked to")
	flag.Parse()

	var crash <-chan time.Time
	if *exitAfter > 0 {
		crash = time.After(*exitAfter)
	}
	listening := time.After(*late)
	for {
		select {
		case <-listening:
			host := os.Getenv("HOSTNAME") // which every container has, the pod's name
			for _, address := range greets {
				accept(address, func(conn net.Conn) {
					fmt.Fprintf(conn, "hello %s\n", host)
					_, _ = io.Copy(conn, conn)
				})
			}
			for _, address := range echoes {
				accept(address, func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
			}
			for _, address := range webs {
				go func(l net.Listener) { check(http.Serve(l, web(host))) }(listen(address))
			}
			if *readyFile != "" {
				check(os.WriteFile(place(*readyFile), nil, 0o644))
			}
		case <-crash:
			os.Exit(1)
		case <-end:
			if !*stubborn {
				return
			}
		}
	}
}

// addresses are the values of a flag that may be repeated.
type addresses []string

func (a *addresses) String() string { return strings.Join(*a, " ") }

func (a *addresses) Set(address string) error {
	*a = append(*a, address)
	return nil
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
