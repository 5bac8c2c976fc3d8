package native

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/localport-sh/localport/forwarder/kubectl/session"
)

// Event is what a cluster has recorded of an object.
type Event struct {
	Time    time.Time
	Type    string // "Normal" or "Warning"
	Reason  string // in a word: "FailedScheduling"
	Message string
	Object  string // "pod/web-0"
	Count   int    // how often it has happened
}

// IsWarning reports whether something is wrong.
func (e Event) IsWarning() bool { return e.Type == "Warning" }

// String is the event in one line, without its time.
func (e Event) String() string {
	text := fmt.Sprintf("%s %s: %s", e.Object, e.Reason, strings.Join(strings.Fields(e.Message), " "))
	if e.Count > 1 {
		text += fmt.Sprintf(" (%d times)", e.Count)
	}
	return text
}

// eventList is a list of core/v1 events. A kubelet of 1.19 and newer may set EventTime and Series instead of the other times.
type eventList struct {
	Items []struct {
		Type, Reason, Message         string
		Count                         int
		InvolvedObject                struct{ Kind, Name string }
		LastTimestamp, FirstTimestamp *time.Time
		EventTime                     *time.Time
		Series                        *struct {
			Count            int
			LastObservedTime *time.Time
		}
	}
}

// maxEvents is how many events of a namespace are requested.
const maxEvents = "500"

// ListEvents returns the events of a target and of what belongs to it, newest first: its pods, and the objects whose names begin with its name,
// as those of a deployment's replica sets do.
func ListEvents(ctx context.Context, s *session.Session, t Target, ref session.ResourceRef) ([]Event, error) {
	var list eventList
	path := "/api/v1/namespaces/" + url.PathEscape(ref.Location.Namespace) + "/events"
	if err := s.Get(ctx, path, url.Values{"limit": {maxEvents}}, &list); err != nil {
		return nil, err
	}
	pods := listPodNames(ctx, s, t, ref)
	var events []Event
	for _, item := range list.Items {
		object := item.InvolvedObject
		isOwn := t.Name != "" && (object.Name == t.Name || strings.HasPrefix(object.Name, t.Name+"-"))
		isPod := object.Kind == "Pod" && slices.Contains(pods, object.Name)
		if !isOwn && !isPod {
			continue
		}
		event := Event{
			Type: item.Type, Reason: item.Reason, Message: item.Message, Count: item.Count, Object: strings.ToLower(object.Kind) + "/" + object.Name,
		}
		if at := cmp.Or(item.LastTimestamp, item.EventTime, item.FirstTimestamp); at != nil {
			event.Time = *at
		}
		if item.Series != nil {
			event.Count = item.Series.Count
			if item.Series.LastObservedTime != nil {
				event.Time = *item.Series.LastObservedTime
			}
		}
		events = append(events, event)
	}
	slices.SortStableFunc(events, func(a, b Event) int { return b.Time.Compare(a.Time) })
	return events, nil
}

// listPodNames returns the names of the target's pods; none if they are not known.
func listPodNames(ctx context.Context, s *session.Session, t Target, ref session.ResourceRef) (names []string) {
	selector := t.Selector
	switch {
	case selector != "":
	case t.Type == "pod":
		return []string{t.Name}
	default:
		var owner podOwner
		if err := s.Get(ctx, objectPath(t.Type, ref.Location.Namespace)+"/"+url.PathEscape(t.Name), nil, &owner); err != nil {
			return nil
		}
		var err error
		if selector, err = owner.podSelector(t); err != nil {
			return nil
		}
	}
	var pods struct {
		Items []struct{ Metadata session.ObjectMeta }
	}
	_ = s.Get(ctx, objectPath("pod", ref.Location.Namespace), url.Values{"labelSelector": {selector}, "limit": {maxEvents}}, &pods)
	for _, p := range pods.Items {
		names = append(names, p.Metadata.Name)
	}
	return names
}
