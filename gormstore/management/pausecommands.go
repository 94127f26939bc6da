package management

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strings"

	"github.com/spf13/cobra"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/inventory"
	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
)

// pauseCommands are the commands under followers.
func pauseCommands(config Config) []*cobra.Command {
	return []*cobra.Command{
		settingsCommand(config, "pause", "Keep a follower from processing events, in every process, until it is resumed.",
			"is paused: it processes no events of", operations.Pause),
		settingsCommand(config, "resume", "Have a follower that is paused go on.", "processes events of", operations.Resume),
		settingsCommand(config, "accept", "Accept what a follower has missed because its topics have changed.",
			"has its topics accepted, for events of", operations.AcceptTopics),
		skipCommand(config),
		continueCommand(config),
	}
}

func settingsCommand(
	config Config, name, short, done string, change func(context.Context, operations.Runner, operations.PauseOptions) error,
) *cobra.Command {
	cmd := &cobra.Command{Use: name + " follower [upstream ...]", Short: short,
		Long:              short + "\n\nupstream: The upstream apps that it is about. Defaults to all that the follower follows.",
		ValidArgsFunction: completer(config, followerNames)}
	return newCommand(config, cmd, cobra.MinimumNArgs(1), func(c *call) error {
		runner, err := c.runner()
		if err != nil {
			return err
		}
		options := operations.PauseOptions{Follower: c.arguments[0], UpstreamApps: c.arguments[1:], By: whoCalls()}
		if err := change(c.context(), runner, options); err != nil {
			return err
		}
		upstreams, err := operations.Followed(runner, options.Follower, options.UpstreamApps)
		if err == nil {
			fmt.Fprintf(c.output, "%s %s %s.\n", options.Follower, done, strings.Join(upstreams, ", "))
		}
		return err
	})
}

func skipCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{Use: "skip [-n] [--yes] follower [upstream ...]",
		Short: "Move a follower to the end of the logs that it follows.",
		Long: "Move a follower to the end of the logs that it follows: it never processes what they have now.\n\n" +
			"upstream: The upstream apps whose logs it is about. Defaults to all that the follower follows.",
		ValidArgsFunction: completer(config, followerNames)}
	var dryRun, yes bool
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "Show what would be done, and do nothing.")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Do not ask.")
	colours := addColourFlags(cmd)
	return newCommand(config, cmd, cobra.MinimumNArgs(1), func(c *call) error {
		runner, err := c.runner()
		if err != nil {
			return err
		}
		return skipAsked(c, runner, colours.screen(c), dryRun, yes)
	})
}

func continueCommand(config Config) *cobra.Command {
	const short = "Have a follower go on that is ahead of a log whose newest events were deleted."
	cmd := &cobra.Command{Use: "continue [-n] follower [upstream ...]", Short: short,
		Long: short + "\n\nIt is for a follower in another database than its leader, after delete_originator. " +
			"After a restore from a backup, reset the follower.\n\n" +
			"upstream: The upstream apps whose logs it is about. Defaults to all that the follower follows.",
		ValidArgsFunction: completer(config, followerNames)}
	var dryRun bool
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "Show what would be done, and do nothing.")
	return newCommand(config, cmd, cobra.MinimumNArgs(1), func(c *call) error {
		runner, err := c.runner()
		if err != nil {
			return err
		}
		options := operations.SkipOptions{Follower: c.arguments[0], UpstreamApps: c.arguments[1:], DryRun: dryRun}
		moved, err := operations.ContinueAfterDeletion(c.context(), runner, options)
		if err != nil {
			return err
		}
		if len(moved) == 0 {
			fmt.Fprintf(c.output, "%s is at an event that exists; nothing is to be done.\n", options.Follower)
		}
		for _, one := range moved {
			text := fmt.Sprintf("%s goes on after %d in the log of %s, instead of %d; there are no events in between", options.Follower, one.To, one.Leader, one.From)
			if dryRun {
				text += " (dry-run)"
			}
			fmt.Fprintln(c.output, text+".")
		}
		return nil
	})
}

// skipAsked shows what will be done, and asks.
func skipAsked(c *call, runner operations.Runner, out screen, dryRun, yes bool) error {
	options := operations.SkipOptions{Follower: c.arguments[0], UpstreamApps: c.arguments[1:], DryRun: true}
	plan, err := operations.SkipToHead(c.context(), runner, options)
	if err != nil {
		return err
	}
	moves := make([]string, len(plan))
	for i, one := range plan {
		if moves[i], err = describeSkip(c.context(), runner, one); err != nil {
			return err
		}
	}
	what := fmt.Sprintf("%s will never process what it has not processed yet: %s.", options.Follower, strings.Join(moves, ", "))
	if approved, err := approve(c, out, what, dryRun, yes); !approved {
		return err
	}
	options.DryRun = false
	done, err := operations.SkipToHead(c.context(), runner, options)
	if err != nil {
		return err
	}
	for _, one := range done {
		at := fmt.Sprintf("%s is at %d in the log of %s.", options.Follower, one.To, one.Leader)
		skipped, known, err := countSkipped(c.context(), runner, one)
		if err != nil { // it has moved all the same
			out.line(success, "%s", at)
			return err
		}
		if known {
			at += fmt.Sprintf(" It has skipped %s.", count(skipped, "event"))
		}
		out.line(success, "%s", at)
	}
	return nil
}

// describeSkip says how many events are passed over as well, if the log can be
// counted.
func describeSkip(ctx context.Context, runner operations.Runner, one operations.Skipped) (string, error) {
	text := fmt.Sprintf("%s from %d to %d", one.Leader, one.From, one.To)
	skipped, known, err := countSkipped(ctx, runner, one)
	if err != nil || !known {
		return text, err
	}
	return fmt.Sprintf("%s (%s)", text, count(skipped, "event")), nil
}

// countSkipped counts the unprocessed events that a follower passes over. known
// is false if the leader's log cannot be counted, or if the follower moves
// back.
func countSkipped(ctx context.Context, runner operations.Runner, one operations.Skipped) (skipped int64, known bool, err error) {
	leader, ok := operations.StoreOf(runner, one.Leader)
	if !ok || one.To < one.From {
		return 0, false, nil
	}
	before, err := inventory.Of(leader).CountNotifications(ctx, one.Leader, one.From)
	if err != nil {
		return 0, false, err
	}
	all, err := inventory.Of(leader).CountNotifications(ctx, one.Leader, one.To)
	return all - before, err == nil, err
}

// whoCalls is the user and the host, as far as they can be found.
func whoCalls() string {
	name, host := "unknown user", "unknown host"
	if current, err := user.Current(); err == nil {
		name = current.Username
	}
	if found, err := os.Hostname(); err == nil {
		host = found
	}
	return name + "@" + host
}
