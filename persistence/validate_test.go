package persistence_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/invalid"
	"github.com/eventsourcing-go/eventsourcing/internal/limits"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// wantInvalid requires an *invalid.Error of a class with a text, or no error if
// the text is empty.
func wantInvalid(t *testing.T, what string, err, class error, text string) {
	t.Helper()
	if text == "" {
		if err != nil {
			t.Errorf("%s: got error %v", what, err)
		}
		return
	}
	expect.ErrorAs[*invalid.Error](t, err)
	expect.ErrorText(t, err, text)
	if !errors.Is(err, class) {
		t.Errorf("%s: %v is not %v", what, err, class)
	}
}

func TestValidateName(t *testing.T) {
	t.Parallel()
	const spaces, utf8 = "must not begin or end with spaces", "must be valid UTF-8 without NUL"
	for name, problem := range map[string]string{
		"":                              "must not be empty",
		"a":                             "",
		"My App":                        "",
		strings.Repeat("a", 32):         "",
		strings.Repeat("犬", 32):         "",
		strings.Repeat("a", 33):         "has 33 characters; at most 32 can be stored",
		strings.Repeat("犬", 33):         "has 33 characters; at most 32 can be stored",
		" a":                            spaces,
		"a ":                            spaces,
		"a\n":                           spaces,
		"\u00a0a":                       spaces,
		" ":                             spaces,
		"a\x00":                         utf8,
		"\xff":                          utf8,
		"a\xc3":                         utf8,
		strings.Repeat("\xff", 40) + "": utf8,
		"'; DROP TABLE stored_events":   "",
	} {
		text := ""
		if problem != "" {
			text = fmt.Sprintf("application name %.40q %s", name, problem)
		}
		wantInvalid(t, name, persistence.ValidateName(name), persistence.ErrData, text)
	}
}

func TestValidateEventsBoundaries(t *testing.T) {
	t.Parallel()
	big := make([]byte, limits.State+1)
	tests := []struct {
		name    string
		change  func(*persistence.StoredEvent)
		problem string
	}{
		{"nothing", func(*persistence.StoredEvent) {}, ""},
		{"zero UUID", func(e *persistence.StoredEvent) { e.OriginatorID = uuid.Nil }, "has the zero UUID as its originator; give the aggregate an id"},
		{"largest UUID", func(e *persistence.StoredEvent) { e.OriginatorID = uuid.Max }, ""},
		{"version 0", func(e *persistence.StoredEvent) { e.OriginatorVersion = 0 }, ""},
		{"largest version", func(e *persistence.StoredEvent) { e.OriginatorVersion = math.MaxInt64 }, ""},
		{"negative version", func(e *persistence.StoredEvent) { e.OriginatorVersion = -1 }, "has a negative version"},
		{"smallest version", func(e *persistence.StoredEvent) { e.OriginatorVersion = math.MinInt64 }, "has a negative version"},
		{"no topic", func(e *persistence.StoredEvent) { e.Topic = "" }, "has no topic"},
		{"longest topic", func(e *persistence.StoredEvent) { e.Topic = strings.Repeat("x", limits.Topic) }, ""},
		{"topic of spaces", func(e *persistence.StoredEvent) { e.Topic = " " }, ""},
		{"topic of 256 bytes", func(e *persistence.StoredEvent) { e.Topic = strings.Repeat("犬", 85) + "x" }, "has a topic of 256 bytes; at most 255 can be stored"},
		{"topic with NUL", func(e *persistence.StoredEvent) { e.Topic = "a\x00" }, "has a topic that is not valid UTF-8 without NUL"},
		{"topic of other bytes", func(e *persistence.StoredEvent) { e.Topic = "\xff" }, "has a topic that is not valid UTF-8 without NUL"},
		{"nil state", func(e *persistence.StoredEvent) { e.State = nil }, "has a nil state; an empty one is legal"},
		{"empty state", func(e *persistence.StoredEvent) { e.State = []byte{} }, ""},
		{"largest state", func(e *persistence.StoredEvent) { e.State = big[1:] }, ""},
		{"larger state", func(e *persistence.StoredEvent) { e.State = big }, "has a state of 16777217 bytes; at most 16777216 can be stored"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			first := persistence.StoredEvent{OriginatorID: dogID("Fido"), OriginatorVersion: 7, Topic: "Dog.Registered", State: []byte("{}")}
			e := persistence.StoredEvent{OriginatorID: dogID("Rex"), OriginatorVersion: 1, Topic: "Dog.Registered", State: []byte("{}")}
			test.change(&e)
			text := ""
			if test.problem != "" {
				text = fmt.Sprintf("event %.40q version %d of originator %s %s", e.Topic, e.OriginatorVersion, e.OriginatorID, test.problem)
			}
			wantInvalid(t, test.name, persistence.ValidateEvents(school, []persistence.StoredEvent{e}), persistence.ErrData, text)
			wantInvalid(t, test.name, persistence.ValidateEvents(school, []persistence.StoredEvent{first, e}), persistence.ErrData, text)
		})
	}
	if err := persistence.ValidateEvents(school, nil); err != nil {
		t.Errorf("no events: %v", err)
	}
}

