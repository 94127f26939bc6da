package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
)

// rates remembers the heads of logs, to tell how fast they grow.
type rates struct {
	mu   sync.Mutex // protects seen
	seen map[string]sighting
}

type sighting struct {
	head int64
	at   time.Time
	rate float64
}

// longEnough is how far apart two looks at a log are that tell its rate.
const longEnough = 2 * time.Second

// of returns how many ids a second a log has grown by between the last two
// looks, and whether that is known.
func (r *rates) of(application string, head int64, now time.Time) (rate float64, known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	last, seen := r.seen[application]
	if r.seen == nil {
		r.seen = map[string]sighting{}
	}
	switch since := now.Sub(last.at); {
	case !seen:
		r.seen[application] = sighting{head, now, -1}
		return 0, false
	case since >= longEnough:
		last = sighting{head, now, float64(max(head-last.head, 0)) / since.Seconds()}
		r.seen[application] = last
	}
	return last.rate, last.rate >= 0
}

// overviewData is the first page.
type overviewData struct {
	Applications []applicationRow `json:"applications"`
	Followers    []followerRow    `json:"followers"`
	Healthy      bool             `json:"healthy"`
}

type applicationRow struct {
	Name string `json:"name"`
	Head int64  `json:"head"`
	// Rate is how many ids a second the log grows by, or nil if the page was
	// not loaded before.
	Rate  *float64 `json:"ids_per_second,omitempty"`
	Error string   `json:"error,omitempty"`
}

// RateText returns the rate for people.
func (a applicationRow) RateText() string {
	if a.Rate == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f", *a.Rate)
}

// followerRow is a follower on a page.
type followerRow struct {
	operations.FollowerState
	// HasLog reports whether the pages have the log of the leader, which may be
	// another service's.
	HasLog bool `json:"-"`
}

// Before returns the id below which the page of the log begins, so that its
// first event is the one at the follower's position.
func (f followerRow) Before() int64 { return f.NotificationID + 1 }

// Bar is how much of the log is not processed, from 0 to 100, and at least 1 if
// anything is left.
func (f followerRow) Bar() int64 {
	if f.Lag == 0 {
		return 0
	}
	return max(100*f.Lag/max(f.Head, f.Lag), 1)
}

// Waiting is for how long the oldest event waits, or "".
func (f followerRow) Waiting() string {
	if f.Oldest.IsZero() || f.Lag == 0 {
		return ""
	}
	return max(time.Since(f.Oldest), 0).Round(time.Second).String()
}

// HeldText says whose transaction keeps the follower from newer events.
func (f followerRow) HeldText() string {
	if f.Held == nil {
		return ""
	}
	return f.Held.String()
}

// states returns the state of each follower. One that could not be read says so;
// if that is all of them because the time is over, it is an error.
func (h *handler) states(ctx context.Context) ([]followerRow, error) {
	states, err := operations.Followers(ctx, h.runner)
	if states == nil && err != nil {
		return nil, err
	}
	isRead := func(s operations.FollowerState) bool { return s.ReadError == "" }
	if ctx.Err() != nil && !slices.ContainsFunc(states, isRead) {
		return nil, ctx.Err()
	}
	rows := make([]followerRow, len(states)) // each has what of it could not be read
	for i, s := range states {
		s.Error, s.ReadError, s.Note = valid(s.Error), valid(s.ReadError), valid(s.Note)
		s.State, s.Process, s.PausedBy = valid(s.State), valid(s.Process), valid(s.PausedBy)
		for j := range s.Partitions {
			p := &s.Partitions[j]
			p.Owner, p.Error = valid(p.Owner), valid(p.Error)
		}
		rows[i] = followerRow{s, h.hasLog(s.Leader)}
	}
	return rows, nil
}

// hasLog reports whether an application is one of this process.
func (h *handler) hasLog(application string) bool {
	_, ok := operations.ApplicationOf(h.runner, application)
	return ok
}

