package management

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
)

func migrateCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{Use: "migrate [--database ALIAS] [--plan]", Short: "Create the tables for events."}
	options := operations.MigrateOptions{Own: config.MigrateOwn}
	cmd.Flags().StringVar(&options.Database, "database", "default", "The name of the database.")
	cmd.Flags().BoolVar(&options.Plan, "plan", false, "Show what would be created or changed, and do nothing.")
	return newCommand(config, cmd, cobra.NoArgs, func(c *call) error {
		if err := c.open(); err != nil {
			return err
		}
		if err := c.makeRunners(); err != nil {
			return err
		}
		report, err := operations.Migrate(c.context(), options)
		if err != nil {
			return err
		}
		printMigration(c.output, report, options.Plan)
		return nil
	})
}

func printMigration(out io.Writer, report operations.MigrateReport, plan bool) {
	if !plan {
		fmt.Fprintf(out, "The tables for events are in the database %q.\n", report.Database)
		return
	}
	if len(report.Tables) == 0 && len(report.Changed) == 0 {
		fmt.Fprintf(out, "The database %q has all tables for events and projections.\n", report.Database)
	}
	if len(report.Tables) > 0 {
		fmt.Fprintf(out, "The database %q lacks the tables %s.\n", report.Database, strings.Join(report.Tables, ", "))
	}
	if len(report.Changed) > 0 {
		fmt.Fprintf(out, "The tables %s of projections in the database %q lack columns or indexes.\n",
			strings.Join(report.Changed, ", "), report.Database)
	}
}

func schemaCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{Use: "schema --dialect {sqlite,postgres}", Short: "Print the SQL that creates the tables for events."}
	dialect := choiceFlag(cmd, "dialect", "", "", "The kind of database.", "sqlite", "postgres")
	return newCommand(config, cmd, cobra.NoArgs, func(c *call) error {
		if dialect.value == "" {
			return wronglyUsed(c.cmd, errors.New("the following arguments are required: --dialect"))
		}
		text, err := operations.Schema(dialect.value)
		fmt.Fprint(c.output, text)
		return err
	})
}

func keygenCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{Use: "keygen [--size {16,24,32}]", Short: "Print a new key for CIPHER_KEY."}
	size := cmd.Flags().Int("size", 32, "The size in bytes: 16, 24 or 32.")
	return newCommand(config, cmd, cobra.NoArgs, func(c *call) error {
		key, err := operations.Keygen(*size)
		if err != nil {
			return wronglyUsed(c.cmd, err)
		}
		fmt.Fprintln(c.output, key)
		return nil
	})
}

// outputFlag is how a result is printed.
func outputFlag(cmd *cobra.Command) *choice {
	return choiceFlag(cmd, "output", "o", "table", "The form of the output.", "table", "json")
}

// asJSON prints a result for programs.
func asJSON(out io.Writer, result any) error {
	encoder := json.NewEncoder(out)
	encoder.SetIndent("", "  ")
	return encoder.Encode(result)
}