// TestValidateEventsVersions is about the versions of one insert, each given as
// a dog and its version.
func TestValidateEventsVersions(t *testing.T) {
	t.Parallel()
	const gap = "must follow version %d of the same originator without a gap"
	tests := []struct {
		events   string
		problem  string // of the last event
		conflict bool
	}{
		{"a1", "", false},
		{"a5", "", false}, // what is stored already is the recorder's business
		{"a1 a2 a3", "", false},
		{"a0 a1", "", false},
		{"a1 b1 a2 b2 c9 a3", "", false},
		{"a1 a2 b1 b2 a3 b3 a4", "", false},
		{"a1 a1", "", true},
		{"a1 b1 a1", "", true},
		{"a1 a2 b1 b2 a2", "", true},
		{"a1 a3", fmt.Sprintf(gap, 1), false},
		{"a1 b1 a3", fmt.Sprintf(gap, 1), false},
		{"a1 a2 b7 a4", fmt.Sprintf(gap, 2), false},
		{"a2 a1", fmt.Sprintf(gap, 2), false},
		{"a1 a2 b1 a1", fmt.Sprintf(gap, 2), false},
		{"a9223372036854775807 a0", fmt.Sprintf(gap, math.MaxInt64), false},
	}
	for _, test := range tests {
		t.Run(test.events, func(t *testing.T) {
			t.Parallel()
			var events []persistence.StoredEvent
			for field := range strings.FieldsSeq(test.events) {
				e := persistence.StoredEvent{OriginatorID: dogID(field[:1]), Topic: "Dog.Fed", State: []byte{}}
				if _, err := fmt.Sscan(field[1:], &e.OriginatorVersion); err != nil {
					t.Fatal(err)
				}
				events = append(events, e)
			}
			err := persistence.ValidateEvents(school, events)
			last := events[len(events)-1]
			if test.conflict {
				if got := expect.ErrorAs[*persistence.ConflictError](t, err); got.Application != school || got.OriginatorID != last.OriginatorID ||
					got.Version != last.OriginatorVersion || got.Current != -1 || got.Stored != nil {
					t.Errorf("got %+v, want Application %v, OriginatorID %v, Version %v, Current -1 and Stored nil", got, school, last.OriginatorID, last.OriginatorVersion)
				}
				return
			}
			text := ""
			if test.problem != "" {
				text = fmt.Sprintf(`event "Dog.Fed" version %d of originator %s %s`, last.OriginatorVersion, last.OriginatorID, test.problem)
			}
			wantInvalid(t, test.events, err, persistence.ErrData, text)
		})
	}
}

func TestValidateTracking(t *testing.T) {
	t.Parallel()
	for text, tracking := range map[string]persistence.Tracking{
		"":                                      {ApplicationName: "Upstream", NotificationID: 1},
		`application name "" must not be empty`: {NotificationID: 1},
		"position 0 in Upstream must be at least 1":  {ApplicationName: "Upstream"},
		"position -1 in Upstream must be at least 1": {ApplicationName: "Upstream", NotificationID: -1},
	} {
		wantInvalid(t, fmt.Sprint(tracking), persistence.ValidateTracking(tracking), persistence.ErrData, text)
	}
	if err := persistence.ValidateTracking(persistence.Tracking{ApplicationName: "Upstream", NotificationID: math.MaxInt64}); err != nil {
		t.Errorf("the largest position: %v", err)
	}
}

func TestEventRangeValidate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		r    persistence.EventRange
		text string
	}{
		{persistence.EventRange{}, ""},
		{persistence.EventRange{From: math.MaxInt64, Before: 1, Limit: math.MaxInt, Descending: true}, ""},
		{persistence.EventRange{From: -1}, "event range From -1 must not be negative"},
		{persistence.EventRange{Before: -1}, "event range Before -1 must not be negative"},
		{persistence.EventRange{Limit: -1}, "event range Limit -1 must not be negative"},
	} {
		wantInvalid(t, fmt.Sprint(test.r), test.r.Validate(), persistence.ErrProgramming, test.text)
	}
}

func TestNotificationRangeValidate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		r     persistence.NotificationRange
		limit int
		text  string
	}{
		{persistence.NotificationRange{Limit: 1}, 1, ""},
		{persistence.NotificationRange{After: 9, Stop: 3, Limit: persistence.MaxPage}, persistence.MaxPage, ""},
		{persistence.NotificationRange{Limit: persistence.MaxPage + 1}, persistence.MaxPage, ""},
		{persistence.NotificationRange{Limit: math.MaxInt}, persistence.MaxPage, ""},
		{persistence.NotificationRange{}, 0, "notification range Limit 0 must be at least 1"},
		{persistence.NotificationRange{Limit: -1}, -1, "notification range Limit -1 must be at least 1"},
		{persistence.NotificationRange{After: -1, Limit: 1}, 1, "notification range After -1 must not be negative"},
		{persistence.NotificationRange{Stop: -1, Limit: 1}, 1, "notification range Stop -1 must not be negative"},
	} {
		got, err := test.r.Validate()
		wantInvalid(t, fmt.Sprint(test.r), err, persistence.ErrProgramming, test.text)
		if got.Limit != test.limit || got.After != test.r.After || got.Stop != test.r.Stop {
			t.Errorf("%+v: got %+v, want limit %d", test.r, got, test.limit)
		}
	}
}
