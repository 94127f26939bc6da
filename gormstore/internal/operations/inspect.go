package operations

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// LogOptions say which part of a log to read.
type LogOptions struct {
	Application string
	// Topics are the stored names wanted; none means all.
	Topics []string
	// Before is the id before which the page ends; 0 is the end of the log.
	Before int64
	// Limit is how many events to read at most, up to persistence.MaxPage.
	Limit int
	// Most is for how long to search for events of Topics at most.
	Most time.Duration
}

// widest is how many ids a query of a log covers at most, so that a search can
// end in time.
const widest = 100_000

// slow is how long a query of a log may take; a search of several must be able
// to end in time.
const slow = 20 * time.Millisecond

// nextWidth returns how many ids the next query covers, from how long the last
// one took.
func nextWidth(width int64, took time.Duration) int64 {
	switch {
	case took > slow:
		return max(width/2, 1)
	case took > slow/4:
		return width
	}
	return min(4*width, widest)
}

// LogPage is a page of a log, the newest event first.
type LogPage struct {
	Events []StoredEvent
	// Older is what to give as Before for the page of older events, and 0 if
	// there are none. If the search has ended early, the page may be empty.
	Older int64
}

// NewestEvents reads the newest events of a log before an id. An event that
// cannot be decoded is on the page with its error. It reads ever larger ranges
// of ids, because other logs of the same table have ids in between.
func NewestEvents(ctx context.Context, runner Runner, options LogOptions) (page LogPage, err error) {
	app, ok := ApplicationOf(runner, options.Application)
	if !ok {
		return page, &ApplicationsError{Names: []string{options.Application}, Known: MemberNames(runner)}
	}
	end := options.Before - 1
	if options.Before <= 0 {
		if end, err = app.Recorder().MaxNotificationID(ctx); err != nil {
			return page, located(ctx, app.Factory(), err)
		}
	}
	limit := max(1, min(options.Limit, persistence.MaxPage/2))
	var rows []persistence.Notification // newest first
	started := time.Now()
	for width := int64(limit + 1); end > 0 && len(rows) <= limit; {
		if options.Most > 0 && time.Since(started) > options.Most {
			page.Older = end + 1
			break
		}
		begin, asked := max(end-width, 0), time.Now()
		found, err := app.Recorder().SelectNotifications(ctx,
			persistence.NotificationRange{After: begin, Stop: end, Limit: persistence.MaxPage, Topics: options.Topics})
		if err != nil {
			return page, located(ctx, app.Factory(), err)
		}
		if len(found) == persistence.MaxPage && found[len(found)-1].ID < end && width > 1 {
			width /= 2 // the page did not reach the end of the range
			continue
		}
		slices.Reverse(found)
		rows = append(rows, found...)
		end, width = begin, nextWidth(width, time.Since(asked))
	}
	if len(rows) > limit {
		rows = rows[:limit]
		page.Older = rows[limit-1].ID
	}
	for _, n := range rows {
		page.Events = append(page.Events, storedNotification(app, n))
	}
	return page, nil
}

// ApplicationHead is the id of the newest event of an application's log, or why
// it could not be read.
type ApplicationHead struct {
	Application string
	Head        int64
	Err         error
}

// Heads returns the heads of all applications of this process. It reads from
// all stores at the same time, so that one that does not answer before ctx ends
// does not hide the others.
func Heads(ctx context.Context, runner Runner) []ApplicationHead {
	names := MemberNames(runner)
	heads := make([]ApplicationHead, len(names))
	ofStore := map[any][]int{}
	for i, name := range names {
		app, _ := ApplicationOf(runner, name)
		heads[i].Application = name
		var store any = app.Factory()
		if !reflect.TypeOf(store).Comparable() {
			store = name
		}
		ofStore[store] = append(ofStore[store], i)
	}
	var group sync.WaitGroup
	for _, applications := range ofStore {
		group.Go(func() {
			for _, i := range applications {
				app, _ := ApplicationOf(runner, heads[i].Application)
				head, err := app.Recorder().MaxNotificationID(ctx)
				heads[i].Head, heads[i].Err = head, located(ctx, app.Factory(), err)
			}
		})
	}
	group.Wait()
	return heads
}

