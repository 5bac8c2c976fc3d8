// Command standin plays the kubelet where no containers can be run. Its pods are processes of one program, beside each
// other: instead of a port, such a process listens on a socket that is called by the port's number, in a directory of
// the pod's. What comes by port-forward is brought there. To its clients it behaves as the real one does, also when a
// pod goes or crashes; what it does not know, such as exec and logs, it refuses.
package main

import (
	"context"
	"flag"
	"log"
	"net/http"
	"os"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func main() {
	var s standin
	kubeconfig := flag.String("kubeconfig", "", "how to get to the API server")
	flag.StringVar(&s.node, "node", "", "the node's name")
	flag.StringVar(&s.image, "image", "", "the image that pods are of")
	flag.StringVar(&s.entrypoint, "entrypoint", "", "the path of its program, in the image")
	flag.StringVar(&s.program, "program", "", "what is run instead")
	flag.StringVar(&s.dir, "dir", "", "where pods have their directories")
	flag.IntVar(&s.port, "port", 0, "the port of 127.0.0.1 to listen on")
	cert := flag.String("cert", "", "the certificate to show")
	key := flag.String("key", "", "its key")
	authority := flag.String("authority", "", "the certificate of who signs clients'")
	flag.Parse()
	if err := s.run(*kubeconfig, *cert, *key, *authority); err != nil {
		log.Fatal(err)
	}
}

// standin is the one node.
type standin struct {
	node, image, entrypoint, program, dir string
	port                                  int

	client *kubernetes.Clientset
	pods   pods
}

func (s *standin) run(kubeconfig, cert, key, authority string) error {
	if err := os.RemoveAll(s.dir); err != nil { // of the one before, whose pods died with it
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1 // without limit
	if s.client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	server, err := s.server(authority)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(context.Background())
	group.Go(func() error { return s.beNode(ctx) })
	group.Go(func() error { return s.runPods(ctx) })
	group.Go(func() error {
		if err := server.ListenAndServeTLS(cert, key); err != http.ErrServerClosed {
			return err
		}
		return nil
	})
	return group.Wait()
}
