// Command standin replaces the kubelet where containers cannot be run. Each of its pods is an ordinary process of one program. Instead
// of a port, the process listens on a unix socket named after the port's number, in the pod's directory, to which port-forwards are
// connected. To its clients it behaves like the kubelet, also when a pod ends or crashes. It does not serve exec and logs.
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
	kubeconfig := flag.String("kubeconfig", "", "the kubeconfig for the API server")
	flag.StringVar(&s.node, "node", "", "the node's name")
	flag.StringVar(&s.image, "image", "", "the only image that pods can have")
	flag.StringVar(&s.entrypoint, "entrypoint", "", "the path of the image's program, in the image")
	flag.StringVar(&s.program, "program", "", "the program to run instead")
	flag.StringVar(&s.dir, "dir", "", "the directory for the pods' directories")
	flag.IntVar(&s.port, "port", 0, "the port of 127.0.0.1 to listen on")
	cert := flag.String("cert", "", "the server's certificate")
	key := flag.String("key", "", "the server's key")
	authority := flag.String("authority", "", "the certificate of the authority that signs clients' certificates")
	flag.Parse()
	if err := s.run(*kubeconfig, *cert, *key, *authority); err != nil {
		log.Fatal(err)
	}
}

// standin is the only node of a cluster.
type standin struct {
	node, image, entrypoint, program, dir string
	port                                  int

	client *kubernetes.Clientset
	pods   pods
}

func (s *standin) run(kubeconfig, cert, key, authority string) error {
	if err := os.RemoveAll(s.dir); err != nil { // pods of an earlier process have ended with it
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1 // no limit
	if s.client, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	server, err := s.newServer(authority)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(context.Background())
	group.Go(func() error { return s.runNode(ctx) })
	group.Go(func() error { return s.runPods(ctx) })
	group.Go(func() error {
		if err := server.ListenAndServeTLS(cert, key); err != http.ErrServerClosed {
			return err
		}
		return nil
	})
	return group.Wait()
}
