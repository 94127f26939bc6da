package management

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/eventsourcing-go/eventsourcing/gormstore/internal/operations"
)

func contentsCommand(config Config) *cobra.Command {
	cmd := &cobra.Command{Use: "contents [-o {table,json}] [application ...]",
		Short: "Show what the databases contain, and how it is stored.",
		Long: "Show what the databases contain, and how it is stored: events and snapshots by application and topic, with the layout " +
			"and the schema versions of their states, and positions of followers. It reads all of them.\n\n" +
			"application: The applications to show. Defaults to all in the databases, also those that this program does not have.",
		ValidArgsFunction: completer(config, applicationNames)}
	output := outputFlag(cmd)
	return newCommand(config, cmd, cobra.ArbitraryArgs, func(c *call) error {
		runner, err := c.anyRunner()
		if err != nil {
			return err
		}
		contents, err := operations.ContentsOf(c.context(), runner, c.arguments...)
		if output.value == "json" {
			return errors.Join(asJSON(c.output, contents), err)
		}
		rows := contentsRows(contents)
		if len(rows) > 1 {
			err = errors.Join(table(c.output, withoutEmpty(rows, "STORED AS", "NOTE")), err)
		}
		if len(contents.Positions) > 0 {
			fmt.Fprintln(c.output)
			err = errors.Join(table(c.output, positionRows(contents)), err)
		}
		return err
	})
}

func contentsRows(contents operations.Contents) [][]string {
	rows := [][]string{{"APPLICATION", "KIND", "TOPIC", "ROWS", "FIRST", "LAST", "LAYOUT", "VERSIONS", "STORED AS", "NOTE"}}
	for _, a := range contents.Applications {
		add := func(kind string, t operations.TopicContents) {
			first, last := "", ""
			if t.First > 0 {
				first, last = fmt.Sprint(t.First), fmt.Sprint(t.Last)
			}
			rows = append(rows, []string{a.Application, kind, t.Topic, fmt.Sprint(t.Rows), first, last, counted(t.Layouts, t.Rows),
				counted(t.Versions, t.Rows), storedAs(t), contentsNote(a, t)})
		}
		for _, t := range a.Events {
			add("events", t)
		}
		for _, t := range a.Snapshots {
			add("snapshots", t)
		}
	}
	return rows
}

// counted is "python", or "own: 3, python: 2" if not all rows are alike.
func counted[K string | int](counts map[K]int64, all int64) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(counts)) {
		if counts[key] == all {
			return fmt.Sprint(key)
		}
		parts = append(parts, fmt.Sprintf("%v: %d", key, counts[key]))
	}
	return strings.Join(parts, ", ")
}

func storedAs(t operations.TopicContents) string {
	var parts []string
	for _, part := range []struct {
		name string
		rows int64
	}{{"compressed", t.Compressed}, {"encrypted", t.Encrypted}} {
		switch part.rows {
		case 0:
		case t.Rows:
			parts = append(parts, part.name)
		default:
			parts = append(parts, fmt.Sprintf("%s %d", part.name, part.rows))
		}
	}
	return strings.Join(parts, ", ")
}

func contentsNote(a operations.ApplicationContents, t operations.TopicContents) string {
	var notes []string
	switch {
	case !a.IsKnown:
		notes = append(notes, notInSystem)
	case t.IsUndefined:
		notes = append(notes, "this program does not define the topic")
	}
	if t.Undecoded > 0 {
		notes = append(notes, fmt.Sprintf("%d cannot be read, the first: %s", t.Undecoded, t.Problem))
	}
	if len(t.Unread) > 0 {
		notes = append(notes, "have fields that the program passes over: "+strings.Join(t.Unread, ", "))
	}
	if len(t.Absent) > 0 {
		notes = append(notes, "some lack fields of the program: "+strings.Join(t.Absent, ", "))
	}
	if len(t.Lost) > 0 {
		notes = append(notes, "have fields that the program's state lacks, so it takes no snapshots: "+strings.Join(t.Lost, ", "))
	}
	return strings.Join(notes, "; ")
}

func positionRows(contents operations.Contents) [][]string {
	rows := [][]string{{"FOLLOWER", "LEADER", "POSITION", "ROWS"}}
	for _, p := range contents.Positions {
		rows = append(rows, []string{p.Follower, p.Leader, fmt.Sprint(p.Position), fmt.Sprint(p.Rows)})
	}
	return rows
}
