package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
)

// pageSize is how many rows a page has.
const pageSize = 50

// How much a page shows, in bytes: of a payload, a state or an error, of a
// payload in a list, and of a value in a table.
const (
	longestShown  = 32 << 10
	longestListed = 4 << 10
	longestValue  = 1 << 10
)

// deepest is how deep the JSON may be nested that a page indents: each level
// makes every line longer.
const deepest = 100

// eventRow is an event on a page.
type eventRow struct {
	Position  int64             `json:"position,omitempty"`
	ID        uuid.UUID         `json:"originator_id"`
	Version   int64             `json:"originator_version"`
	Topic     string            `json:"topic"`
	Time      time.Time         `json:"time,omitzero"`
	Metadata  map[string]string `json:"metadata,omitempty"`
	Payload   json.RawMessage   `json:"payload,omitempty"`
	Truncated bool              `json:"truncated,omitempty"`
	Error     string            `json:"error,omitempty"`
}

// Text returns the payload for people.
func (e eventRow) Text() string { return string(e.Payload) }

// row returns an event for a page, with at most so many bytes of its payload.
func (h *handler) row(application string, event operations.StoredEvent, rights Rights, longest int) eventRow {
	row := eventRow{Position: event.NotificationID, ID: event.OriginatorID, Version: event.OriginatorVersion,
		Topic: valid(event.Topic), Time: event.Timestamp}
	if event.Err != nil {
		row.Error = valid(fmt.Sprint(event.Err))
		return row
	}
	if rights.Payload {
		row.Metadata = shownMetadata(event.Metadata)
		row.Payload, row.Truncated = shown(h.payload(application, event), longest)
	}
	return row
}

// payload returns the payload of an event, or a list of them if it means several
// events today. Each is redacted for itself.
func (h *handler) payload(application string, event operations.StoredEvent) json.RawMessage {
	var parts []json.RawMessage
	for _, payload := range operations.PayloadsOf(h.runner, application, event) {
		part := h.redacted(payload.Topic, payload.JSON)
		if part != nil && !json.Valid(part) {
			part, _ = json.Marshal(string(part)) // a string always can
		}
		parts = append(parts, part)
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	text, _ := json.Marshal(parts) // its parts are valid
	return text
}

// mostMetadata is how many entries of metadata a page shows.
const mostMetadata = 50

// shownMetadata returns the first entries of metadata, by their keys.
func shownMetadata(metadata map[string]string) map[string]string {
	some := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(metadata)) {
		if len(some) == mostMetadata {
			break
		}
		some[cut(key, longestValue)] = cut(metadata[key], longestValue)
	}
	return some
}

// valid returns a text that is valid UTF-8 and not too long for a page.
func valid(text string) string { return cut(text, longestShown) }

// cut returns the beginning of a text, as valid UTF-8.
func cut(text string, longest int) string {
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…" // which may end within a character
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}

// redacted returns what the service lets a page show of a payload or a state. If
// Redact panics, that is nothing, and what it has panicked with is not logged: it
// may be from the payload.
func (h *handler) redacted(about string, data json.RawMessage) (allowed json.RawMessage) {
	if data == nil || h.config.Redact == nil {
		return data
	}
	defer func() {
		if recover() != nil {
			h.config.Logger.Error("admin: Config.Redact panicked", "about", about)
			allowed = json.RawMessage(`"It is not shown, because Config.Redact panicked."`)
		}
	}()
	return h.config.Redact(about, data)
}

// shown returns what a page shows of JSON. What is too long or nested too deep
// becomes a JSON string of its beginning.
func shown(data json.RawMessage, longest int) (shown json.RawMessage, truncated bool) {
	if data == nil {
		return nil, false
	}
	text := strings.ToValidUTF8(string(data), "\uFFFD")
	if len(text) > longest || !json.Valid([]byte(text)) || depth(text) > deepest {
		encoded, _ := json.Marshal(cut(text, longest)) // a string always can
		return encoded, len(text) > longest
	}
	return json.RawMessage(text), false
}

// depth returns how deep valid JSON is nested.
func depth(text string) (deep int) {
	level, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			level++
			deep = max(deep, level)
		case c == '}' || c == ']':
			level--
		}
	}
	return deep
}