// Payload is one of the payloads of an event. Topic is the one that its type has
// today, under whatever name the event was stored.
type Payload struct {
	Topic string
	JSON  json.RawMessage
}

// PayloadsOf returns what an event contains, in the form in which it is stored
// if that is JSON: one payload, or as many as domain.UpcastToMany has made of
// it. There are none of an event that cannot be read.
func PayloadsOf(runner Runner, application string, event StoredEvent) (payloads []Payload) {
	app, ok := ApplicationOf(runner, application)
	if !ok || event.Err != nil {
		return nil
	}
	schema, isKnown := app.Mapper().SchemaOf(event.Topic)
	for part := range event.Event.Parts() {
		payload := Payload{event.Topic, asJSON(app, part.Data)}
		if isKnown {
			if kind, ok := schema.Kind(part.Data); ok {
				payload.Topic = kind.Topic()
			}
		}
		payloads = append(payloads, payload)
	}
	return payloads
}

// asJSON returns a payload or a state as JSON. A type of the service whose own
// encoding panics is shown as Go prints it.
func asJSON(app bridge.Application, data any) json.RawMessage {
	var text []byte
	err := guarded(func() (err error) {
		text, err = app.Mapper().Transcoder().Encode(nil, data)
		return err
	})
	if err != nil || !json.Valid(text) {
		text, _ = json.Marshal(fmt.Sprintf("%+v", data)) // a string always can
	}
	return text
}

// AggregateVersion is one version of an aggregate.
type AggregateVersion struct {
	Event StoredEvent
	// Stored, Packed and Plain are the sizes of the event's state in bytes: as it
	// is stored, decrypted, and decompressed as well. Packed and Plain are 0 if
	// it cannot be read.
	Stored, Packed, Plain int
	Encrypted, Compressed bool
	// State is the state of the aggregate at this version, and Before that at
	// the version before. They are nil if they are not known.
	State, Before json.RawMessage
	// StateErr is why the state could not be made, or nil.
	StateErr error
}

// VersionOf reads one version of an aggregate, with its state if a repository
// of this process has its definition. The error of an aggregate or a version
// that does not exist is ErrNoVersion.
func VersionOf(ctx context.Context, runner Runner, application string, id uuid.UUID, version int64) (v AggregateVersion, err error) {
	app, ok := ApplicationOf(runner, application)
	if !ok {
		return v, &ApplicationsError{Names: []string{application}, Known: MemberNames(runner)}
	}
	found := false
	for row, err := range app.Recorder().SelectEvents(ctx, id, persistence.EventRange{From: version, Limit: 1}) {
		if err != nil {
			return v, located(ctx, app.Factory(), err)
		}
		if row.OriginatorVersion != version {
			break
		}
		found = true
		v.Event = storedEvent(app, row)
		layout := app.Mapper().LayoutOf(row)
		v.Stored, v.Packed, v.Plain = layout.Stored, layout.Packed, layout.Plain
		v.Encrypted, v.Compressed = layout.Encrypted, layout.Compressed
	}
	if !found {
		return v, ErrNoVersion
	}
	v.addStates(ctx, app, id, version)
	return v, nil
}

// ErrNoVersion says that an aggregate has no events, or not the version.
var ErrNoVersion = errors.New("the aggregate does not exist or does not have this version")

func (v *AggregateVersion) addStates(ctx context.Context, app bridge.Application, id uuid.UUID, version int64) {
	schema, ok := app.Mapper().SchemaOf(v.Event.Topic)
	if !ok {
		return
	}
	state := func(version int64) json.RawMessage {
		made, err := guardedState(ctx, app, schema.Name(), id, version)
		v.StateErr = errors.Join(v.StateErr, err)
		if err != nil || made == nil {
			return nil
		}
		return asJSON(app, made)
	}
	v.State = state(version)
	if version > schema.First() && v.StateErr == nil {
		v.Before = state(version - 1)
	}
}

