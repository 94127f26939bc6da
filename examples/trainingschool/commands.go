package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/dognames"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/trickcounts"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/gormstore/management"
	"github.com/eventsourcing-go/eventsourcing/persistence"
	"github.com/eventsourcing-go/eventsourcing/system"
)

// action is what a command does with the school.
type action func(ctx context.Context, p *program, out io.Writer, arguments []string) error

// program is what the actions work with.
type program struct {
	*school.TrainingSchool
	counts *trickcounts.TrickCounts
	names  *dognames.DogNames
	runner *system.SingleThreadedRunner
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "trainingschool",
		Short:         "A training school for dogs. Without a command it shows what it can do.",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          withProgram(demonstrate),
	}
	root.AddCommand(
		&cobra.Command{Use: "register NAME", Short: "Register a dog", Args: cobra.ExactArgs(1), RunE: withProgram(register)},
		&cobra.Command{Use: "add-trick NAME TRICK", Short: "Have a dog learn a trick", Args: cobra.ExactArgs(2), RunE: withProgram(addTrick)},
		&cobra.Command{Use: "tricks NAME", Short: "Print the tricks of a dog, one a line", Args: cobra.ExactArgs(1), RunE: withProgram(tricks)},
		&cobra.Command{Use: "counts", Short: "Print how many dogs know each trick", Args: cobra.NoArgs, RunE: withProgram(counts)},
		&cobra.Command{Use: "dogs", Short: "Print the names of the dogs, one a line", Args: cobra.NoArgs, RunE: withProgram(names)},
		serveCommand(),
	)
	return root
}

// config is what the management commands need to know of the program.
func config() management.Config {
	return management.Config{
		Root: newRootCommand(),
		Open: func(context.Context) (func() error, error) { return openDatabases() },
		Runners: map[string]management.RunnerFunc{
			"school.runner": func(context.Context) (management.Runner, error) {
				p, err := newProgram()
				if err != nil {
					return nil, err
				}
				return p.runner, nil
			},
		},
		MigrateOwn: dognames.Migrate,
	}
}

// newProgram makes the applications: the school, and those that follow it.
func newProgram() (*program, error) {
	p := &program{}
	var err error
	if p.TrainingSchool, err = school.New(application.WithLookup(lookup)); err != nil {
		return nil, err
	}
	store, err := storeOf("TrickCounts")
	if err != nil {
		return nil, err
	}
	if p.counts, err = trickcounts.New(store, gormstore.WithApplication(application.WithLookup(lookup))); err != nil {
		return nil, err
	}
	if store, err = storeOf("DogNames"); err != nil {
		return nil, err
	}
	if p.names, err = dognames.New(store, application.WithLookup(lookup)); err != nil {
		return nil, err
	}
	sys, err := system.New(system.Pipe(p.TrainingSchool, p.counts), system.Pipe(p.TrainingSchool, p.names))
	if err != nil {
		return nil, err
	}
	p.runner, err = system.NewSingleThreadedRunner(sys)
	return p, err
}

// storeOf is the store of a follower with a table, by the settings of its
// database.
func storeOf(follower string) (*gormstore.Store, error) {
	module := setting(follower, "gormstore", "PERSISTENCE_MODULE")
	if module != "gormstore" && module != "eventsourcing_django" {
		return nil, fmt.Errorf("%s has a table, so PERSISTENCE_MODULE must be gormstore, not %s", follower, module)
	}
	alias := setting(follower, "default", "GORM_DB_ALIAS", "DJANGO_DB_ALIAS")
	db, err := gormstore.DB(alias)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", follower, err)
	}
	return gormstore.New(db), nil
}

// setting is the value of the first of the keys that is set for the application
// or for all, or otherwise.
func setting(application, otherwise string, keys ...string) string {
	for _, prefix := range []string{strings.ToUpper(application) + "_", ""} {
		for _, key := range keys {
			if value, ok := lookup(prefix + key); ok && value != "" {
				return value
			}
		}
	}
	return otherwise
}

