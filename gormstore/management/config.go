package management

import (
	"context"
	"os"

	"github.com/spf13/cobra"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
)

// Runner is what the commands work with: a *system.Runner or a
// *system.SingleThreadedRunner, whose methods System, CatchUp, Statuses, Parked,
// RetryParked, Rebuild and Close it has. It need not be started.
type Runner = operations.Runner

// RunnerFunc makes a runner for one command, which closes it when it ends.
type RunnerFunc = func(ctx context.Context) (Runner, error)

// Given is a RunnerFunc for a runner that exists already. Commands do not close
// it.
func Given(runner Runner) RunnerFunc {
	return func(context.Context) (Runner, error) {
		if operations.IsNil(runner) {
			return nil, nil // which the command reports
		}
		return given{runner}, nil
	}
}

// given is a runner that belongs to the caller.
type given struct{ Runner }

// Close does nothing.
func (given) Close() error { return nil }

// Config says what the commands of a service need to know of it. All fields may
// be left out.
type Config struct {
	// Root is the service's own root command, to which Main adds the commands.
	// Without it Main makes one.
	Root *cobra.Command
	// Open opens the service's databases and registers them with
	// gormstore.RegisterDB; the function that it returns closes them. It is
	// called once for every command that needs a database, before Runners.
	Open func(ctx context.Context) (closeAll func() error, err error)
	// Runners make the service's runners, by names such as "school.runner". If
	// there are several, the setting EVENTSOURCING_RUNNER chooses one.
	Runners map[string]RunnerFunc
	// MigrateOwn creates the tables of the service's own, such as read models,
	// after those for events.
	MigrateOwn func(ctx context.Context, db *gorm.DB) error
	// Lookup is where settings come from; os.LookupEnv by default.
	Lookup func(key string) (value string, ok bool)
}

func (c Config) lookup(key string) string {
	lookup := c.Lookup
	if lookup == nil {
		lookup = os.LookupEnv
	}
	value, _ := lookup(key)
	return value
}
