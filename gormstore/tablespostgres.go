package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"gorm.io/gorm/schema"
)

// namedTables is o: the tables that are asked for, with the schemas of the
// search path that have one of the name with a column of ours.
const namedTables = `, o AS MATERIALIZED (SELECT n.*, (SELECT string_agg(s.name::text, E'\n')
	FROM unnest(current_schemas(false)) AS s (name)
	JOIN pg_class k ON k.oid = to_regclass(quote_ident(s.name) || '.' || quote_ident(n.plain))
	WHERE n.plain <> '' AND k.relkind IN ('r', 'p', 'v', 'm', 'f')
	AND EXISTS (SELECT FROM pg_attribute x WHERE x.attrelid = k.oid AND x.attname = 'application_name')) AS schemas FROM named n) `

// describeTables has a row for each column of each table in o, and one for a
// table without columns or that does not exist. GORM's ColumnTypes is of no
// use: it needs a client encoding of UTF8, and does not know sequences.
const describeTables = `SELECT o.number, c.oid IS NOT NULL, COALESCE(n.nspname::text, ''), current_user::text,
	COALESCE(o.schemas, ''),
	COALESCE(has_table_privilege(c.oid, 'SELECT'), false),
	COALESCE(row_security_active(c.oid), false) AND (
		EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND NOT p.polpermissive)
		OR NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid AND p.polpermissive AND p.polcmd = '*'
			AND pg_get_expr(p.polqual, p.polrelid) = 'true' AND COALESCE(pg_get_expr(p.polwithcheck, p.polrelid), 'true') = 'true'
			AND EXISTS (SELECT FROM unnest(p.polroles) r WHERE r = 0 OR pg_has_role(r, 'USAGE')))),
	COALESCE(a.attname::text, ''), COALESCE(format_type(a.atttypid, a.atttypmod), ''),
	COALESCE(format_type(COALESCE(NULLIF(t.typbasetype, 0), t.oid), NULL), ''),
	COALESCE(CASE WHEN t.typtype = 'd' THEN t.typtypmod ELSE a.atttypmod END, -1),
	COALESCE(a.attnotnull OR t.typnotnull, false),
	EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey)),
	COALESCE(a.atthasdef OR a.attidentity <> '' OR t.typdefault IS NOT NULL OR EXISTS (SELECT FROM pg_trigger g
		WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgenabled <> 'D' AND g.tgtype & 7 = 7), false),
	COALESCE(quote_ident(qn.nspname::text) || '.' || quote_ident(qc.relname::text), ''), COALESCE(format_type(q.seqtypid, NULL), ''),
	COALESCE(q.seqincrement, 0), COALESCE(q.seqcache, 0), COALESCE(q.seqmax, 0), COALESCE(q.seqcycle, false),
	COALESCE(has_sequence_privilege(q.seqrelid, 'SELECT'), false),
	COALESCE(a.attidentity <> '' OR has_sequence_privilege(q.seqrelid, 'USAGE, UPDATE'), false),
	COALESCE(CASE WHEN has_sequence_privilege(q.seqrelid, 'USAGE, SELECT') THEN pg_sequence_last_value(q.seqrelid) END, 0),
	CASE c.relpersistence WHEN 't' THEN 'is a temporary table of this connection: rename or drop it, or give the tables another prefix'
		WHEN 'u' THEN 'is UNLOGGED, so a crash of the server empties it: ALTER TABLE ' || o.quoted || ' SET LOGGED' ELSE '' END
	FROM o
	LEFT JOIN pg_class c ON c.oid = to_regclass(o.quoted)
	LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
	LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
	LEFT JOIN pg_type t ON t.oid = a.atttypid
	` + sequenceOf + `
	LEFT JOIN pg_class qc ON qc.oid = q.seqrelid
	LEFT JOIN pg_namespace qn ON qn.oid = qc.relnamespace
	ORDER BY o.number, a.attnum`

// sequenceOf joins q, the sequence that a column a takes its numbers from.
const sequenceOf = `LEFT JOIN LATERAL (SELECT p.* FROM (
		SELECT d.objid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
			AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
		UNION ALL
		SELECT d.refobjid FROM pg_attrdef f JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
			AND d.refclassid = 'pg_class'::regclass
			WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum) d JOIN pg_sequence p ON p.seqrelid = d.objid LIMIT 1) q ON true`

