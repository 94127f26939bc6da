package gormstore

import (
	"context"
	"database/sql/driver"
	"encoding/hex"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"
	"gorm.io/gorm/schema"
)

// UUID is the type of columns that hold a UUID as Django stores it: as uuid on
// PostgreSQL, and as 32 hex digits in a char(32) on SQLite. Use it in your
// models for columns that refer to aggregates, and convert an id to it in
// conditions:
//
//	db.Where("dog_id = ?", gormstore.UUID(dog.ID())).Find(&invoices)
//
// A uuid.UUID in a condition would be sent with hyphens, which match no row on
// SQLite. In a model it would be stored with hyphens, and a column of type uuid
// would destroy some values on SQLite, on which it has numeric affinity.
//
// As text and in JSON a UUID has the usual form with hyphens.
type UUID uuid.UUID

// String returns the usual form with hyphens.
func (u UUID) String() string { return uuid.UUID(u).String() }

// MarshalText implements encoding.TextMarshaler, and so the form in JSON.
func (u UUID) MarshalText() ([]byte, error) { return uuid.UUID(u).MarshalText() }

// UnmarshalText implements encoding.TextUnmarshaler for all forms that
// uuid.Parse understands, the 32 digits among them.
func (u *UUID) UnmarshalText(text []byte) error {
	if err := (*uuid.UUID)(u).UnmarshalText(text); err != nil {
		return fmt.Errorf("gormstore: text of %d bytes is not a UUID: %w", len(text), err)
	}
	return nil
}

// GormDataType implements schema.GormDataTypeInterface.
func (UUID) GormDataType() string { return "uuid" }

// GormDBDataType implements migrator.GormDataTypeInterface.
func (UUID) GormDBDataType(db *gorm.DB, _ *schema.Field) string {
	if db.Dialector.Name() == postgresName {
		return "uuid"
	}
	return "char(32)"
}

// GormValue implements gorm.Valuer, because the form depends on the database.
func (u UUID) GormValue(_ context.Context, db *gorm.DB) clause.Expr {
	if db.Dialector.Name() == postgresName {
		return clause.Expr{SQL: "?", Vars: []any{u.String()}}
	}
	return clause.Expr{SQL: "?", Vars: []any{hexadecimal(uuid.UUID(u))}}
}

// Value implements driver.Valuer for statements that GORM does not build. The
// 32 digits are understood by every database.
func (u UUID) Value() (driver.Value, error) { return hexadecimal(uuid.UUID(u)), nil }

// Scan implements sql.Scanner for all forms of a UUID.
func (u *UUID) Scan(value any) error {
	if err := (*uuid.UUID)(u).Scan(value); err != nil {
		return fmt.Errorf("gormstore: column is not a UUID: %T", value)
	}
	return nil
}

func hexadecimal(id uuid.UUID) string { return hex.EncodeToString(id[:]) }