// table prints rows for people. The first has the names of the columns.
func table(out io.Writer, rows [][]string) error {
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		cells := make([]string, len(row))
		for i, cell := range row {
			cells[i] = oneLine(cell)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func followersCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{Use: "followers [-o {table,json}]", Short: "Show the state and the lag of the followers."}
	output := outputFlag(cmd)
	cmd.AddCommand(pauseCommands(config)...)
	return newCommand(config, cmd, cobra.NoArgs, func(c *call) error {
		runner, err := c.runner()
		if err != nil {
			return err
		}
		states, err := operations.Followers(c.context(), runner)
		if err != nil && (states == nil || c.context().Err() != nil) {
			return err
		}
		if err != nil {
			err = errFailed // each is in its row
		}
		if output.value == "json" {
			return errors.Join(err, asJSON(c.output, states))
		}
		err = errors.Join(err, table(c.output, followerRows(states)))
		if partitions := partitionRows(states); len(partitions) > 1 {
			fmt.Fprintln(c.output)
			err = errors.Join(err, table(c.output, partitions))
		}
		return err
	})
}

// followerRows leaves out the columns WRITERS, AT, SINCE and NOTE if no
// follower has anything to tell in them.
func followerRows(states []operations.FollowerState) [][]string {
	rows := [][]string{{"FOLLOWER", "LEADER", "STATE", "POSITION", "HEAD", "LAG", "PARKED", "WRITERS", "AT", "SINCE", "ERROR", "NOTE"}}
	for _, s := range states {
		failure, at, since := failureOf(s.Error, s.NotificationID), "", timeOf(s.Since)
		if s.NotificationID > 0 && failure == "" {
			at = fmt.Sprint(s.NotificationID)
		}
		if s.ReadError != "" {
			failure = strings.TrimSuffix("cannot be read: "+oneLine(s.ReadError)+"; "+failure, "; ")
		}
		rows = append(rows, []string{s.Follower, s.Leader, s.State, fmt.Sprint(s.Position), fmt.Sprint(s.Head), fmt.Sprint(s.Lag),
			fmt.Sprint(s.Parked), s.Writers, at, since, failure, noteOf(s)})
	}
	return withoutEmpty(rows, "WRITERS", "AT", "SINCE", "NOTE")
}

// partitionRows are the partitions of all followers that are divided. It leaves
// out the columns SINCE and ERROR if none has failed.
func partitionRows(states []operations.FollowerState) [][]string {
	rows := [][]string{{"FOLLOWER", "LEADER", "PARTITION", "POSITION", "LAG", "OWNER", "SINCE", "ERROR"}}
	for _, s := range states {
		for _, p := range s.Partitions {
			owner := p.Owner
			switch {
			case owner == "" && p.Until.IsZero():
				owner = "none"
			case owner == "":
				owner = "none since " + timeOf(p.Until)
			}
			rows = append(rows, []string{s.Follower, s.Leader, fmt.Sprint(p.Number), fmt.Sprint(p.Position), fmt.Sprint(p.Lag), owner,
				timeOf(p.Since), failureOf(p.Error, p.NotificationID)})
		}
	}
	return withoutEmpty(rows, "SINCE", "ERROR")
}

// failureOf says at which event something has failed, and with what.
func failureOf(text string, notificationID int64) string {
	if text = oneLine(text); text != "" && notificationID > 0 {
		return fmt.Sprintf("at %d: %s", notificationID, text)
	}
	return text
}

// timeOf is a time for people, or "" if it is zero.
func timeOf(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format("2006-01-02T15:04:05Z07:00")
}

func noteOf(s operations.FollowerState) string {
	var notes []string
	if s.PartitionKey != "" {
		notes = append(notes, fmt.Sprintf("%d partitions by %q", len(s.Partitions), s.PartitionKey))
	}
	if !s.PausedAt.IsZero() {
		notes = append(notes, strings.TrimSpace("paused since "+timeOf(s.PausedAt)+byWhom(s.PausedBy)))
	}
	if s.Note != "" {
		notes = append(notes, s.Note)
	}
	if s.Held != nil {
		notes = append(notes, s.Held.String())
	}
	return strings.Join(notes, "; ")
}

func byWhom(by string) string {
	if by == "" {
		return ""
	}
	return " by " + by
}

// withoutEmpty removes those of the named columns that are empty in every row
// but the first, which has the names.
func withoutEmpty(rows [][]string, columns ...string) [][]string {
	for _, column := range columns {
		i := slices.Index(rows[0], column)
		if slices.ContainsFunc(rows[1:], func(row []string) bool { return row[i] != "" }) {
			continue
		}
		for r := range rows {
			rows[r] = slices.Delete(rows[r], i, i+1)
		}
	}
	return rows
}

// applicationNames completes the names of the runner's applications.
func applicationNames(_ context.Context, runner operations.Runner) ([]string, error) {
	if runner == nil {
		return nil, nil
	}
	return operations.MemberNames(runner), nil
}

func checkCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{Use: "check [-o {table,json}] [application ...]",
		Short:             "Look for violations of what is guaranteed of stored events.",
		ValidArgsFunction: completer(config, applicationNames)}
	output := outputFlag(cmd)
	return newCommand(config, cmd, cobra.ArbitraryArgs, func(c *call) error {
		runner, err := c.runner()
		if err != nil {
			return err
		}
		report, err := operations.Check(c.context(), runner, c.arguments...)
		if output.value == "json" {
			err = errors.Join(asJSON(c.output, checkedJSON(report)), err)
		} else {
			printCheck(c.output, report, err == nil)
		}
		if err == nil && len(report.Problems) > 0 {
			err = errFailed
		}
		return err
	})
}

