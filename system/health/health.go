// Package health has HTTP handlers for the probes of an orchestrator such as
// Kubernetes.
//
//	live, ready, err := health.New(runner, health.Config{})
//	mux.Handle("GET /healthz", live)
//	mux.Handle("GET /readyz", ready)
//
// The handlers answer 200 or 503 and a JSON document with the verdict of each
// follower. They show names of followers, positions and event ids, and no
// errors, payloads or keys; still, bind them to an address that only the
// orchestrator reaches.
package health

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"sync"
	"time"

	"github.com/eventsourcing-go/eventsourcing/system"
)

// Runner is what is checked: a *system.Runner, or a
// *system.SingleThreadedRunner.
type Runner interface {
	// Statuses returns the status of each follower and leader.
	Statuses(ctx context.Context) ([]system.Status, error)
}

// Config says when a follower is unhealthy. The zero Config has the defaults.
type Config struct {
	// Stall is how long a follower that has events to process may not move
	// before ready answers 503. The default is one minute.
	Stall time.Duration
	// Hang is how long a follower may process one event before live answers
	// 503, so that the orchestrator restarts the process. The default is ten
	// minutes: a restart interrupts every follower of the process.
	Hang time.Duration
	// Timeout is how long ready may take; a database that does not answer in
	// time is not ready. The default is two seconds.
	Timeout time.Duration
}

// verdict says whether a follower is healthy, and why, in words for an operator.
type verdict struct {
	Healthy bool   `json:"healthy"`
	Reason  string `json:"reason"`
}

// follower is the verdict on one follower and leader.
type follower struct {
	Follower string       `json:"follower"`
	Leader   string       `json:"leader"`
	State    system.State `json:"state"`
	Position *int64       `json:"position,omitempty"` // nil if it could not be read
	Lag      *int64       `json:"lag,omitempty"`
	verdict
}

// verdictOn adds what was read of the position and the log to a verdict. A
// status that could not be read has neither: 0 would look like a position.
func verdictOn(s system.Status, v verdict) follower {
	f := follower{Follower: s.Follower, Leader: s.Leader, State: s.State, verdict: v}
	if s.ReadErr == nil {
		f.Position, f.Lag = new(s.Position), new(s.Lag())
	}
	return f
}

// report is what the handlers answer.
type report struct {
	// Healthy reports whether all followers are healthy.
	Healthy   bool       `json:"healthy"`
	Followers []follower `json:"followers"`
}

// checks judges the followers of a runner. It is safe for concurrent use.
type checks struct {
	runner Runner
	config Config

	mu    sync.Mutex // protects moved
	moved map[edge]movement
}

// edge is a follower and its leader, or one partition of it.
type edge struct {
	follower, leader string
	partition        int // -1 if the follower is not divided
}

// movement is since when a follower has been at a position.
type movement struct {
	position int64
	since    time.Time
}

// New makes the handlers of the probes for the followers of a runner. It returns
// an error if the runner is nil or a time of the config is negative. The
// handlers are safe for concurrent use.
//
// live answers 503 if a handler of this process has been at one event for longer
// than Config.Hang, which a restart may end. A database that is down or a
// follower that fails is no reason to restart, and answers 200. live does not
// ask the database, so one that hangs does not keep it from answering; its
// report has no positions.
//
// ready answers 503 if a follower does not move although it has something to do,
// by the rules of system.Status.Health, or if a database does not answer. It
// also remembers the positions: one that has not changed for Config.Stall,
// although there are events after it, is unhealthy as well. Of a divided
// follower these are the positions of the partitions that the process owns.
func New(runner Runner, config Config) (live, ready http.Handler, err error) {
	if v := reflect.ValueOf(runner); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, nil, errors.New("health/new: the runner is nil; give the runner of the process")
	}
	for _, d := range []struct {
		name  string
		value *time.Duration
		def   time.Duration
	}{
		{"Stall", &config.Stall, time.Minute},
		{"Hang", &config.Hang, 10 * time.Minute},
		{"Timeout", &config.Timeout, 2 * time.Second},
	} {
		if *d.value < 0 {
			return nil, nil, fmt.Errorf("health/new: Config.%s is %v; give a positive time, or 0 for the default of %v", d.name, *d.value, d.def)
		}
		if *d.value == 0 {
			*d.value = d.def
		}
	}
	c := &checks{runner: runner, config: config, moved: map[edge]movement{}}
	return c.live(), c.ready(), nil
}

func (c *checks) live() http.Handler {
	return c.handler(withoutDatabase, func(s system.Status, now time.Time) verdict {
		if s.State == system.Running && s.NotificationID > 0 && now.Sub(s.Since) > c.config.Hang {
			return verdict{Reason: fmt.Sprintf("its handler has been at event %d since %s",
				s.NotificationID, s.Since.UTC().Format(time.RFC3339))}
		}
		return verdict{Healthy: true, Reason: "its handler does not hang"}
	})
}

func (c *checks) ready() http.Handler {
	return c.handler(c.inTime, func(s system.Status, now time.Time) verdict {
		stuck := c.stuck(s, now)
		if healthy, reason := s.Health(now, c.config.Stall); !healthy || stuck == "" {
			return verdict{healthy, reason}
		}
		return verdict{Reason: stuck}
	})
}

// stuck says what has events to process and has not moved for too long, or "".
func (c *checks) stuck(s system.Status, now time.Time) (reason string) {
	if s.Partitions == nil {
		return c.stuckAt("it", edge{s.Follower, s.Leader, -1}, s, s.Position, now)
	}
	for _, p := range s.Partitions.Partitions {
		key := edge{s.Follower, s.Leader, p.Number}
		if !p.Leased || p.Owner != s.Process {
			c.forget(key)
			continue
		}
		if found := c.stuckAt(fmt.Sprintf("its partition %d", p.Number), key, s, p.Position, now); reason == "" {
			reason = found
		}
	}
	return reason
}

func (c *checks) stuckAt(what string, key edge, s system.Status, position int64, now time.Time) string {
	at := c.at(key, position, s.State == system.Running && position < s.Head, now)
	if now.Sub(at) <= c.config.Stall {
		return ""
	}
	return fmt.Sprintf("%s is behind and has not moved since %s", what, at.UTC().Format(time.RFC3339))
}

// at returns since when something has been at its position with events to
// process after it.
func (c *checks) at(key edge, position int64, isBehind bool, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	last, known := c.moved[key]
	if !known || last.position != position || !isBehind {
		last = movement{position, now}
		c.moved[key] = last
	}
	return last.since
}

func (c *checks) forget(key edge) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.moved, key)
}

// withoutDatabase returns a context that has ended: statuses then have what this
// process knows.
func withoutDatabase(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx, cancel
}

func (c *checks) inTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, c.config.Timeout)
}

func (c *checks) handler(
	bound func(context.Context) (context.Context, context.CancelFunc), judge func(system.Status, time.Time) verdict,
) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := bound(r.Context())
		defer cancel()
		statuses, err := c.runner.Statuses(ctx) // each status has its own error
		now := time.Now()
		answer := report{Healthy: err == nil || len(statuses) > 0, Followers: []follower{}}
		for _, s := range statuses {
			v := judge(s, now)
			answer.Healthy = answer.Healthy && v.Healthy
			answer.Followers = append(answer.Followers, verdictOn(s, v))
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if !answer.Healthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(answer) // the client may have gone
	})
}
