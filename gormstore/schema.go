package gormstore

import (
	"embed"
	"fmt"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// schemas are the statements that AutoMigrate sends to an empty database; a test writes them down.
//
//go:embed schema/*.sql
var schemas embed.FS

// Schema returns the statements that create the tables in an empty database,
// for migration tools that want SQL. The dialect is "sqlite" or "postgres";
// another one is a persistence.ErrProgramming. The tables have no prefix.
// AutoMigrate leaves tables that were made so as they are.
func Schema(dialect string) (string, error) {
	if dialect != sqliteName && dialect != postgresName {
		return "", &persistence.Error{Class: persistence.ErrProgramming, Op: fmt.Sprintf("gormstore: schema for the dialect %q", dialect),
			Hint: fmt.Sprintf("known are %s and %s", postgresName, sqliteName)}
	}
	text, err := schemas.ReadFile("schema/" + dialect + ".sql")
	return string(text), err
}
