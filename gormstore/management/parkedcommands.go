package management

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// followerNames completes the names of the runner's followers.
func followerNames(_ context.Context, runner operations.Runner) ([]string, error) {
	if runner == nil {
		return nil, nil
	}
	return operations.FollowerNames(runner), nil
}

func parkedCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{Use: "parked [-o {table,json}] [follower]", Short: "Show the events that followers have parked.",
		ValidArgsFunction: completer(config, followerNames)}
	form := outputFlag(cmd)
	return newCommand(config, cmd, cobra.MaximumNArgs(1), func(c *call) error {
		runner, err := c.runner()
		if err != nil {
			return err
		}
		events, err := operations.Parked(c.context(), runner, c.arguments...)
		switch {
		case err != nil:
			return err
		case form.value == "json":
			return asJSON(c.output, shownParked(events))
		}
		return table(c.output, parkedRows(events))
	})
}

// shownEventParked is an event that was parked, as the command shows it.
type shownEventParked struct {
	Follower       string `json:"follower"`
	Leader         string `json:"leader"`
	NotificationID int64  `json:"notification_id"`
	OriginatorID   string `json:"originator_id"`
	Version        int64  `json:"originator_version"`
	Topic          string `json:"topic"`
	ParkedAt       string `json:"parked_at"`
	Error          string `json:"error"`
}

func shownParked(events []persistence.ParkedEvent) []shownEventParked {
	all := make([]shownEventParked, len(events))
	for i, e := range events {
		all[i] = shownEventParked{Follower: e.ApplicationName, Leader: e.UpstreamApplicationName, NotificationID: e.NotificationID,
			OriginatorID: e.OriginatorID.String(), Version: e.OriginatorVersion, Topic: e.Topic,
			ParkedAt: e.ParkedAt.Format("2006-01-02T15:04:05Z07:00"), Error: oneLine(e.Error)}
	}
	return all
}

func parkedRows(events []persistence.ParkedEvent) [][]string {
	rows := [][]string{{"FOLLOWER", "LEADER", "ID", "ORIGINATOR", "VERSION", "TOPIC", "PARKED AT", "ERROR"}}
	for _, e := range shownParked(events) {
		rows = append(rows, []string{e.Follower, e.Leader, fmt.Sprint(e.NotificationID), e.OriginatorID, fmt.Sprint(e.Version),
			e.Topic, e.ParkedAt, e.Error})
	}
	return rows
}

func retryCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{Use: "retry_parked follower", Short: "Have a follower process the events that it has parked.",
		ValidArgsFunction: completer(config, followerNames)}
	return newCommand(config, cmd, cobra.ExactArgs(1), func(c *call) error {
		runner, err := c.runner()
		if err != nil {
			return err
		}
		report, err := operations.RetryParked(c.context(), runner, c.arguments[0])
		if err != nil && report.Parked+report.Processed == 0 {
			return err
		}
		fmt.Fprintf(c.output, "%s of %s processed, %d still parked.\n", count(int64(report.Processed), "parked event"), report.Follower, report.Parked)
		if err == nil || c.context().Err() != nil {
			return err
		}
		for _, failed := range operations.Joined(err) {
			fmt.Fprintln(c.cmd.ErrOrStderr(), caught(failed))
		}
		return errFailed
	})
}

func discardCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{Use: "discard_parked [-n] [--yes] follower upstream id",
		Short: "Have a follower forget an event that it has parked.",
		Long: "Have a follower forget an event that it has parked: it will never process it. There is no way back. Later events\n" +
			"of the same aggregate stay parked until they are retried.\n\n" +
			"upstream, id: The application whose event it is, and its id in that log, as the command parked shows them.",
		ValidArgsFunction: completer(config, followerNames)}
	dryRun := cmd.Flags().BoolP("dry-run", "n", false, "Show what would be done, and do nothing.")
	yes := cmd.Flags().BoolP("yes", "y", false, "Do not ask.")
	colours := addColourFlags(cmd)
	return newCommand(config, cmd, cobra.ExactArgs(3), func(c *call) error {
		id, err := strconv.ParseInt(c.arguments[2], 10, 64)
		if err != nil || id < 1 {
			return wronglyUsed(cmd, fmt.Errorf("%q is not the id of an event in a log", c.arguments[2]))
		}
		runner, err := c.runner()
		if err != nil {
			return err
		}
		options := operations.DiscardOptions{Follower: c.arguments[0], Leader: c.arguments[1], NotificationID: id, By: whoCalls()}
		return discardAsked(c, runner, colours.screen(c), options, *dryRun, *yes)
	})
}

// discardAsked shows what will be done, and asks.
func discardAsked(c *call, runner operations.Runner, out screen, options operations.DiscardOptions, dryRun, yes bool) error {
	event, err := operations.PlanDiscard(c.context(), runner, options)
	if err != nil {
		return err
	}
	what := fmt.Sprintf("%s will never process event %d of %s (%s, version %d of %s), which it has parked.", options.Follower,
		options.NotificationID, options.Leader, oneLine(event.Topic), event.OriginatorVersion, event.OriginatorID)
	if approved, err := approve(c, out, what, dryRun, yes); !approved {
		return err
	}
	if err := operations.DiscardParked(c.context(), runner, options); err != nil {
		return err
	}
	out.line(success, "Event %d of %s was discarded by %s.", options.NotificationID, options.Leader, options.Follower)
	return nil
}
