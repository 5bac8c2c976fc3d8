package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strconv"
)

// newWebHandler serves / (the host's name), /sum (the SHA-256 of the request's body) and /bytes?n=N (N bytes, the same each time, with their
// SHA-256 in the trailer X-Sha256).
func newWebHandler(host string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, host) })
	mux.HandleFunc("/sum", func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		if _, err := io.Copy(sum, r.Body); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		fmt.Fprintf(w, "%x\n", sum.Sum(nil))
	})
	mux.HandleFunc("/bytes", func(w http.ResponseWriter, r *http.Request) {
		n, err := strconv.ParseInt(r.FormValue("n"), 10, 64)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Trailer", "X-Sha256")
		sum := sha256.New()
		if _, err := io.CopyN(io.MultiWriter(w, sum), rand.NewChaCha8([32]byte{}), n); err != nil {
			return // the client has gone
		}
		w.Header().Set("X-Sha256", fmt.Sprintf("%x", sum.Sum(nil)))
	})
	return mux
}
