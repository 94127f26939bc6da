package management

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
)

// resetFlags are the flags of reset_follower.
type resetFlags struct {
	upstreamApps       upstreamApps
	dryRun, force, yes bool
	verbosity          int
}

func resetCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset_follower [-n] [-u app [app ...]] [-v {0,1,2,3}] [--force] [--yes] [follower]",
		Short: "Reset the tracking states of a follower app.",
		Long: "Reset the tracking states of a follower app.\n\n" +
			"follower: The follower's application name to reset the tracking states of. " +
			"Leave empty (the default) to list all known followers with tracking states.",
		ValidArgsFunction: completer(config, trackedNames),
	}
	var f resetFlags
	cmd.Flags().BoolVarP(&f.dryRun, "dry-run", "n", false, "Reset the tracking states, and then roll back the changes.")
	f.upstreamApps.flags = cmd.Flags()
	cmd.Flags().VarP(&f.upstreamApps, "upstream-apps", "u", "The upstream apps to reset the tracking state of, "+
		"with blanks or commas between. Defaults (empty list) to reset the tracking states of all upstream apps.")
	cmd.Flags().BoolVar(&f.force, "force", false, "Reset also a follower that does not say that it can be reset.")
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "Do not ask.")
	// The flag exists, so this cannot fail.
	_ = cmd.RegisterFlagCompletionFunc("upstream-apps", completer(config, upstreamNames))
	verbosity, colours := verbosityFlag(cmd), addColourFlags(cmd)
	atMostOne := func(cmd *cobra.Command, given []string) error {
		_, words := f.upstreamApps.apart(given)
		return cobra.MaximumNArgs(1)(cmd, words)
	}
	return newCommand(config, cmd, atMostOne, func(c *call) error {
		if err := f.upstreamApps.take(c); err != nil {
			return wronglyUsed(c.cmd, err)
		}
		runner, err := c.anyRunner()
		if err != nil {
			return err
		}
		f.verbosity, _ = strconv.Atoi(verbosity.value) // it is one of the choices
		p := &resetPrinter{out: colours.screen(c), resetFlags: f}
		if len(c.arguments) == 0 {
			return p.hint(c.context(), runner)
		}
		return p.reset(c, runner)
	})
}

// upstreamApps is the flag -u, which takes several words, as in Python's
// argparse: "follower -u app app". The last word is the follower if none is
// before the flag: "-u app app follower".
type upstreamApps struct {
	names
	flags  *pflag.FlagSet
	before int // how many words were before the flag
}

// Set implements pflag.Value.
func (u *upstreamApps) Set(value string) error {
	if len(u.names) == 0 {
		u.before = u.flags.NArg()
	}
	return u.names.Set(value)
}

// take takes the apps out of the arguments of a call.
func (u *upstreamApps) take(c *call) error {
	apps, follower := u.apart(c.arguments)
	for _, app := range apps {
		if err := u.names.Set(app); err != nil {
			return fmt.Errorf("argument -u/--upstream-apps: %w", err)
		}
	}
	c.arguments = follower
	return nil
}

// apart keeps the words that are apps apart from the follower.
func (u *upstreamApps) apart(words []string) (apps, follower []string) {
	switch {
	case len(u.names) == 0 || len(words) < 2:
		return nil, words
	case u.before == 0:
		last := len(words) - 1
		return words[:last], words[last:]
	}
	return words[u.before:], words[:u.before]
}

func trackedNames(ctx context.Context, runner operations.Runner) (names []string, err error) {
	tracked, err := operations.TrackedFollowers(ctx, runner)
	for _, t := range tracked {
		names = append(names, t.Name)
	}
	return names, err
}

func upstreamNames(ctx context.Context, runner operations.Runner) ([]string, error) {
	trackings, err := operations.Trackings(ctx, runner)
	return operations.UpstreamsOf(trackings), err
}

// resetPrinter prints what is reset, in the words of the Python library.
type resetPrinter struct {
	resetFlags
	out screen
}

// hint lists the followers that could be reset.
func (p *resetPrinter) hint(ctx context.Context, runner operations.Runner) error {
	tracked, err := operations.TrackedFollowers(ctx, runner)
	if err != nil || p.verbosity == 0 {
		return err
	}
	fmt.Fprintln(p.out, "No follower selected. Do you need a hint?")
	p.out.line(heading, "Known followers which tracking states that can be reset:")
	for _, t := range tracked {
		condition := ""
		if t.NeedsForce {
			condition = " (only with --force)"
		}
		fmt.Fprintf(p.out, "\t- %s, tracking %s%s\n", t.Name, count(int64(len(t.UpstreamApps)), "upstream application"), condition)
	}
	return nil
}

