package testdb

import (
	"fmt"
	"strings"
	"testing"

	"gorm.io/gorm"
)

// ofOtherTests recognises, in PostgreSQL, the schemas of a shared database that
// belong to other tests, which change at any time.
const ofOtherTests = ` ~ '^test_[a-z2-7]{26}$' AND current_schema() IS DISTINCT FROM `

// Schema is everything that a database says about its tables, as text. Of a
// database that tests share, it leaves out the schemas of other tests.
func Schema(t testing.TB, db *gorm.DB) string {
	t.Helper()
	queries := []string{"SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"}
	if db.Name() == "postgres" {
		without := func(schema string) string { return " AND NOT (" + schema + ofOtherTests + schema + ") " }
		queries = []string{
			`SELECT table_schema, table_name, column_name, ordinal_position, data_type, character_maximum_length,
				is_nullable, column_default, is_identity
				FROM information_schema.columns WHERE table_schema NOT IN ('pg_catalog', 'information_schema')` +
				without("table_schema::name") + `ORDER BY table_schema, table_name, ordinal_position`,
			`SELECT schemaname, tablename, indexname, indexdef FROM pg_indexes WHERE schemaname <> 'pg_catalog'` +
				without("schemaname") + `ORDER BY 1, 2, 3`,
			`SELECT conrelid::regclass, conname, pg_get_constraintdef(c.oid)
				FROM pg_constraint c JOIN pg_namespace n ON n.oid = connamespace
				WHERE nspname NOT IN ('pg_catalog', 'information_schema')` + without("nspname") + `ORDER BY 1, 2`,
			`SELECT schemaname, sequencename, data_type, start_value, increment_by, cache_size FROM pg_sequences WHERE true` +
				without("schemaname") + `ORDER BY 1, 2`,
		}
	}
	return Dump(t, db, queries...)
}

// Dump is every row that the queries return, as text.
func Dump(t testing.TB, db *gorm.DB, queries ...string) string {
	t.Helper()
	var text strings.Builder
	for _, query := range queries {
		rows, err := db.Raw(query).Rows()
		if err != nil {
			t.Fatalf("%s: %v", query, err)
		}
		columns, err := rows.Columns()
		if err != nil {
			t.Fatal(err)
		}
		for rows.Next() {
			values, targets := make([]any, len(columns)), make([]any, len(columns))
			for i := range values {
				targets[i] = &values[i]
			}
			if err := rows.Scan(targets...); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&text, values...)
		}
		if err := rows.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return text.String()
}