// withProgram opens the databases and the applications around an action.
func withProgram(act action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, arguments []string) (err error) {
		closeAll, err := openDatabases()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeAll()) }()
		p, err := newProgram()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.runner.Close()) }()
		return told(cmd, act(cmd.Context(), p, cmd.OutOrStdout(), arguments))
	}
}

// told prints a mistake of the user without the name of the program in front.
func told(cmd *cobra.Command, err error) error {
	mistake, ok := errors.AsType[*dogError](err)
	if !ok {
		return err
	}
	cmd.PrintErrln(mistake.Error())
	return &management.CommandError{Code: 1, Err: err}
}

// lookup is the environment, with GORM as the store unless it says otherwise.
func lookup(key string) (string, bool) {
	value, ok := os.LookupEnv(key)
	if !ok && key == "PERSISTENCE_MODULE" {
		return "gormstore", true
	}
	return value, ok
}

// dogError is a mistake of the user about a dog.
type dogError struct {
	name, problem string
	cause         error
}

func (e *dogError) Error() string { return e.name + " " + e.problem }
func (e *dogError) Unwrap() error { return e.cause }

// about turns the errors that a user can make into what to tell them.
func about(name string, err error) error {
	switch {
	case errors.Is(err, application.ErrAggregateNotFound):
		return &dogError{name, "is not registered", err}
	case persistence.IsConflict(err):
		return &dogError{name, "is registered already", err}
	}
	return err
}

func register(ctx context.Context, p *program, _ io.Writer, arguments []string) error {
	return about(arguments[0], p.Register(ctx, arguments[0]))
}

func addTrick(ctx context.Context, p *program, _ io.Writer, arguments []string) error {
	err := p.AddTrick(ctx, arguments[0], arguments[1])
	if persistence.IsConflict(err) { // it lost against others a hundred times
		return err
	}
	return about(arguments[0], err)
}

func tricks(ctx context.Context, p *program, out io.Writer, arguments []string) error {
	known, err := p.Tricks(ctx, arguments[0])
	for _, trick := range known {
		fmt.Fprintln(out, trick)
	}
	return about(arguments[0], err)
}

func counts(ctx context.Context, p *program, out io.Writer, _ []string) error {
	all, err := p.counts.Counts(ctx)
	for _, c := range all {
		dogs := "dogs know"
		if c.Dogs == 1 {
			dogs = "dog knows"
		}
		fmt.Fprintf(out, "%d %s how to %s.\n", c.Dogs, dogs, c.Trick)
	}
	return err
}

func names(ctx context.Context, p *program, out io.Writer, _ []string) error {
	all, err := p.names.Names(ctx)
	for _, name := range all {
		fmt.Fprintln(out, name)
	}
	return err
}

// demonstrate shows the school at work, and the counts that follow it. It can
// be run again and again: what is done already is not done twice.
func demonstrate(ctx context.Context, p *program, out io.Writer, _ []string) error {
	const name = "Fido"
	alias := setting("TrainingSchool", "default", "GORM_DB_ALIAS", "DJANGO_DB_ALIAS")
	db, err := gormstore.DB(alias)
	if err != nil {
		return err
	}
	if err := errors.Join(gormstore.AutoMigrate(db), dognames.Migrate(ctx, db)); err != nil {
		return err
	}
	// From here on counts are up to date when a save returns.
	if err := p.runner.Start(ctx); err != nil {
		return err
	}
	switch err := p.Register(ctx, name); {
	case err == nil:
		fmt.Fprintf(out, "%s is registered.\n", name)
	case persistence.IsConflict(err):
		fmt.Fprintf(out, "%s was registered before.\n", name)
	default:
		return err
	}
	known, err := p.Tricks(ctx, name)
	if err != nil {
		return err
	}
	for _, trick := range []string{"roll over", "play dead"} {
		if slices.Contains(known, trick) {
			continue
		}
		if err := p.AddTrick(ctx, name, trick); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s learns to %s.\n", name, trick)
	}
	if known, err = p.Tricks(ctx, name); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s knows: %s.\n", name, strings.Join(known, ", "))
	return counts(ctx, p, out, nil)
}
