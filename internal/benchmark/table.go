package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
)

// The headings of the tables. Ratios are between medians of rates, so above 1
// is faster.
const (
	resultHeading = "workers\tevents\tway\tmedian/s\tbest/s\tx raw\tx original\tp50 us\tp99 us\tCPU us\tallocs\tallocs/event\tbytes\t"
	followHeading = "way\tmedian/s\theap MiB\twrites/10 s\t"
	goalHeading   = "work\tdatabase\tworkers\tagainst\tmedians\tbests\tto reach\t\t"
)

// printResults prints the cells of one row and database, as a table for each
// kind of work.
func printResults(w io.Writer, results []result) error {
	for len(results) > 0 {
		note := results[0].Note
		n := slices.IndexFunc(results, func(r result) bool { return r.Note != note })
		if n < 0 {
			n = len(results)
		}
		fmt.Fprintf(w, "\n%s, %s: %s\n", results[0].Row, results[0].Database, note)
		heading, print := resultHeading, printResult
		if results[0].Row == rowFollowing {
			heading, print = followHeading, printFollowing
		}
		t := newTable(w, heading)
		for i := range results[:n] {
			print(t, &results[i])
		}
		if err := t.Flush(); err != nil {
			return err
		}
		results = results[n:]
	}
	return nil
}

func printResult(w io.Writer, r *result) {
	toRaw, _ := r.of(raw)
	toOriginal, _ := r.of(original)
	for _, f := range r.Figures {
		m := f.Median
		fmt.Fprintf(w, "%d\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", r.Workers, r.Events, f.Way,
			number(m.Rate), number(f.Best), number(ratio(m.Rate, toRaw.Median.Rate)), number(ratio(m.Rate, toOriginal.Median.Rate)),
			number(m.P50), number(m.P99), number(m.CPU),
			number(m.Allocations), number(m.Allocations/float64(r.Events)), number(m.Allocated))
	}
}

// printFollowing prints what only the row following has.
func printFollowing(w io.Writer, r *result) {
	for _, f := range r.Figures {
		m := f.Median
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t\n", f.Way, number(m.Rate), number(m.Growth), number(m.Writes))
	}
}

// printOutcomes prints the goals and what became of them.
func printOutcomes(w io.Writer, outcomes []outcome) error {
	if len(outcomes) == 0 {
		return nil
	}
	fmt.Fprintln(w, "\nfigures to reach")
	t := newTable(w, goalHeading)
	for _, o := range outcomes {
		verdict := "reached"
		if !o.reached {
			verdict = "MISSED"
		}
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t\n", o.work, o.database, o.workers, cmp.Or(o.against, "-"),
			number(o.median), number(o.best), number(o.bound), verdict)
	}
	return t.Flush()
}

func newTable(w io.Writer, heading string) *tabwriter.Writer {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, heading)
	return t
}

// number prints three significant digits, or a whole number with its thousands
// apart. What is unknown is a dash.
func number(v float64) string {
	switch {
	case v == 0:
		return "-"
	case v < 10:
		return strconv.FormatFloat(v, 'f', 2, 64)
	case v < 100:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	digits := strconv.FormatFloat(v, 'f', 0, 64)
	var b strings.Builder
	for i, digit := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(' ')
		}
		b.WriteRune(digit)
	}
	return b.String()
}
