package management

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
	"github.com/eventsourcing-go/eventsourcing/system"
)

func syncCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "sync_followers [-n] [-v {0,1,2,3}] [follower ...]",
		Short: "Synchronize follower apps with unseen events from their leader apps.",
		Long: "Synchronize follower apps with unseen events from their leader apps.\n\n" +
			"follower: The followers to synchronize. Defaults to synchronize all followers.",
		ValidArgsFunction: completer(config, followerNames),
	}
	var dryRun bool
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false,
		"Load and process all unseen events for the selected followers, but roll back all changes at the end.")
	verbosity, colours := verbosityFlag(cmd), addColourFlags(cmd)
	return newCommand(config, cmd, cobra.ArbitraryArgs, func(c *call) error {
		runner, err := c.runner()
		if err != nil {
			return err
		}
		level, _ := strconv.Atoi(verbosity.value) // it is one of the choices
		p := &syncPrinter{out: colours.screen(c), errs: c.cmd.ErrOrStderr(), verbosity: level}
		report, err := operations.SyncFollowers(c.context(), runner, operations.SyncOptions{Followers: c.arguments, DryRun: dryRun}, p.observer())
		return p.end(c.context(), report, err)
	})
}

// syncPrinter prints what SyncFollowers does, in the words of the Python
// library.
type syncPrinter struct {
	out       screen
	errs      io.Writer
	verbosity int
	report    operations.SyncReport // as it was when the followers were selected
	began     time.Time
	from      map[string]int64 // the positions at which the current follower began
	shown     time.Time        // when progress was last shown
}

func (p *syncPrinter) observer() operations.SyncObserver {
	o := operations.SyncObserver{Selected: p.selected, Begin: p.begin, End: p.finish}
	if p.verbosity == 0 {
		return operations.SyncObserver{}
	}
	if p.out.live {
		o.Progress = p.progress
	}
	return o
}

func (p *syncPrinter) selected(report operations.SyncReport) {
	p.report = report
	if report.DryRun {
		p.out.line(warning, "Dry-run mode, the events will be processed but the changes will be rolled back.")
	}
	switch {
	case report.All:
		p.out.line(heading, "All followers selected for synchronization.")
	case report.Selected == 1:
		p.out.line(heading, "1 follower selected for synchronization.")
	default:
		p.out.line(heading, "%d followers selected for synchronization.", report.Selected)
	}
}

func (p *syncPrinter) begin(f operations.FollowerSync) {
	p.began, p.shown, p.from = time.Now(), time.Time{}, map[string]int64{}
	p.name(f)
}

// name begins the line of a follower.
func (p *syncPrinter) name(f operations.FollowerSync) {
	width := len(strconv.Itoa(p.report.Selected))
	fmt.Fprintf(p.out, "[%*d/%d] Synchronizing ", width, f.Number, p.report.Selected)
	p.out.show(label, f.Name)
	fmt.Fprint(p.out, "... ")
}

// progressInterval is how often the line of a follower is written anew.
const progressInterval = 100 * time.Millisecond

// progress shows on a terminal how far a follower is, after its name.
func (p *syncPrinter) progress(f operations.FollowerSync, done system.Processed) {
	from, known := p.from[done.Leader]
	if !known {
		p.from[done.Leader] = done.Position - int64(done.Events+done.Parked)
		from = p.from[done.Leader]
	}
	if time.Since(p.shown) < progressInterval {
		return
	}
	p.shown = time.Now()
	p.wipe()
	p.name(f)
	fmt.Fprint(p.out, progressText(done, from, time.Since(p.began)))
}

func progressText(done system.Processed, from int64, took time.Duration) string {
	rate := float64(done.Events) / max(took.Seconds(), 0.001)
	text := fmt.Sprintf("%s: %d of %d, %.0f events/s", done.Leader, done.Position, done.Head, rate)
	if moved := done.Position - from; moved > 0 && done.Head > done.Position {
		left := time.Duration(float64(took) * float64(done.Head-done.Position) / float64(moved))
		text += fmt.Sprintf(", %s left", left.Round(time.Second))
	}
	return text
}

// wipe clears the line that progress has written.
func (p *syncPrinter) wipe() { fmt.Fprint(p.out, "\r\x1b[K") }

func (p *syncPrinter) finish(f operations.FollowerSync) {
	if !p.shown.IsZero() {
		p.wipe()
		p.name(f)
	}
	how, as := "OK", success
	switch {
	case interrupted(f.Err):
		how, as = "INTERRUPTED", warning
	case f.Paused():
		how, as = "PAUSED", warning
	case f.AtWork():
		how, as = "another process is at work", warning
	case f.Err != nil:
		how, as = "FAILED", failure
	}
	if p.report.DryRun {
		how, as = how+" (dry-run)", warning
	}
	p.out.line(as, "%s", how)
	for _, done := range f.Processed {
		if done.Note != "" {
			p.out.line(warning, "\t %s: %s", done.Leader, oneLine(done.Note))
		}
	}
	if p.verbosity >= 2 {
		p.details(f)
	}
}

// details says how much was processed, or why not.
func (p *syncPrinter) details(f operations.FollowerSync) {
	if f.Err != nil && !interrupted(f.Err) && !f.Paused() && !f.AtWork() {
		for _, err := range operations.Joined(f.Err) {
			fmt.Fprintln(p.errs, caught(err))
		}
		return
	}
	for _, done := range f.Processed {
		fmt.Fprintf(p.out, "\t %s from %s processed\n", count(int64(done.Events), "event"), done.Leader)
		if done.Parked > 0 {
			fmt.Fprintf(p.out, "\t %s from %s parked\n", count(int64(done.Parked), "event"), done.Leader)
		}
	}
}

func caught(err error) string {
	if text := message(err); text != "" {
		return "\tCaught a " + className(err) + ": " + text
	}
	return "\tCaught a " + className(err) + "."
}

// interrupted reports whether an error is that of the command's context.
// Failures are always wrapped.
func interrupted(err error) bool { return err == context.Canceled || err == context.DeadlineExceeded }

// end prints what comes last.
func (p *syncPrinter) end(ctx context.Context, report operations.SyncReport, err error) error {
	switch {
	case err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()):
		if report.DryRun {
			return errInterruptedRehearsal
		}
		return errInterruptedSync
	case err != nil || !report.Failed():
		return err
	case p.verbosity == 1:
		fmt.Fprintln(p.errs, "There were errors during synchronisation, "+
			"please re-run with a higher verbosity level (try: `--verbosity 2`).")
	}
	return errFailed
}