// number reads a whole number from 0 of the query, or 0 if it is not given.
func number(q url.Values, key string) (int64, error) {
	if q.Get(key) == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(q.Get(key), 10, 64)
	if err != nil || n < 0 {
		return 0, refuse(http.StatusBadRequest, "%s must be a whole number from 0.", key)
	}
	return n, nil
}

// logData is the page of a log.
type logData struct {
	Applications []string   `json:"applications"`
	Application  string     `json:"application"`
	Topic        string     `json:"topic,omitempty"`
	Before       int64      `json:"before,omitempty"`
	Events       []eventRow `json:"events"`
	Older        int64      `json:"older,omitempty"`
	Tail         bool       `json:"-"`
	ReadAt       time.Time  `json:"-"`
}

// application returns the application that a query names, or the first.
func (h *handler) application(q url.Values) (name string, all []string, err error) {
	all = operations.MemberNames(h.runner)
	switch name = q.Get("application"); {
	case name == "" && len(all) > 0:
		return all[0], all, nil
	case !slices.Contains(all, name):
		return "", all, refuse(http.StatusNotFound, "There is no such application in this process.")
	}
	return name, all, nil
}

func (h *handler) log(ctx context.Context, r *http.Request, rights Rights) (any, error) {
	q := r.URL.Query()
	name, all, err := h.application(q)
	if err != nil {
		return nil, err
	}
	data := logData{Applications: all, Application: name, Topic: strings.TrimSpace(q.Get("topic")), Events: []eventRow{},
		ReadAt: time.Now()}
	if data.Before, err = number(q, "before"); err != nil {
		return nil, err
	}
	data.Tail = q.Has("tail") && data.Before == 0
	options := operations.LogOptions{Application: name, Before: data.Before, Limit: pageSize, Most: h.searchTime()}
	if data.Topic != "" {
		options.Topics = []string{data.Topic}
	}
	found, err := operations.NewestEvents(ctx, h.runner, options)
	if err != nil {
		return nil, err
	}
	for _, event := range found.Events {
		data.Events = append(data.Events, h.row(name, event, rights, longestListed))
	}
	data.Older = found.Older
	return data, nil
}

// findData is the page that asks for an aggregate.
type findData struct {
	Applications []string `json:"applications"`
	target       string
}

func (f findData) redirect() string { return f.target }

func (h *handler) find(_ context.Context, r *http.Request, _ Rights) (any, error) {
	q := r.URL.Query()
	name, all, err := h.application(q)
	if err != nil || !q.Has("id") {
		return findData{Applications: all}, err
	}
	id, err := parseID(strings.TrimSpace(q.Get("id")))
	return findData{Applications: all, target: "aggregate/" + url.PathEscape(name) + "/" + id.String()}, err
}

func parseID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil || id == uuid.Nil {
		return id, refuse(http.StatusBadRequest, "The id of an aggregate is a UUID.")
	}
	return id, nil
}

// aggregateData is the timeline of an aggregate with one version of it.
type aggregateData struct {
	Application string       `json:"application"`
	ID          uuid.UUID    `json:"originator_id"`
	Versions    []eventRow   `json:"versions"`
	From        int64        `json:"from"`
	Next        int64        `json:"next,omitempty"`
	Snapshots   []int64      `json:"snapshots"`
	Selected    *versionData `json:"selected,omitempty"`
}

// Earlier is what to give as from for the page of earlier versions.
func (a aggregateData) Earlier() int64 { return max(a.From-pageSize, 0) }

// HasSnapshot reports whether a version has a snapshot.
func (a aggregateData) HasSnapshot(version int64) bool { return slices.Contains(a.Snapshots, version) }

// versionData is one version of an aggregate.
type versionData struct {
	Event      eventRow        `json:"event"`
	Stored     int             `json:"stored_bytes"`
	Packed     int             `json:"packed_bytes,omitempty"`
	Plain      int             `json:"plain_bytes,omitempty"`
	Encrypted  bool            `json:"encrypted"`
	Compressed bool            `json:"compressed"`
	State      json.RawMessage `json:"state,omitempty"`
	Truncated  bool            `json:"state_truncated,omitempty"`
	Changes    []change        `json:"changes,omitempty"`
	StateError string          `json:"state_error,omitempty"`
}

