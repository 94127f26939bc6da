package gormstore_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
)

// commandCases are queries with the commands that are in them. If one database
// reads a query in another way, it has its own cases.
var commandCases = []struct {
	query                  string
	notPostgres, notSQLite bool
	want                   string // the commands, with commas between them
}{
	// What begins like no command.
	{query: "", want: ""},
	{query: "SELECT 1", want: ""},
	{query: "SELECT 1;", want: ""},
	{query: ";;", want: ""},
	{query: "UPDATE a SET rollback = 1 WHERE commit = 'COMMIT'", want: ""},
	{query: "rollbacks", want: ""},
	{query: "rollback_all()", want: ""},
	{query: `"ROLLBACK"`, want: ""},
	{query: "PREPARE find AS SELECT 1", want: ""},
	{query: "BEGIN", want: ""},
	{query: "SELECT 1; (ROLLBACK)", want: ""},

	// Ends.
	{query: "ROLLBACK", want: "end by ROLLBACK"},
	{query: "rollBack", want: "end by ROLLBACK"},
	{query: "\n\t COMMIT ;\n", want: "end by COMMIT"},
	{query: "END TRANSACTION", want: "end by END"},
	{query: "ABORT WORK", want: "end by ABORT"},
	{query: "COMMIT AND CHAIN", want: "end by COMMIT"},
	{query: "ROLLBACK WORK AND NO CHAIN", want: "end by ROLLBACK"},
	{query: "PREPARE TRANSACTION 'a'", want: "end by PREPARE TRANSACTION"},
	{query: "SELECT 1; COMMIT; SELECT 2", want: "end by COMMIT"},
	{query: ";ROLLBACK", want: "end by ROLLBACK"},

	// Savepoints.
	{query: "SAVEPOINT a", want: "set a"},
	{query: "savepoint A;", want: "set a"},
	{query: `SAVEPOINT "A b"`, notSQLite: true, want: "set A b"},
	{query: `SAVEPOINT "A b"`, notPostgres: true, want: "set a b"},
	{query: `SAVEPOINT "a""b"`, want: `set a"b`},
	{query: "SAVEPOINT `A`", notPostgres: true, want: "set a"},
	{query: "SAVEPOINT [A b]", notPostgres: true, want: "set a b"},
	{query: "SAVEPOINT 'A'", notPostgres: true, want: "set a"},
	{query: "SAVEPOINT Ä", want: "set Ä"},
	{query: "SAVEPOINT savepoint", want: "set savepoint"},
	{query: "RELEASE a", want: "release a"},
	{query: "RELEASE SAVEPOINT a", want: "release a"},
	{query: "RELEASE SAVEPOINT savepoint", want: "release savepoint"},
	{query: "ROLLBACK TO a", want: "return a"},
	{query: "ROLLBACK TO SAVEPOINT a", want: "return a"},
	{query: "ROLLBACK TRANSACTION TO SAVEPOINT a", want: "return a"},
	{query: "ROLLBACK WORK TO a", want: "return a"},
	{query: "ROLLBACK TO savepoint", want: "return savepoint"},
	{query: "SAVEPOINT a; SELECT 1; RELEASE a; ROLLBACK TO b", want: "set a, release a, return b"},
	{query: "SAVEPOINT", want: ""}, // the database refuses it

	// Comments.
	{query: "-- ROLLBACK", want: ""},
	{query: "-- ROLLBACK\nCOMMIT", want: "end by COMMIT"},
	{query: "/* ROLLBACK; */ SELECT 1", want: ""},
	{query: "/* a */ROLLBACK/* b */TO/* c */a", want: "return a"},
	{query: "ROLLBACK -- all of it\n TO -- but this\n a", want: "return a"},
	{query: "/* /* */ ROLLBACK; */ SELECT 1", notSQLite: true, want: ""},
	{query: "/* /* */ ROLLBACK", notPostgres: true, want: "end by ROLLBACK"},
	{query: "/* ROLLBACK", want: ""},
	{query: "/*/ROLLBACK*/ COMMIT", want: "end by COMMIT"},

	// Strings.
	{query: "SELECT '; ROLLBACK;'", want: ""},
	{query: "SELECT 'it''s; ROLLBACK'; COMMIT", want: "end by COMMIT"},
	{query: `SELECT '\'; ROLLBACK`, want: "end by ROLLBACK"},
	{query: `SELECT E'\'; COMMIT; '; ROLLBACK`, notSQLite: true, want: "end by ROLLBACK"},
	{query: `SELECT "a;ROLLBACK"; COMMIT`, want: "end by COMMIT"},
	{query: "SELECT '-- '; ROLLBACK", want: "end by ROLLBACK"},
	{query: "SELECT '; ROLLBACK", want: ""}, // without an end
	{query: "SELECT $$; ROLLBACK; $$; COMMIT", notSQLite: true, want: "end by COMMIT"},
	{query: "SELECT $a$; $$ ROLLBACK; $b$; $a$; COMMIT", notSQLite: true, want: "end by COMMIT"},
	{query: "SELECT $1; ROLLBACK", want: "end by ROLLBACK"},
	{query: "SELECT a$b$; ROLLBACK", notSQLite: true, want: "end by ROLLBACK"},
	{query: "SELECT $$; ROLLBACK", notSQLite: true, want: ""},

	// Bodies.
	{query: "DO $$ BEGIN COMMIT; END $$", notSQLite: true, want: ""},
	{query: "CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; DELETE FROM b; END", notPostgres: true, want: ""},
	{query: "CREATE TEMP TRIGGER t AFTER INSERT ON a BEGIN SELECT CASE WHEN 1 THEN 2 END; END; ROLLBACK", notPostgres: true, want: "end by ROLLBACK"},
	{query: "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; COMMIT", notSQLite: true, want: "end by COMMIT"},
	{query: "CREATE TABLE begin (a int); END", want: "end by END"},
}

