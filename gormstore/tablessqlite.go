package gormstore

import (
	"context"
	"fmt"
	"regexp"
	"strings"

	"gorm.io/gorm/schema"
)

// describe reads each table by the pragmas of SQLite.
func (s sqlite) describe(ctx context.Context, c connection, tables []table) ([]description, error) {
	described := make([]description, len(tables))
	for i, t := range tables {
		if err := s.describeTable(ctx, c, t.name, &described[i]); err != nil {
			return nil, err
		}
	}
	return described, nil
}

func (sqlite) describeTable(ctx context.Context, c connection, name string, d *description) error {
	var statement string
	err := c.row(ctx, "SELECT COALESCE(MAX(sql), '') FROM sqlite_master WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE",
		name).Scan(&statement)
	if err != nil || statement == "" {
		return err
	}
	d.exists, d.granted = true, true
	rows, err := c.query(ctx, `SELECT name, LOWER(type), "notnull", dflt_value IS NOT NULL OR hidden > 0, pk > 0 FROM pragma_table_xinfo(?)`, name)
	if err != nil {
		return err
	}
	defer rows.Close()
	keys := 0
	for rows.Next() {
		var a column
		if err := rows.Scan(&a.name, &a.kind, &a.notNull, &a.filled, &a.key); err != nil {
			return err
		}
		if a.primary = a.key; a.key {
			keys++
		}
		d.columns = append(d.columns, a)
	}
	for i := range d.columns {
		if a := &d.columns[i]; a.key && keys == 1 && a.kind == "integer" {
			a.filled = true // it is the number of the row
		}
	}
	if !autoincrement(statement) {
		d.unreliable = "has no AUTOINCREMENT, so that the id of a deleted event is given to another one, which followers pass over"
	}
	return rows.Err()
}

var (
	// sqliteAside is what a statement of SQLite quotes, or comments.
	sqliteAside         = regexp.MustCompile("(?s)'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|`(?:[^`]|``)*`|\\[[^\\]]*\\]|--[^\n]*|/\\*.*?\\*/")
	sqliteAutoincrement = regexp.MustCompile(`(?i)\bAUTOINCREMENT\b`)
)

// autoincrement reports whether a statement that creates a table says so. No
// pragma tells it.
func autoincrement(statement string) bool {
	return sqliteAutoincrement.MatchString(sqliteAside.ReplaceAllString(statement, " "))
}

// affinity is what SQLite turns values into that are stored in a column.
func affinity(kind string) string {
	has := func(part string) bool { return strings.Contains(kind, part) }
	switch {
	case has("int"):
		return "integer"
	case has("char"), has("clob"), has("text"):
		return "text"
	case kind == "", has("blob"):
		return "blob"
	case has("real"), has("floa"), has("doub"):
		return "real"
	}
	return "numeric"
}

// misfit says why the type of a column cannot keep the values of a field: 32
// digits without a letter would become a rounded number in a numeric column.
func (sqlite) misfit(field *schema.Field, c column) string {
	kept := affinity(c.kind)
	switch {
	case field.DBName == "originator_id":
		if kept != "text" {
			return "which cannot keep every UUID"
		}
	case field.GORMDataType == schema.String || field.GORMDataType == schema.Bytes:
		if kept != "text" && kept != "blob" {
			return "which turns texts into numbers"
		}
	case field.GORMDataType == schema.Int:
		if kept == "text" || kept == "real" {
			return "which does not keep whole numbers"
		}
	}
	return ""
}

// mayCreate leaves it to SQLite, which has no roles.
func (sqlite) mayCreate(context.Context, connection, string) (permission, error) {
	return permission{allowed: true}, nil
}

// sequenceLag says by how much the number in sqlite_sequence is below the ids
// in use: new ids are then unlike the old ones only until the newest are
// deleted.
func (sqlite) sequenceLag(ctx context.Context, c connection, t table, d description, key string) (string, error) {
	if d.unreliable != "" {
		return "", nil
	}
	var highest, last int64
	query := "SELECT COALESCE((SELECT MAX(" + key + ") FROM " + t.quoted + "), 0), " +
		"COALESCE((SELECT MAX(seq) FROM sqlite_sequence WHERE name = ? COLLATE NOCASE), 0)"
	if err := c.row(ctx, query, t.name).Scan(&highest, &last); err != nil || last >= highest {
		return "", err
	}
	return fmt.Sprintf("sqlite_sequence is at %d, and the highest id is %d: UPDATE sqlite_sequence SET seq = %d WHERE name = '%s'",
		last, highest, highest, t.name), nil
}