// guardedState turns a panic of the service's code into an error.
func guardedState(ctx context.Context, app bridge.Application, definition string, id uuid.UUID, version int64) (state any, err error) {
	err = guarded(func() (err error) {
		state, err = app.StateAt(ctx, definition, id, version)
		return err
	})
	return state, err
}

// SnapshotVersions returns the versions of an aggregate that have snapshots, the
// newest first, at most limit.
func SnapshotVersions(ctx context.Context, runner Runner, application string, id uuid.UUID, limit int) (versions []int64, err error) {
	app, ok := ApplicationOf(runner, application)
	if !ok {
		return nil, &ApplicationsError{Names: []string{application}, Known: MemberNames(runner)}
	}
	recorder, err := app.Factory().SnapshotRecorder(application)
	if err != nil {
		return nil, err
	}
	for row, err := range recorder.SelectEvents(ctx, id, persistence.EventRange{Descending: true, Limit: limit}) {
		if err != nil {
			return versions, located(ctx, app.Factory(), err)
		}
		versions = append(versions, row.OriginatorVersion)
	}
	return versions, nil
}

// ProblemsPage is what a search for unreadable events has found.
type ProblemsPage struct {
	// Events are those that cannot be decrypted, decompressed or decoded.
	Events []StoredEvent
	// Reached is up to which id the log was searched, and Next what to give as
	// After to go on; 0 if the end was reached.
	Reached, Next int64
}

// Problems searches a log after an id for events that cannot be read, for at
// most so long and until it has found limit.
func Problems(ctx context.Context, runner Runner, application string, after int64, limit int, most time.Duration) (p ProblemsPage, err error) {
	begin := time.Now()
	size := int64(limit) // of a page, which is small at first because events may be large
	for p.Reached = after; ; {
		asked := time.Now()
		page, err := Events(ctx, runner, EventsOptions{Application: application, After: p.Reached, Limit: int(size)})
		if err != nil {
			return p, err
		}
		size = min(nextWidth(size, time.Since(asked)), persistence.MaxPage)
		for _, event := range page.Events {
			p.Reached = event.NotificationID
			if event.Err != nil {
				p.Events = append(p.Events, event)
			}
		}
		p.Next = page.Next
		if page.Next == 0 || len(p.Events) >= limit || time.Since(begin) > most {
			return p, nil
		}
	}
}

// ApplicationSettings are the settings in force of an application, without
// secrets.
type ApplicationSettings struct {
	Application string   `json:"application"`
	Store       string   `json:"store"`
	Writers     string   `json:"writers,omitempty"`
	Compressor  string   `json:"compressor,omitempty"`
	Cipher      string   `json:"cipher,omitempty"`
	Snapshots   bool     `json:"snapshots"`
	Kept        int      `json:"snapshots_kept,omitempty"`
	CacheSize   int      `json:"cache_size"` // 0 if it is off
	FastForward bool     `json:"cache_fast_forward,omitempty"`
	Skipping    bool     `json:"cache_fast_forward_skipping,omitempty"`
	FormerNames []string `json:"former_names,omitempty"`
	Follows     []string `json:"follows,omitempty"`
}

// Settings returns the settings in force of the applications of this process.
func Settings(runner Runner) (all []ApplicationSettings) {
	for _, name := range MemberNames(runner) {
		app, _ := ApplicationOf(runner, name)
		s := ApplicationSettings{Application: name, Store: strings.TrimPrefix(fmt.Sprintf("%T", app.Factory()), "*"), Writers: writersOf(runner, name),
			FormerNames: app.FormerNames(), Follows: graphOf(runner).Follows(name)}
		s.Compressor, s.Cipher = app.Mapper().Settings()
		if snapshots := app.Snapshots(); snapshots != nil {
			s.Snapshots, s.Kept = true, snapshots.Kept()
		}
		if cache := app.Cache(); cache.Size > 0 {
			s.CacheSize, s.FastForward, s.Skipping = cache.Size, cache.FastForward, cache.FastForward && cache.Skipping
		}
		all = append(all, s)
	}
	return all
}