func (p *resetPrinter) reset(c *call, runner operations.Runner) error {
	plan, err := operations.PlanReset(c.context(), runner, operations.ResetOptions{Follower: c.arguments[0], UpstreamApps: p.upstreamApps.names,
		DryRun: p.dryRun, Force: p.force})
	if err != nil {
		return err
	}
	ask := !p.dryRun && !p.yes
	if ask && !canAsk(c, p.out) {
		return refuseToAsk(replays(plan.Report()))
	}
	p.header(plan.Report())
	if !ask && p.verbosity == 1 { // the question says it, and so does the end of a higher verbosity
		fmt.Fprintln(p.out, replays(plan.Report()))
	}
	if ask && !p.confirmed(c, plan.Report()) {
		return cmp.Or(c.context().Err(), operations.Refuse("Nothing was reset."))
	}
	report, err := plan.Do(c.context())
	if err == nil {
		p.done(report)
	}
	return err
}

// replays says how many events will be processed again.
func replays(report operations.ResetReport) string {
	if report.Notifications == operations.Unreachable {
		return fmt.Sprintf("%s will replay all events.", report.Follower)
	}
	return fmt.Sprintf("%s will replay %s.", report.Follower, count(report.Notifications, "event"))
}

func (p *resetPrinter) confirmed(c *call, report operations.ResetReport) bool {
	return confirmed(c, p.out, replays(report))
}

// approve says what a command will do and reports whether it is to do it. A dry
// run says it only, and without --yes the user is asked.
func approve(c *call, out screen, what string, dryRun, yes bool) (approved bool, err error) {
	switch {
	case dryRun:
		out.line(warning, "%s (dry-run)", what)
		return false, nil
	case yes:
		return true, nil
	case !canAsk(c, out):
		return false, refuseToAsk(what)
	case !confirmed(c, out, what):
		return false, cmp.Or(c.context().Err(), operations.Refuse("Nothing was changed."))
	}
	return true, nil
}

func canAsk(c *call, out screen) bool { return isTerminal(c.cmd.InOrStdin()) && out.live }

func refuseToAsk(what string) error {
	return operations.Refuse("%s Without a terminal it needs --yes, or --dry-run to see what would happen.", what)
}

// confirmed asks. An interrupt is no answer, and ends the question; a goroutine
// that still reads then ends with the process.
func confirmed(c *call, out screen, what string) bool {
	fmt.Fprintf(out, "%s Are you sure? [y/N] ", what)
	answers := make(chan string, 1)
	go func() {
		answer, _ := bufio.NewReader(c.cmd.InOrStdin()).ReadString('\n') // no answer is a no
		answers <- strings.ToLower(strings.TrimSpace(answer))
	}()
	select {
	case <-c.context().Done():
		fmt.Fprintln(out)
		return false
	case answer := <-answers:
		return c.context().Err() == nil && (answer == "y" || answer == "yes")
	}
}

func (p *resetPrinter) header(report operations.ResetReport) {
	if p.verbosity >= 1 && p.dryRun {
		p.out.line(warning, "Dry-run mode, the tracking states will be reset and the changes rolled back.")
	}
	switch {
	case p.verbosity == 1:
		p.out.line(heading, "The tracking states of %s will be reset (%s).",
			report.Follower, count(int64(len(report.UpstreamApps)), "upstream app"))
	case p.verbosity >= 2:
		p.out.line(heading, "The following tracking states of %s will be reset:", report.Follower)
		for _, name := range report.UpstreamApps {
			fmt.Fprintf(p.out, "\t- %s\n", name)
		}
	}
}

func (p *resetPrinter) done(report operations.ResetReport) {
	if p.verbosity == 0 {
		return
	}
	text := count(int64(len(report.UpstreamApps)), "upstream app") + " "
	switch one := len(report.UpstreamApps) == 1; {
	case p.dryRun:
		text += "would have been un-tracked"
	case one:
		text += "has been un-tracked"
	default:
		text += "have been un-tracked"
	}
	if p.verbosity >= 2 && report.Notifications != operations.Unreachable {
		text += fmt.Sprintf(" (for a total of %s)", count(report.Notifications, "notification"))
	}
	if p.dryRun {
		p.out.line(warning, "%s (dry-run).", text)
		return
	}
	p.out.line(success, "%s.", text)
}

// count is a number of things.
func count(n int64, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return fmt.Sprintf("%d %ss", n, thing)
}
