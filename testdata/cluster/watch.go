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

// object has the fields of a pod or node that watch needs.
type object struct {
	Metadata struct {
		Name              string
		DeletionTimestamp string
	}
	Status struct {
		Conditions []struct{ Type, Status string }
	}
}

// hasCondition reports whether the object has a condition with status True.
func (o object) hasCondition(condition string) bool {
	for _, c := range o.Status.Conditions {
		if c.Type == condition {
			return c.Status == "True"
		}
	}
	return false
}

// watch calls isDone with the objects of a collection that a label selector matches, at the start and after each change. It returns nil
// when isDone returns true. https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes
func (c *Cluster) watch(ctx context.Context, collection, selector string, isDone func([]object) bool) error {
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
	byName := map[string]object{}
	for _, o := range list.Items {
		byName[o.Metadata.Name] = o
	}
	if response, err = get(ctx, client, address+"&watch=true&resourceVersion="+list.Metadata.ResourceVersion); err != nil {
		return err
	}
	defer response.Body.Close()
	for events := json.NewDecoder(response.Body); !isDone(slices.Collect(maps.Values(byName))); {
		var event struct {
			Type   string
			Object object
		}
		if err := events.Decode(&event); err != nil {
			return fmt.Errorf("watch %s: %w", collection, err)
		}
		switch event.Type {
		case "ADDED", "MODIFIED":
			byName[event.Object.Metadata.Name] = event.Object
		case "DELETED":
			delete(byName, event.Object.Metadata.Name)
		}
	}
	return nil
}

// get sends a GET request. A status other than 200 is an error. The caller closes the response's body.
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
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		return nil, fmt.Errorf("%s: %s: %s", address, response.Status, body)
	}
	return response, nil
}

// waitAnswer returns nil when a program of the cluster answers a GET request with status 200.
func (c *Cluster) waitAnswer(ctx context.Context, program *Process, address string) error {
	client, err := c.authority.client()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return c.poll(ctx, program, func() bool {
		response, err := get(ctx, client, address)
		if err == nil {
			response.Body.Close()
		}
		return err == nil
	})
}

// poll calls isDone repeatedly. It returns nil when isDone returns true, and an error when the program ends.
func (c *Cluster) poll(ctx context.Context, program *Process, isDone func() bool) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !isDone() {
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
