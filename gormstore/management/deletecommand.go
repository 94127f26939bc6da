package management

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
)

func deleteCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "delete_originator [-n] [--yes] application id",
		Short: "Delete all events and snapshots of one aggregate.",
		Long: "Delete all events and snapshots of one aggregate or log of an application, and what followers in the\n" +
			"same database have parked of its events. There is no way back. What followers have made of the events stays.",
		ValidArgsFunction: completer(config, memberNamesOf),
	}
	dryRun := cmd.Flags().BoolP("dry-run", "n", false, "Delete, count, and then roll back.")
	yes := cmd.Flags().BoolP("yes", "y", false, "Really delete. Either this or --dry-run must be given.")
	return newCommand(config, cmd, cobra.ExactArgs(2), func(c *call) error {
		id, err := uuid.Parse(c.arguments[1])
		if err != nil || id == uuid.Nil {
			return wronglyUsed(cmd, fmt.Errorf("%q is not the id of an originator", c.arguments[1]))
		}
		runner, err := c.runner()
		if err != nil {
			return err
		}
		if !*dryRun && !*yes {
			return wronglyUsed(cmd, errors.New("deleting needs --yes, or --dry-run to see what would be deleted"))
		}
		deleted, err := operations.DeleteOriginator(c.context(), runner, c.arguments[0], id, *dryRun)
		if err != nil {
			return err
		}
		end := "have been deleted."
		if *dryRun {
			end = "would have been deleted (dry-run)."
		}
		fmt.Fprintf(c.output, "%s, %s and %s of originator %s in %s %s\n", count(deleted.Events, "event"),
			count(deleted.Snapshots, "snapshot"), count(deleted.Parked, "parked event"), id, c.arguments[0], end)
		return nil
	})
}

func memberNamesOf(_ context.Context, runner operations.Runner) ([]string, error) {
	if runner == nil {
		return nil, nil
	}
	return operations.MemberNames(runner), nil
}
