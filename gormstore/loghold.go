package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// hold finds the running writer that readers do not read beyond. Of its session
// it returns no statement, as that may contain data.
func (postgres) hold(ctx context.Context, c connection, l *eventLog, at location) (hold *persistence.LogHold, there bool, err error) {
	query := strings.NewReplacer("{head}", headOf(l.table.quoted, "$1::varchar"), "{here}", here(l.table.quoted, "$3"),
		"{below}", belowHead, "{floors}", floors).Replace(`WITH h AS MATERIALIZED (SELECT {head} AS head WHERE {here})
		SELECT h.head, COALESCE(w.floor, h.head), COALESCE(w.pid, 0), COALESCE(w.gid, ''), COALESCE(w.role, ''),
			COALESCE(w.program, ''), COALESCE(w.client, ''), COALESCE(w.state, ''),
			COALESCE(EXTRACT(EPOCH FROM clock_timestamp() - w.began), -1)::float8
		FROM h LEFT JOIN LATERAL (
			SELECT h.head + {below} AS floor, l.pid, p.gid, COALESCE(a.usename, p.owner) AS role,
				a.application_name AS program, a.state,
				CASE WHEN a.client_port = -1 THEN 'local' ELSE host(a.client_addr) || ':' || a.client_port END AS client,
				COALESCE(a.xact_start, p.prepared) AS began
			FROM pg_locks l
			LEFT JOIN pg_stat_activity a ON a.pid = l.pid
			LEFT JOIN (pg_locks x JOIN pg_prepared_xacts p ON p.transaction = x.transactionid)
				ON l.pid IS NULL AND x.virtualtransaction = l.virtualtransaction
			WHERE {floors} AND {below} < 0
			ORDER BY floor, began LIMIT 1) w ON true`)
	var seconds float64
	found := persistence.LogHold{}
	err = c.row(ctx, query, l.application, l.floorKey(at), at.oid).Scan(&found.Newest, &found.Bound, &found.PID, &found.Prepared,
		&found.User, &found.Program, &found.Client, &found.State, &seconds)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, false, nil
	case err != nil:
		return nil, false, err
	case found.Bound >= found.Newest:
		return nil, true, nil
	}
	if seconds >= 0 {
		found.Since = time.Now().Add(-time.Duration(seconds * float64(time.Second))).UTC()
	}
	return &found, true, nil
}

// hold is never called.
func (sqlite) hold(context.Context, connection, *eventLog, location) (*persistence.LogHold, bool, error) {
	panic("gormstore: SQLite has one writer at a time")
}
