package natsstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Waiver names a weakness that a store accepts.
type Waiver string

const (
	// SingleReplica accepts streams with fewer than three replicas. Events are
	// lost with the machine.
	SingleReplica Waiver = "single-replica"

	// PeriodicSync accepts servers that do not write to disk before they answer
	// (sync_interval other than always), or of which that is not known because
	// Config.Monitoring is empty. Events that were acknowledged in the last
	// interval, which is two minutes by default, are lost if a majority of the
	// machines loses its power.
	PeriodicSync Waiver = "periodic-sync"

	// SmallPayload accepts servers whose max_payload is smaller than the
	// largest state that package persistence allows. A larger state is refused
	// when it is saved.
	SmallPayload Waiver = "small-payload"
)

var waivers = []Waiver{SingleReplica, PeriodicSync, SmallPayload}

// Config says how a store uses NATS. The zero value is for production.
type Config struct {
	// Namespace is the first token of all subjects, and the beginning of the
	// names of all streams. Two systems in one account need two namespaces. It
	// has letters, digits, underscores and hyphens. The default is "es".
	Namespace string

	// Replicas is how many replicas Create gives a stream. The default is 3.
	Replicas int

	// Monitoring has the monitoring URL of each server of the cluster, such as
	// http://nats-1:8222. The store reads there whether the server writes to
	// disk before it answers, which servers do not tell their clients.
	Monitoring []string

	// Waive has the weaknesses that are accepted.
	Waive []Waiver

	// CreateStreams makes the store create streams that are missing. It is for
	// development and tests: a stream that was lost would be taken for an empty
	// one.
	CreateStreams bool

	// Timeout is how long a call waits for the cluster if its ctx has no
	// earlier deadline. An election takes up to 20 seconds. The default is 30
	// seconds.
	Timeout time.Duration
}

const (
	defaultNamespace = "es"
	defaultReplicas  = 3
	defaultTimeout   = 30 * time.Second
)

// withDefaults returns the config with its defaults, or an error that names the
// field that is wrong.
func (c Config) withDefaults() (Config, error) {
	if c.Namespace == "" {
		c.Namespace = defaultNamespace
	}
	if c.Replicas == 0 {
		c.Replicas = defaultReplicas
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	problem := ""
	switch {
	case !isPlain(c.Namespace):
		problem = "Namespace has letters other than A to Z, a to z, 0 to 9, _ and -"
	case c.Replicas < 1 || c.Replicas > 5:
		problem = "Replicas must be from 1 to 5"
	case c.Timeout < 0:
		problem = "Timeout must not be negative"
	}
	for _, waiver := range c.Waive {
		if !slices.Contains(waivers, waiver) {
			problem = fmt.Sprintf("Waive has %q; known are %s", waiver, waiverNames())
		}
	}
	if problem != "" {
		return c, &persistence.Error{Class: persistence.ErrProgramming, Op: "natsstore: use a Config", Err: errors.New(problem)}
	}
	return c, nil
}

func (c Config) waives(waiver Waiver) bool { return slices.Contains(c.Waive, waiver) }

func waiverNames() string {
	names := make([]string, len(waivers))
	for i, waiver := range waivers {
		names[i] = string(waiver)
	}
	return strings.Join(names, ", ")
}