// describe asks for all tables in one round trip.
func (p postgres) describe(ctx context.Context, c connection, tables []table) ([]description, error) {
	var query strings.Builder
	var arguments []any
	query.WriteString("WITH named (number, quoted, plain) AS (VALUES ")
	for i, t := range tables {
		if i > 0 {
			query.WriteString(", ")
		}
		fmt.Fprintf(&query, "(%d, ?::text, ?::text)", i)
		plain := t.name
		if t.schema != "" {
			plain = "" // the search path has no part in it
		}
		arguments = append(arguments, t.quoted, plain)
	}
	query.WriteString(")" + namedTables + describeTables)
	rows, err := c.query(ctx, p.placeholders(query.String()), arguments...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	described := make([]description, len(tables))
	for rows.Next() {
		var number, modifier int
		var d description
		var a column
		var schemas string
		var unreliable sql.NullString
		q := &a.source
		if err := rows.Scan(&number, &d.exists, &d.schema, &d.role, &schemas, &d.granted, &d.hidden,
			&a.name, &a.kind, &a.base, &modifier, &a.notNull, &a.primary, &a.filled,
			&q.quoted, &q.kind, &q.increment, &q.cache, &q.limit, &q.cycles, &q.readable, &q.granted, &q.last, &unreliable); err != nil {
			return nil, err
		}
		if strings.HasPrefix(a.base, "character") && modifier > 4 {
			a.length = modifier - 4
		}
		if schemas != "" {
			d.schemas = strings.Split(schemas, "\n")
		}
		d.unreliable = unreliable.String
		d.columns = described[number].columns
		if a.name != "" {
			d.columns = append(d.columns, a)
		}
		described[number] = d
	}
	return described, rows.Err()
}

// postgresTypes are the types that a field may have, by the kind of the field.
var postgresTypes = map[schema.DataType][]string{
	schema.Int:    {"bigint"},
	schema.String: {"character varying", "text"},
	schema.Bytes:  {"bytea"},
	schema.Time:   {"timestamp with time zone"},
}

// misfit says why the type of a column cannot keep the values of a field.
func (postgres) misfit(field *schema.Field, c column) string {
	if field.DBName == "originator_id" {
		if c.base != "uuid" {
			return "which cannot keep every UUID"
		}
		return ""
	}
	types := postgresTypes[field.GORMDataType]
	fits := false
	for _, one := range types {
		fits = fits || c.base == one
	}
	if field.AutoIncrement && c.base == "integer" {
		return "" // as old versions of Django have it, until its ids run out
	}
	if !fits {
		return "and needs " + strings.Join(types, " or ")
	}
	if need := textLength(field); c.length > 0 && (need == 0 || c.length < need) {
		return "which is too short"
	}
	return ""
}

// mayCreate reports whether the role may create tables in a schema; "" is the
// first of the search path. Of a schema that does not exist the database says
// it better.
func (p postgres) mayCreate(ctx context.Context, c connection, name string) (may permission, err error) {
	query := "SELECT nspname::text, has_schema_privilege(oid, 'CREATE') FROM pg_namespace " +
		"WHERE nspname = COALESCE(NULLIF(?::text, ''), current_schema()::text)"
	err = c.row(ctx, p.placeholders(query), name).Scan(&may.schema, &may.allowed)
	if errors.Is(err, sql.ErrNoRows) {
		return permission{allowed: true}, nil
	}
	return may, err
}

// sequenceLag says by how much the sequence of a column is below the ids in
// use. One statement reads both, and the sequence last: a concurrent save is in
// both.
func (p postgres) sequenceLag(ctx context.Context, c connection, t table, d description, key string) (string, error) {
	for _, a := range d.columns {
		q := a.source
		if a.name != key || q.quoted == "" || !q.readable || q.increment < 1 {
			continue
		}
		var highest, last int64
		var called bool
		query := "SELECT COALESCE((SELECT MAX(" + key + ") FROM " + t.quoted + "), 0), last_value, is_called FROM " + q.quoted
		if err := c.row(ctx, query).Scan(&highest, &last, &called); err != nil {
			return "", err
		}
		if last > highest || last == highest && called {
			return "", nil
		}
		return fmt.Sprintf("sequence %s is at %d, and the highest id is %d, so that new ids are among the old ones: "+
			"SELECT setval('%s', %d)", q.quoted, last, highest, strings.ReplaceAll(q.quoted, "'", "''"), highest), nil
	}
	return "", nil
}

// prepare looks at the tables once, for what would lose events or hide them
// without an error: a database that was never validated must not do that
// either.
func (p postgres) prepare(ctx context.Context, s *Store, joined *txScope) (bool, error) {
	c := connection{s.pool, s}
	if joined != nil {
		joined.turns.statement.Lock()
		defer joined.turns.statement.Unlock()
		c.pool = joined.connection()
	} else if err := s.waitForConnection(ctx, s.lockTimeout); err != nil {
		return false, err
	}
	described, err := p.describe(ctx, c.quiet(), s.tables.all())
	if err != nil {
		return false, err
	}
	hazards := ambiguity(described)
	for i, d := range described {
		if d.hidden && d.granted {
			hazards = append(hazards, hiding(s.tables.all()[i].name, d.role))
		}
	}
	events := described[0]
	if events.unreliable != "" {
		hazards = append(hazards, "table "+s.tables.events.name+" "+events.unreliable)
	}
	hazards = append(hazards, flaws(events.columns)...)
	return events.exists, schemaError(hazards)
}
