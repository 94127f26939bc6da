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
	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// action is what a command does with the school.
type action func(ctx context.Context, s *school.TrainingSchool, out io.Writer, arguments []string) error

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "trainingschool",
		Short:         "A training school for dogs. Without a command it shows what it can do.",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          withSchool(demonstrate),
	}
	root.AddCommand(
		newMigrateCommand(),
		&cobra.Command{Use: "register NAME", Short: "Register a dog", Args: cobra.ExactArgs(1), RunE: withSchool(register)},
		&cobra.Command{Use: "add-trick NAME TRICK", Short: "Have a dog learn a trick", Args: cobra.ExactArgs(2), RunE: withSchool(addTrick)},
		&cobra.Command{Use: "tricks NAME", Short: "Print the tricks of a dog, one a line", Args: cobra.ExactArgs(1), RunE: withSchool(tricks)},
	)
	return root
}

// withSchool opens the databases and the school around an action.
func withSchool(act action) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, arguments []string) (err error) {
		closeAll, err := openDatabases()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeAll()) }()
		s, err := school.New(application.WithLookup(lookup))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		return act(cmd.Context(), s, cmd.OutOrStdout(), arguments)
	}
}

// lookup is the environment, with GORM as the store unless it says otherwise.
func lookup(key string) (string, bool) {
	value, ok := os.LookupEnv(key)
	if !ok && key == "PERSISTENCE_MODULE" {
		return "gormstore", true
	}
	return value, ok
}

// explain says what an error means to the person at the terminal.
func explain(err error) string {
	if notFound, ok := errors.AsType[*dogError](err); ok {
		return notFound.Error()
	}
	return "trainingschool: " + err.Error()
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

func register(ctx context.Context, s *school.TrainingSchool, _ io.Writer, arguments []string) error {
	return about(arguments[0], s.Register(ctx, arguments[0]))
}

func addTrick(ctx context.Context, s *school.TrainingSchool, _ io.Writer, arguments []string) error {
	err := s.AddTrick(ctx, arguments[0], arguments[1])
	if persistence.IsConflict(err) { // it lost against others a hundred times
		return err
	}
	return about(arguments[0], err)
}

func tricks(ctx context.Context, s *school.TrainingSchool, out io.Writer, arguments []string) error {
	known, err := s.Tricks(ctx, arguments[0])
	for _, trick := range known {
		fmt.Fprintln(out, trick)
	}
	return about(arguments[0], err)
}

func newMigrateCommand() *cobra.Command {
	var alias string
	cmd := &cobra.Command{Use: "migrate", Short: "Create the tables for events", Args: cobra.NoArgs}
	cmd.Flags().StringVar(&alias, "database", gormstore.DefaultAlias, "name of the database")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		closeAll, err := openDatabases()
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, closeAll()) }()
		if err := migrate(cmd.Context(), alias); err != nil {
			return err
		}
		fmt.Fprintf(cmd.OutOrStdout(), "The tables for events are in the database %q.\n", alias)
		return nil
	}
	return cmd
}

func migrate(ctx context.Context, alias string) error {
	db, ok := gormstore.DB(alias)
	if !ok {
		return fmt.Errorf("unknown database %q; known are %s", alias, strings.Join(gormstore.Aliases(), ", "))
	}
	return gormstore.AutoMigrate(db.WithContext(ctx))
}

// demonstrate shows the school at work. It can be run again and again: what is done already is not done twice.
func demonstrate(ctx context.Context, s *school.TrainingSchool, out io.Writer, _ []string) error {
	const name = "Fido"
	if err := migrate(ctx, s.Environment().String(gormstore.DefaultAlias, "GORM_DB_ALIAS", "DJANGO_DB_ALIAS")); err != nil {
		return err
	}
	switch err := s.Register(ctx, name); {
	case err == nil:
		fmt.Fprintf(out, "%s is registered.\n", name)
	case persistence.IsConflict(err):
		fmt.Fprintf(out, "%s was registered before.\n", name)
	default:
		return err
	}
	known, err := s.Tricks(ctx, name)
	if err != nil {
		return err
	}
	for _, trick := range []string{"roll over", "play dead"} {
		if slices.Contains(known, trick) {
			continue
		}
		if err := s.AddTrick(ctx, name, trick); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s learns to %s.\n", name, trick)
	}
	if known, err = s.Tricks(ctx, name); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s knows: %s.\n", name, strings.Join(known, ", "))
	return nil
}
