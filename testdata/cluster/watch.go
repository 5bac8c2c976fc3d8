package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"
)

// object is what is watched of a pod or a node.
type object struct {
	Metadata struct {
		Name              string
		DeletionTimestamp string
	}
	Status struct {
		Conditions []struct{ Type, Status string }
	}
}

// is reports whether a condition of the object is true.
func (o object) is(condition string) bool {
	for _, c := range o.Status.Conditions {
		if c.Type == condition {
			return c.Status == "True"
		}
	}
	return false
}

// watch returns when the objects of a collection that a selector chooses are as they should be.
// https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
func (c *Cluster) watch(ctx context.Context, collection, selector string, should func([]object) bool) error {
	client, err := c.authority.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	address := c.Server() + collection + "?labelSelector=" + url.QueryEscape(selector)
	response, err := get(ctx, client, address)
	if err != nil {
		return err
	}
	var list struct {
		Metadata struct{ ResourceVersion string }
		Items    []object
	}
	err = json.NewDecoder(response.Body).Decode(&list)
	response.Body.Close()
	if err != nil {
		return fmt.Errorf("list %s: %w", collection, err)
	}
	there := map[string]object{}
	for _, o := range list.Items {
		there[o.Metadata.Name] = o
	}
	if response, err = get(ctx, client, address+"&watch=true&resourceVersion="+list.Metadata.ResourceVersion); err != nil {
		return err
	}
	defer response.Body.Close()
	for events := json.NewDecoder(response.Body); !should(slices.Collect(maps.Values(there))); {
		var event struct {
			Type   string
			Object object
		}
		if err := events.Decode(&event); err != nil {
			return fmt.Errorf("watch %s: %w", collection, err)
		}
		switch event.Type {
		case "ADDED", "MODIFIED":
			there[event.Object.Metadata.Name] = event.Object
		case "DELETED":
			delete(there, event.Object.Metadata.Name)
		}
	}
	return nil
}

// get asks for what must be there. The caller closes the response's body.
func get(ctx context.Context, client *http.Client, address string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		said, _ := io.ReadAll(response.Body)
		response.Body.Close()
		return nil, fmt.Errorf("%s: %s: %s", address, response.Status, said)
	}
	return response, nil
}

// awaitAnswer returns when a program of the cluster answers well.
func (c *Cluster) awaitAnswer(ctx context.Context, from *Process, address string) error {
	client, err := c.authority.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return c.poll(ctx, from, func() bool {
		response, err := get(ctx, client, address)
		if err == nil {
			response.Body.Close()
		}
		return err == nil
	})
}

// poll asks until the answer is yes, and gives up when the program ends.
func (c *Cluster) poll(ctx context.Context, program *Process, ask func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ask() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-program.ended():
			return errors.New(program.name + " ended")
		case <-tick.C:
		}
	}
	return nil
}
