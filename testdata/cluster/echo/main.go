// Command echo is the program of a test cluster's pods. It listens as its flags say. `echo ready ADDR` is a readiness probe, and
// `echo pause` does nothing until it gets a signal.
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
	signalCh := make(chan os.Signal, 1)
	signal.Notify(signalCh, syscall.SIGTERM, syscall.SIGINT)
	command := ""
	if len(os.Args) > 1 {
		command = os.Args[1]
	}
	switch command {
	case "pause":
		<-signalCh
	case "ready":
		exitOnError(checkReady(os.Args[2:]))
	default:
		serve(signalCh)
	}
}

// checkReady returns nil if a server accepts connections at an address, or if a file exists.
func checkReady(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("ready takes an address or the path of a file, not %q", args)
	}
	if strings.HasPrefix(args[0], "/") {
		_, err := os.Stat(filePath(args[0]))
		return err
	}
	conn, err := dial(args[0])
	if err != nil {
		return err
	}
	return conn.Close()
}

func serve(signalCh <-chan os.Signal) {
	var greetAddrs, echoAddrs, resetAddrs, httpAddrs addressList
	flag.Var(&greetAddrs, "greet", "listen on `address`: send \"hello HOSTNAME\" to each client, then echo; may be repeated")
	flag.Var(&echoAddrs, "echo", "listen on `address`: echo what each client sends; may be repeated")
	flag.Var(&resetAddrs, "reset", "listen on `address`: send \"hello HOSTNAME\" to each client, and reset the connection when it sends something; may be repeated")
	flag.Var(&httpAddrs, "http", "listen on `address`: serve HTTP (see newWebHandler); may be repeated")
	listenDelay := flag.Duration("listen-delay", 0, "listen only after this time")
	readyFile := flag.String("ready-file", "", "create this file when everything listens")
	exitAfter := flag.Duration("exit-after", 0, "exit with code 1 after this time")
	ignoreSIGTERM := flag.Bool("ignore-sigterm", false, "do not end on SIGTERM")
	flag.Parse()

	var crashCh <-chan time.Time
	if *exitAfter > 0 {
		crashCh = time.After(*exitAfter)
	}
	listenCh := time.After(*listenDelay)
	for {
		select {
		case <-listenCh:
			host := os.Getenv("HOSTNAME") // the pod's name
			for _, address := range greetAddrs {
				serveConns(address, func(conn net.Conn) {
					fmt.Fprintf(conn, "hello %s\n", host)
					_, _ = io.Copy(conn, conn)
				})
			}
			for _, address := range echoAddrs {
				serveConns(address, func(conn net.Conn) { _, _ = io.Copy(conn, conn) })
			}
			for _, address := range resetAddrs {
				serveConns(address, func(conn net.Conn) {
					fmt.Fprintf(conn, "hello %s\n", host)
					resetOnData(conn)
				})
			}
			for _, address := range httpAddrs {
				go func(l net.Listener) { exitOnError(http.Serve(l, newWebHandler(host))) }(listen(address))
			}
			if *readyFile != "" {
				exitOnError(os.WriteFile(filePath(*readyFile), nil, 0o644))
			}
		case <-crashCh:
			os.Exit(1)
		case <-signalCh:
			if !*ignoreSIGTERM {
				return
			}
		}
	}
}

// addressList are the values of a flag that may be repeated.
type addressList []string

func (a *addressList) String() string { return strings.Join(*a, " ") }

func (a *addressList) Set(address string) error {
	*a = append(*a, address)
	return nil
}

func exitOnError(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