// notInSystem says what is the matter with an application that is in the tables
// and not in the runner's system.
const notInSystem = "the runner's system has no application of that name; if this program has it, add it with system.Pipe(app)"

// printCheck prints what was found, and how much was checked if that was all.
func printCheck(out io.Writer, report operations.CheckReport, complete bool) {
	shown, omitted := report.FirstProblems()
	for _, problem := range shown {
		fmt.Fprintln(out, oneLine(problem.String()))
	}
	for _, o := range omitted {
		fmt.Fprintf(out, "%s: %d more of the kind: %s\n", oneLine(o.Application), o.Count, oneLine(o.Problem))
	}
	for _, log := range report.Logs {
		if log.Held != nil {
			fmt.Fprintf(out, "%s: %s\n", log.Application, oneLine(log.Held.String()))
		}
	}
	for _, name := range report.Unknown {
		fmt.Fprintf(out, "%s: is in the tables, and %s\n", oneLine(name), notInSystem)
	}
	if !complete {
		return
	}
	for _, writers := range []string{operations.ConcurrentWriters, operations.StrictWriters} {
		var names []string
		for _, log := range report.Logs {
			if log.Writers == writers {
				names = append(names, log.Application)
			}
		}
		if len(names) > 0 {
			fmt.Fprintf(out, "Writers are %s: %s.\n", writers, strings.Join(names, ", "))
		}
	}
	fmt.Fprintf(out, "%s checked: %s.\n", count(int64(len(report.Applications)), "application"), count(int64(len(report.Problems)), "problem"))
}

// checkedProblem is a problem as JSON has it.
type checkedProblem struct {
	Application    string `json:"application"`
	OriginatorID   string `json:"originator_id,omitempty"`
	Version        int64  `json:"originator_version,omitempty"`
	NotificationID int64  `json:"notification_id,omitempty"`
	Problem        string `json:"problem"`
}

// checkedJSON is a report for programs.
func checkedJSON(report operations.CheckReport) any {
	shown, omitted := report.FirstProblems()
	for i := range omitted {
		omitted[i].Problem = oneLine(omitted[i].Problem)
	}
	problems := make([]checkedProblem, len(shown))
	for i, p := range shown {
		problems[i] = checkedProblem{Application: p.Application, Version: p.Version, NotificationID: p.NotificationID, Problem: oneLine(p.Text)}
		if p.OriginatorID != uuid.Nil {
			problems[i].OriginatorID = p.OriginatorID.String()
		}
	}
	return struct {
		Applications []operations.LogState        `json:"applications"`
		Problems     []checkedProblem             `json:"problems"`
		Omitted      []operations.OmittedProblems `json:"omitted_problems"`
		Unknown      []string                     `json:"unknown_applications"`
	}{append([]operations.LogState{}, report.Logs...), problems, append([]operations.OmittedProblems{}, omitted...),
		append([]string{}, report.Unknown...)} // not null
}

func eventsCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "events [--after N] [--limit N] [--payload] [-o {table,json}] application [originator]",
		Short: "Show the events of an application, or of one of its aggregates.",
		Long: "Show the events of an application, or of one of its aggregates.\n\n" +
			"originator: The id of the aggregate. Defaults to all events, in the order in which they were recorded.",
		ValidArgsFunction: completer(config, applicationNames),
	}
	var options operations.EventsOptions
	var payload bool
	cmd.Flags().Int64Var(&options.After, "after", 0, "Show what comes after this notification id, or version of the aggregate.")
	cmd.Flags().IntVar(&options.Limit, "limit", 50, "How many events to show at most.")
	cmd.Flags().BoolVar(&payload, "payload", false, "Show also what the events contain.")
	output := outputFlag(cmd)
	return newCommand(config, cmd, cobra.RangeArgs(1, 2), func(c *call) error {
		options.Application = c.arguments[0]
		if len(c.arguments) == 2 {
			var err error
			if options.OriginatorID, err = uuid.Parse(c.arguments[1]); err != nil {
				return wronglyUsed(c.cmd, fmt.Errorf("argument originator: %w", err))
			}
			if options.OriginatorID == uuid.Nil {
				return wronglyUsed(c.cmd, errors.New("argument originator: no aggregate has the nil UUID"))
			}
		}
		runner, err := c.runner()
		if err != nil {
			return err
		}
		page, err := operations.Events(c.context(), runner, options)
		if err != nil {
			return err
		}
		return printEvents(c, page, output.value, payload)
	})
}

// shownEvent is an event as the command shows it.
type shownEvent struct {
	NotificationID int64             `json:"notification_id,omitempty"`
	OriginatorID   uuid.UUID         `json:"originator_id"`
	Version        int64             `json:"originator_version"`
	Timestamp      string            `json:"timestamp,omitempty"`
	Topic          string            `json:"topic"`
	Metadata       map[string]string `json:"metadata,omitempty"`
	Payload        json.RawMessage   `json:"payload,omitempty"`
	Error          string            `json:"error,omitempty"`
}

func shown(events []operations.StoredEvent, payload bool) []shownEvent {
	all := make([]shownEvent, len(events))
	for i, e := range events {
		all[i] = shownEvent{NotificationID: e.NotificationID, OriginatorID: e.OriginatorID, Version: e.OriginatorVersion, Topic: e.Topic}
		if !e.Timestamp.IsZero() {
			all[i].Timestamp = e.Timestamp.Format("2006-01-02T15:04:05.000000Z07:00")
		}
		switch {
		case e.Err != nil:
			all[i].Error = oneLine(textOf(e.Err))
		case payload:
			all[i].Metadata, all[i].Payload = e.Metadata, encoded(e.Data)
		}
	}
	return all
}

// encoded is a payload as JSON, or as Go shows it where JSON cannot.
func encoded(data any) json.RawMessage {
	text, err := json.Marshal(data)
	if err != nil {
		text, _ = json.Marshal(fmt.Sprintf("%+v", data)) // a string always can
	}
	return text
}

// printEvents prints a page, and how to get the next one, which is no part of
// the result.
func printEvents(c *call, page operations.EventsPage, form string, payload bool) error {
	events, out := shown(page.Events, payload), c.output
	if form == "json" {
		if err := asJSON(out, events); err != nil {
			return err
		}
	} else if err := table(out, eventRows(events, payload)); err != nil {
		return err
	}
	if page.Next > 0 {
		c.cmd.PrintErrf("There may be more: --after %d\n", page.Next)
	}
	return nil
}

func eventRows(events []shownEvent, payload bool) [][]string {
	rows := [][]string{{"ID", "ORIGINATOR", "VERSION", "TIMESTAMP", "TOPIC"}}
	if payload {
		rows[0] = append(rows[0], "PAYLOAD")
	}
	for _, e := range events {
		id := "-"
		if e.NotificationID > 0 {
			id = fmt.Sprint(e.NotificationID)
		}
		row := []string{id, e.OriginatorID.String(), fmt.Sprint(e.Version), e.Timestamp, e.Topic}
		switch {
		case e.Error != "":
			row = append(row, "cannot be read: "+e.Error)
		case payload:
			row = append(row, string(e.Payload))
		}
		rows = append(rows, row)
	}
	return rows
}
