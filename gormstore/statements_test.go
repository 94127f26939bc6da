package gormstore

import (
	"flag"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// The statements that store events, and the one that loads an aggregate with a
// snapshot, are put together from parts. This is what they are as a whole.
func TestStatements(t *testing.T) {
	t.Parallel()
	const events = `"stored_events"`
	var b strings.Builder
	write := func(name, statement string) {
		b.WriteString("-- " + name + "\n" + inLines(statement) + ";\n\n")
	}
	writeAll := func(prefix string, statements any) {
		for field, value := range reflect.ValueOf(statements).Fields() {
			if value.Kind() == reflect.String {
				write(prefix+field.Name, value.String())
			}
		}
	}
	m := newMergeStatements(events, false, concurrentOrder)
	writeAll("PostgreSQL, merged: ", m)
	writeAll("PostgreSQL, in a transaction: ", m.whole)
	write("PostgreSQL, in strict order: event", newMergeStatements(events, false, strictOrder).event)
	write("PostgreSQL, in strict order, in a transaction: event", newMergeStatements(events, false, strictOrder).whole.event)
	write("PostgreSQL, in the order of the table: event", newMergeStatements(events, false, tableOrder).event)
	write("PostgreSQL, with signals: event", newMergeStatements(events, true, concurrentOrder).event)
	write("SQLite: event", insertRow(table{quoted: "`stored_events`"}, "id"))
	write("PostgreSQL: a snapshot and events", postgres{}.history(table{quoted: events}, table{quoted: `"snapshots"`}))
	const golden = "testdata/statements.sql"
	if flag.Lookup("update").Value.String() == "true" { // see schemasql_test.go
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != string(want) {
		t.Errorf("the statements differ from %s; if that is right, write it anew with -update; got\n%s", golden, got)
	}
}

// inLines begins a line with each clause of a statement and of what comes WITH
// it, but not with those of their subqueries.
func inLines(statement string) string {
	clauses := []string{"INSERT INTO ", "SELECT ", "FROM ", "WHERE ", "ON CONFLICT ", "RETURNING ", "VALUES "}
	var b strings.Builder
	depth := 0
	for i, r := range statement {
		begins := func(word string) bool { return strings.HasPrefix(statement[i+1:], word) }
		switch {
		case r == '(':
			depth++
		case r == ')':
			depth--
		case r == ' ' && depth <= 1 && slices.ContainsFunc(clauses, begins):
			b.WriteString("\n" + strings.Repeat("  ", depth))
			continue
		case r == ' ' && depth == 0 && strings.HasSuffix(statement[:i], "),"):
			b.WriteString("\n")
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