func (h *handler) overview(ctx context.Context, _ *http.Request, _ Rights) (any, error) {
	data := overviewData{Applications: []applicationRow{}}
	var heads []operations.ApplicationHead
	var group sync.WaitGroup
	group.Go(func() { heads = operations.Heads(ctx, h.runner) })
	followers, err := h.states(ctx)
	group.Wait()
	data.Followers = followers
	data.Healthy = !slices.ContainsFunc(followers, func(f followerRow) bool { return !f.Healthy })
	for _, head := range heads {
		row := applicationRow{Name: head.Application, Head: head.Head}
		if head.Err != nil {
			row.Error = valid(fmt.Sprint(head.Err))
		} else if rate, known := h.rates.of(head.Application, head.Head, time.Now()); known {
			row.Rate = &rate
		}
		data.Applications = append(data.Applications, row)
	}
	return data, err
}

// followersData is the page of all followers.
type followersData struct {
	Followers []followerRow `json:"followers"`
}

func (h *handler) followers(ctx context.Context, _ *http.Request, _ Rights) (any, error) {
	states, err := h.states(ctx)
	return followersData{states}, err
}

// followerData is the page of one follower.
type followerData struct {
	Name    string         `json:"name"`
	States  []followerRow  `json:"leaders"`
	Parked  []parkedRow    `json:"parked"`
	Next    *parkedNext    `json:"next_parked,omitempty"`
	Actions []actionChoice `json:"actions"`
	Done    string         `json:"-"`
}

// parkedNext is what to give as leader and after for the next page of parked
// events.
type parkedNext struct {
	Leader string `json:"leader"`
	After  int64  `json:"after"`
}

type parkedRow struct {
	Leader   string    `json:"leader"`
	Position int64     `json:"position"`
	ID       uuid.UUID `json:"originator_id"`
	Version  int64     `json:"originator_version"`
	Topic    string    `json:"topic"`
	Error    string    `json:"error"`
	ParkedAt time.Time `json:"parked_at"`
	HasLog   bool      `json:"-"`
}

func (h *handler) follower(ctx context.Context, r *http.Request, rights Rights) (any, error) {
	name, q := r.PathValue("follower"), r.URL.Query()
	data := followerData{Name: name, Parked: []parkedRow{}}
	if a, err := actionOf(q.Get("done")); err == nil {
		data.Done = a.done
	}
	begin := operations.ParkedAfter{Leader: q.Get("leader")}
	var err error
	if begin.NotificationID, err = number(q, "after"); err != nil {
		return nil, err
	}
	parked, next, err := operations.ParkedPage(ctx, h.runner, name, begin, pageSize)
	if _, absent := errors.AsType[*operations.MigrationError](err); err != nil && !absent {
		return nil, err
	}
	for _, p := range parked {
		data.Parked = append(data.Parked, parkedRow{p.UpstreamApplicationName, p.NotificationID, p.OriginatorID, p.OriginatorVersion,
			valid(p.Topic), valid(p.Error), p.ParkedAt, h.hasLog(p.UpstreamApplicationName)})
	}
	if next != nil {
		data.Next = &parkedNext{next.Leader, next.NotificationID}
	}
	states, err := h.states(ctx)
	if err != nil {
		return nil, err
	}
	data.States = slices.DeleteFunc(states, func(f followerRow) bool { return f.Follower != name })
	data.Actions = h.choices(rights, data.States, len(parked) > 0)
	return data, nil
}

// settingsData is the page of the settings in force.
type settingsData struct {
	Applications []operations.ApplicationSettings `json:"applications"`
	ReadOnly     bool                             `json:"read_only"`
	Redacts      bool                             `json:"redacts"`
	Timeout      string                           `json:"timeout"`
}

func (h *handler) settings(context.Context, *http.Request, Rights) (any, error) {
	return settingsData{operations.Settings(h.runner), !h.config.Actions, h.config.Redact != nil, h.config.Timeout.String()}, nil
}