// Commands are found wherever a database finds them, and nowhere else.
func TestTransactionCommands(t *testing.T) {
	t.Parallel()
	for _, c := range commandCases {
		for _, isSQLite := range []bool{false, true} {
			if isSQLite && c.notSQLite || !isSQLite && c.notPostgres {
				continue
			}
			found, _ := gormstore.CommandsOf(c.query, isSQLite)
			if got := strings.Join(found, ", "); got != c.want {
				t.Errorf("%q (SQLite %v): got %q, want %q", c.query, isSQLite, got, c.want)
			}
		}
	}
}

// Statements in one query are what they are alone, with whatever between them.
func TestTransactionCommandsTogether(t *testing.T) {
	t.Parallel()
	source := rand.New(rand.NewPCG(1, 2))
	between := []string{";", " ; ", ";\n", ";/* ROLLBACK; */", ";-- COMMIT\n", "/* ; */;"}
	for range 5_000 {
		for _, isSQLite := range []bool{false, true} {
			var query strings.Builder
			var want []string
			count := 0
			for range 1 + source.IntN(5) {
				c := commandCases[source.IntN(len(commandCases))]
				if isSQLite && c.notSQLite || !isSQLite && c.notPostgres || isOpen(c.query) {
					continue
				}
				found, statements := gormstore.CommandsOf(c.query+";", isSQLite)
				want, count = append(want, found...), count+statements
				query.WriteString(c.query + between[source.IntN(len(between))])
			}
			found, statements := gormstore.CommandsOf(query.String(), isSQLite)
			if !slices.Equal(found, want) || statements != count && query.Len() > 0 && strings.Contains(query.String(), ";") {
				t.Fatalf("%q (SQLite %v): got %q in %d statements, want %q in %d", query.String(), isSQLite, found, statements, want, count)
			}
		}
	}
}

// isOpen recognises a query whose comment or string does not end, so that it
// would go on with what follows.
func isOpen(query string) bool {
	return slices.Contains([]string{"/* ROLLBACK", "SELECT '; ROLLBACK", "SELECT $$; ROLLBACK", "-- ROLLBACK"}, query)
}

// FuzzTransactionCommands looks for queries that the parser does not come to an
// end with, or takes for other ones if a blank or an empty statement is added.
func FuzzTransactionCommands(f *testing.F) {
	for _, c := range commandCases {
		f.Add(c.query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		for _, isSQLite := range []bool{false, true} {
			want, _ := gormstore.CommandsOf(query, isSQLite)
			for _, same := range []string{" " + query, ";" + query, "/**/" + query} {
				if got, _ := gormstore.CommandsOf(same, isSQLite); fmt.Sprint(got) != fmt.Sprint(want) {
					t.Errorf("%q: got %q, want %q as for %q", same, got, want, query)
				}
			}
		}
	})
}