// StateText returns the state for people.
func (v versionData) StateText() string { return indented(v.State) }

// PayloadText returns the payload for people.
func (v versionData) PayloadText() string { return indented(v.Event.Payload) }

// indented returns JSON over several lines.
func indented(text json.RawMessage) string {
	var out bytes.Buffer
	if json.Indent(&out, text, "", "  ") != nil {
		return string(text)
	}
	return out.String()
}

func (h *handler) aggregate(ctx context.Context, r *http.Request, rights Rights) (any, error) {
	id, err := parseID(r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	data := aggregateData{Application: r.PathValue("application"), ID: id, Versions: []eventRow{}, Snapshots: []int64{}}
	if data.From, err = number(q, "from"); err != nil {
		return nil, err
	}
	selected, err := number(q, "v")
	if err != nil {
		return nil, err
	}
	if !q.Has("from") && selected > pageSize { // a link to one version, with those around it
		data.From = selected - pageSize/2
	}
	listed, err := operations.Events(ctx, h.runner, operations.EventsOptions{Application: data.Application, OriginatorID: id,
		After: data.From, Limit: pageSize})
	if err != nil {
		return nil, err
	}
	for _, event := range listed.Events {
		row := h.row(data.Application, event, Rights{}, 0)
		data.Versions = append(data.Versions, row)
	}
	data.Next = listed.Next
	if len(data.Versions) == 0 && data.From == 0 {
		return nil, operations.ErrNoVersion
	}
	found, err := operations.SnapshotVersions(ctx, h.runner, data.Application, id, 100)
	if err != nil {
		return nil, err
	}
	data.Snapshots = append(data.Snapshots, found...)
	if !q.Has("v") {
		return data, nil
	}
	version, err := operations.VersionOf(ctx, h.runner, data.Application, id, selected)
	if err != nil {
		return nil, err
	}
	data.Selected = h.version(data.Application, version, rights)
	return data, nil
}

func (h *handler) version(application string, v operations.AggregateVersion, rights Rights) *versionData {
	data := &versionData{Event: h.row(application, v.Event, rights, longestShown), Stored: v.Stored, Packed: v.Packed, Plain: v.Plain,
		Encrypted: v.Encrypted, Compressed: v.Compressed}
	if v.StateErr != nil {
		data.StateError = valid(fmt.Sprint(v.StateErr))
	}
	if !rights.Payload {
		return data
	}
	state, before := h.redacted("state", v.State), h.redacted("state", v.Before)
	data.State, data.Truncated = shown(state, longestShown)
	if state != nil {
		data.Changes = changes(before, state)
	}
	return data
}

// problemsData is what a search for events that cannot be read has found.
type problemsData struct {
	Applications []string   `json:"applications"`
	Application  string     `json:"application"`
	Events       []eventRow `json:"events"`
	After        int64      `json:"after"`
	Reached      int64      `json:"reached"`
	Next         int64      `json:"next,omitempty"`
	Checked      bool       `json:"checked"`
}

// searchTime is for how long a page searches a log, so that it answers soon; a
// link goes on.
func (h *handler) searchTime() time.Duration { return min(h.config.Timeout/20, 80*time.Millisecond) }

// problems searches a part of the log.
func (h *handler) problems(ctx context.Context, r *http.Request, _ Rights) (any, error) {
	q := r.URL.Query()
	name, all, err := h.application(q)
	if err != nil {
		return nil, err
	}
	data := problemsData{Applications: all, Application: name, Events: []eventRow{}}
	if data.After, err = number(q, "after"); err != nil {
		return nil, err
	}
	found, err := operations.Problems(ctx, h.runner, name, data.After, pageSize, h.searchTime())
	if err != nil {
		return nil, err
	}
	for _, event := range found.Events {
		data.Events = append(data.Events, h.row(name, event, Rights{}, 0))
	}
	data.Reached, data.Next = found.Reached, found.Next
	return data, nil
}
