package gormstore

import (
	"database/sql/driver"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// logStatements are the parts of PostgreSQL's statements that store events of
// one application.
type logStatements struct {
	events      string // the table, quoted
	application string // the argument with the application's name
	sequence    string // the argument with the number of the sequence, or 0
}

// floor is a common table expression h with the id that new ids must be above,
// and a comma: the highest id that the table's sequence has handed out, or the
// highest in the table if that is above it. The sequence alone could be below
// the table. The table alone is seen as it was when the statement began, and so
// without what was committed while the statement waited for a lock; an id that
// a session has kept from a sequence with a cache would then pass.
//
// The table is searched above the sequence's id alone, where there is nothing
// as a rule. To find its highest id PostgreSQL would have to pass over all ids
// of transactions that are still open, such as the many of an import.
func (l logStatements) floor() string {
	return "h AS MATERIALIZED (SELECT COALESCE((SELECT MAX(a.id) FROM " + l.events + " a WHERE a.id > s.last), s.last) AS floor " +
		"FROM (SELECT COALESCE(pg_sequence_last_value(NULLIF(" + l.sequence + "::bigint, 0)::oid), 0) AS last OFFSET 0) s), "
}

// here is the condition that a connection finds the expected table, as the keys
// of locks depend on that. PostgreSQL looks again if the search path has
// changed.
func here(events, table string) string {
	return "'" + strings.ReplaceAll(events, "'", "''") + "'::regclass::oid = " + table + "::bigint::oid"
}

// insert begins the statement that stores what it selects.
func (l logStatements) insert(selected string) string {
	return "INSERT INTO " + l.events + " (application_name, originator_id, originator_version, topic, state) SELECT " +
		l.application + ", " + selected
}

// continues is the condition that an event continues its stream. The version is
// given as continued returns it.
func (l logStatements) continues(originator, version string) string {
	return continues(l.events, l.application, originator, version)
}

// allContinue is the condition for all first events of a statement. It is
// evaluated once.
func (l logStatements) allContinue(originators, versions string) string {
	return "(SELECT bool_and(" + l.continues("f.o", "f.v") + ") FROM unnest((SELECT " + originators + "::uuid[]), " +
		"(SELECT " + versions + "::bigint[])) AS f(o, v))"
}

// id returns the id of a stored row. A follower may have passed the ids that
// are stored already, so an id that is not above them makes the whole statement
// fail, by a cast whose error has both numbers in it.
func (logStatements) id() string {
	return "CASE WHEN id > (SELECT floor FROM h) THEN id ELSE ('" + lowID + "' || id || ' of ' || (SELECT floor FROM h))::bigint END"
}

// storedIDs stores what is selected, and selects the ids in the order of the
// events, with blanks between them. It selects no row if nothing is stored.
func (l logStatements) storedIDs(selected string) string {
	return ", i AS (" + l.insert(selected) + " RETURNING " + l.id() + " AS id) SELECT string_agg(id::text, ' ') FROM i HAVING count(*) > 0"
}

// parseIDs reads ids with blanks between them. They ascend, as PostgreSQL draws
// them in the order of the events.
func parseIDs(value driver.Value) ([]int64, error) {
	text, ok := value.(string)
	if !ok {
		return nil, fmt.Errorf("the driver returned the ids as %T", value)
	}
	ids := make([]int64, 0, strings.Count(text, " ")+1)
	for field := range strings.FieldsSeq(text) {
		id, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return nil, err
		}
		if len(ids) > 0 && id <= ids[len(ids)-1] {
			return nil, fmt.Errorf("the database returned the ids of one statement in another order: %d before %d", ids[len(ids)-1], id)
		}
		ids = append(ids, id)
	}
	return ids, nil
}

// lowID begins the text that the cast fails with.
const lowID = "eventsourcing: id "

// sequenceError says that a save was refused, because the database gave an
// event an id that is not above those of the events that are stored already:
// followers that have passed it would never see the event. It is a
// persistence.ErrOperational, and nothing is stored.
//
// The sequence of the ids is below the table, after an import, a restore or a
// setval, or caches numbers for each connection.
type sequenceError struct {
	Application string
	Table       string // as it is quoted in statements
	ID          int64  // the id that was given
	Head        int64  // the highest id that is stored in the table
}

func (e *sequenceError) Error() string {
	return fmt.Sprintf("%s: the sequence of %s gave the id %d, and ids up to %d are stored: nothing was stored, because followers "+
		"may have passed that id; stop the writers and run SELECT setval(pg_get_serial_sequence('%s', 'id'), (SELECT max(id) FROM %s)), "+
		"and give the sequence CACHE 1 and INCREMENT 1", e.Application, e.Table, e.ID, e.Head, e.Table, e.Table)
}

// Unwrap makes the error a persistence.ErrOperational.
func (e *sequenceError) Unwrap() error { return persistence.ErrOperational }

// lowIDOf recognises the error of a statement that was given a low id.
func (t *eventTable) lowIDOf(err error) (*sequenceError, bool) {
	_, numbers, found := strings.Cut(err.Error(), `"`+lowID)
	if !found {
		return nil, false
	}
	e := &sequenceError{Application: t.application, Table: t.table.quoted}
	if _, err := fmt.Sscanf(numbers, "%d of %d", &e.ID, &e.Head); err != nil {
		return nil, false
	}
	return e, true
}

// continues is a condition: the newest stored version of an originator is the
// one before, or the originator has no events and this one may begin a stream.
func continues(events, application, originator, version string) string {
	return "COALESCE((SELECT e.originator_version FROM " + events + " e WHERE e.application_name = " + application +
		" AND e.originator_id = " + originator + " ORDER BY e.originator_version DESC LIMIT 1) = abs(" + version + ") - 1, " +
		version + " < 1)"
}

// continued is the version of an event as the condition continues takes it:
// negative if the event may begin a stream.
func continued(e *persistence.StoredEvent) int64 {
	if e.Begins || e.OriginatorVersion == 1 && !e.Continues {
		return -e.OriginatorVersion
	}
	return e.OriginatorVersion
}

// firsts are the first events of each originator in a statement.
type firsts struct {
	originators []uuid.UUID
	versions    []int64 // as continued returns them
}

// add adds the events of a save or of a part of one.
func (f *firsts) add(events []persistence.StoredEvent) {
	var seen map[uuid.UUID]bool
	for i := range events {
		e := &events[i]
		if i > 0 {
			last := events[i-1].OriginatorID
			if e.OriginatorID == last {
				continue
			}
			if seen == nil {
				seen = map[uuid.UUID]bool{}
			}
			if seen[last] = true; seen[e.OriginatorID] {
				continue
			}
		}
		f.originators = append(f.originators, e.OriginatorID)
		f.versions = append(f.versions, continued(e))
	}
}

// array is the originators as PostgreSQL writes an array.
func (f *firsts) array() string {
	var a columns
	for _, id := range f.originators {
		a.addOriginator(id)
	}
	return a.originators()
}
