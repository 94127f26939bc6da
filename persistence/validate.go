package persistence

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/limits"
)

// MaxPage is the largest page of notifications.
const MaxPage = 1000

// ValidateName refuses an application name that not every database can keep,
// such as one of more than 32 characters, with an ErrData.
func ValidateName(name string) error {
	problem := ""
	switch {
	case name == "":
		problem = "must not be empty"
	case !utf8.ValidString(name) || strings.ContainsRune(name, 0):
		problem = "must be valid UTF-8 without NUL"
	case utf8.RuneCountInString(name) > limits.Name:
		problem = fmt.Sprintf("has %d characters; at most %d can be stored", utf8.RuneCountInString(name), limits.Name)
	case strings.TrimSpace(name) != name:
		problem = "must not begin or end with spaces"
	default:
		return nil
	}
	return &invalid.Error{What: fmt.Sprintf("application name %.40q", name), Problem: problem, Class: ErrData}
}

// ValidateEvents refuses events that not every database can keep, such as one
// with a topic of more than 255 bytes or a state of more than 16 MiB, and events
// that repeat or skip a version of their originator, before any of them is
// stored. Every recorder calls it first. The error is an ErrData, or a
// *ConflictError for a version given twice.
func ValidateEvents(application string, events []StoredEvent) error {
	last := make(map[uuid.UUID]int64)
	for i := range events {
		e := &events[i]
		if problem := eventProblem(e); problem != "" {
			return invalidEvent(e, problem)
		}
		version, seen := lastVersion(last, events, i)
		if seen && e.OriginatorVersion == version {
			return &ConflictError{Application: application, OriginatorID: e.OriginatorID,
				Version: e.OriginatorVersion, Current: -1}
		}
		if seen && e.OriginatorVersion != version+1 {
			return invalidEvent(e, fmt.Sprintf("must follow version %d of the same originator without a gap", version))
		}
	}
	return nil
}

// lastVersion is the version of the event before the i-th one that has the same
// originator. Events of one originator mostly stand together, so versions are
// entered in the map only where another originator follows.
func lastVersion(last map[uuid.UUID]int64, events []StoredEvent, i int) (int64, bool) {
	if i == 0 {
		return 0, false
	}
	before := &events[i-1]
	if before.OriginatorID == events[i].OriginatorID {
		return before.OriginatorVersion, true
	}
	last[before.OriginatorID] = before.OriginatorVersion
	version, seen := last[events[i].OriginatorID]
	return version, seen
}

func eventProblem(e *StoredEvent) string {
	switch {
	case e.OriginatorID == uuid.Nil:
		return "has the zero UUID as its originator; give the aggregate an id"
	case e.OriginatorVersion < 0:
		return "has a negative version"
	case e.Topic == "":
		return "has no topic"
	case len(e.Topic) > limits.Topic:
		return fmt.Sprintf("has a topic of %d bytes; at most %d can be stored", len(e.Topic), limits.Topic)
	case !utf8.ValidString(e.Topic) || strings.ContainsRune(e.Topic, 0):
		return "has a topic that is not valid UTF-8 without NUL"
	case e.State == nil:
		return "has a nil state; an empty one is legal"
	case len(e.State) > limits.State:
		return fmt.Sprintf("has a state of %d bytes; at most %d can be stored", len(e.State), limits.State)
	}
	return ""
}

func invalidEvent(e *StoredEvent, problem string) error {
	what := fmt.Sprintf("event %.40q version %d of originator %s", e.Topic, e.OriginatorVersion, e.OriginatorID)
	return &invalid.Error{What: what, Problem: problem, Class: ErrData}
}

// ValidateTracking refuses a position that cannot be stored, with an ErrData.
func ValidateTracking(tracking Tracking) error {
	if err := ValidateName(tracking.ApplicationName); err != nil {
		return err
	}
	if tracking.NotificationID < 1 {
		return &invalid.Error{What: fmt.Sprintf("position %d in %s", tracking.NotificationID, tracking.ApplicationName),
			Problem: "must be at least 1", Class: ErrData}
	}
	return nil
}

// Validate refuses a range that selects nothing by mistake, with an
// ErrProgramming. A range whose end lies before its beginning is legal and
// empty.
func (r EventRange) Validate() error {
	return firstNegative("event range", named{"From", r.From}, named{"Before", r.Before}, named{"Limit", int64(r.Limit)})
}

// Validate refuses a range that cannot be read, with an ErrProgramming, and
// returns it with its Limit cut to MaxPage. A range whose end lies before its
// beginning is legal and empty.
func (r NotificationRange) Validate() (NotificationRange, error) {
	if r.Limit < 1 {
		return r, &invalid.Error{What: fmt.Sprintf("notification range Limit %d", r.Limit),
			Problem: "must be at least 1", Class: ErrProgramming}
	}
	r.Limit = min(r.Limit, MaxPage)
	return r, firstNegative("notification range", named{"After", r.After}, named{"Stop", r.Stop})
}

type named struct {
	name  string
	value int64
}

func firstNegative(what string, values ...named) error {
	for _, v := range values {
		if v.value < 0 {
			return &invalid.Error{What: fmt.Sprintf("%s %s %d", what, v.name, v.value),
				Problem: "must not be negative", Class: ErrProgramming}
		}
	}
	return nil
}
