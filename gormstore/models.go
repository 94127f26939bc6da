package gormstore

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"gorm.io/gorm"
	"gorm.io/gorm/schema"
)

// The models of the tables, as a Django project of the Python library has them,
// so that a database made by either can be used by both. That of events is
// exported for reading in queries of a service; rows are written only by the
// recorders. Schema has all tables for migration tools.

// StoredEvent is a row of the table of events.
type StoredEvent struct {
	ID                int64  `gorm:"primaryKey;autoIncrement;uniqueIndex:,composite:position,priority:2"`
	ApplicationName   string `gorm:"type:varchar(32);not null;uniqueIndex:,composite:originator,priority:1;uniqueIndex:,composite:position,priority:1"`
	OriginatorID      UUID   `gorm:"not null;uniqueIndex:,composite:originator,priority:2"`
	OriginatorVersion int64  `gorm:"type:bigint;not null;uniqueIndex:,composite:originator,priority:3"`
	Topic             string `gorm:"type:text;not null"`
	State             []byte `gorm:"not null"`
}

// storedSnapshot is a row of the table of snapshots.
type storedSnapshot struct {
	UID               int64  `gorm:"column:uid;primaryKey;autoIncrement"`
	ApplicationName   string `gorm:"type:varchar(32);not null;uniqueIndex:,composite:originator,priority:1"`
	OriginatorID      UUID   `gorm:"not null;uniqueIndex:,composite:originator,priority:2"`
	OriginatorVersion int64  `gorm:"type:bigint;not null;uniqueIndex:,composite:originator,priority:3"`
	Topic             string `gorm:"type:text;not null"`
	State             []byte `gorm:"not null"`
}

// notificationTracking is a row of the table of positions. The recorders keep
// one row for each pair of applications; Django keeps one for each
// notification, of which the highest counts.
type notificationTracking struct {
	UID                     int64  `gorm:"column:uid;primaryKey;autoIncrement"`
	ApplicationName         string `gorm:"type:varchar(32);not null;uniqueIndex:,composite:position,priority:1"`
	UpstreamApplicationName string `gorm:"type:varchar(32);not null;uniqueIndex:,composite:position,priority:2"`
	NotificationID          int64  `gorm:"type:bigint;not null;uniqueIndex:,composite:position,priority:3"`
}

// followerStatus is a row of the table of statuses: how a follower stands, for
// other processes and for people to see. No application depends on what is in
// it, and Django does not have it.
type followerStatus struct {
	ApplicationName         string     `gorm:"type:varchar(32);primaryKey"`
	UpstreamApplicationName string     `gorm:"type:varchar(32);primaryKey"`
	State                   string     `gorm:"type:varchar(16);not null"`
	Error                   string     `gorm:"type:text;not null"`
	NotificationID          int64      `gorm:"type:bigint;not null"`
	Ahead                   int64      `gorm:"type:bigint;not null"`
	Since                   *time.Time // NULL unless it fails
	NextRetry               *time.Time // NULL unless it fails
	Heartbeat               time.Time  `gorm:"not null"`
	Process                 string     `gorm:"type:text;not null"`
}

// followerRunner is a row of the table of runners: one that runs a follower,
// and when it last said so. A runner that stops deletes its row, so that one
// which goes on is not taken for stopped. Django does not have it.
type followerRunner struct {
	ApplicationName         string    `gorm:"type:varchar(32);primaryKey"`
	UpstreamApplicationName string    `gorm:"type:varchar(32);primaryKey"`
	Process                 string    `gorm:"type:text;primaryKey"`
	State                   string    `gorm:"type:varchar(16);not null"`
	Heartbeat               time.Time `gorm:"not null"`
}

// followerSetting is a row of the table of settings: what is kept of a follower
// beside its position, so that every process of the follower knows it. Django
// does not have it.
type followerSetting struct {
	ApplicationName         string `gorm:"type:varchar(32);primaryKey"`
	UpstreamApplicationName string `gorm:"type:varchar(32);primaryKey"`
	// The position it began at; NULL before that.
	Began *int64 `gorm:"type:bigint"`
	// A JSON object: since which position each topic is processed; NULL if
	// unknown.
	Topics       *string    `gorm:"type:text"`
	TopicChanges int64      `gorm:"type:bigint;not null"`
	PausedAt     *time.Time // NULL if it is not paused
	PausedBy     string     `gorm:"type:text;not null"`
	UpdatedAt    time.Time  `gorm:"not null"`
}

// followerPartition is a row of the table of partitions: a part of what a
// follower processes of one log, with its position and its lease. There are
// rows only of followers that are divided into partitions; the position of such
// a follower in the table of positions is above every event, so that a program
// that does not know of partitions processes nothing. Django does not have it.
type followerPartition struct {
	ApplicationName         string `gorm:"type:varchar(32);primaryKey"`
	UpstreamApplicationName string `gorm:"type:varchar(32);primaryKey"`
	// From 0, and how many there are.
	Number     int `gorm:"type:bigint;primaryKey;autoIncrement:false"`
	Partitions int `gorm:"type:bigint;not null"`
	// What events are divided by; empty for their originators.
	PartitionKey string `gorm:"type:text;not null"`
	Position     int64  `gorm:"type:bigint;not null"`
	// The token of the lease; it grows with each one.
	Fence     int64  `gorm:"type:bigint;not null"`
	Owner     string `gorm:"type:text;not null"` // empty if it is not leased
	Successor string `gorm:"type:text;not null"` // who has asked for the lease
	// When the lease ends by the database's clock, in microseconds since 1970.
	LeasedUntil    int64      `gorm:"type:bigint;not null"`
	Error          string     `gorm:"type:text;not null"`
	NotificationID int64      `gorm:"type:bigint;not null"`
	Since          *time.Time // NULL unless it fails
}

// parkedEvent is a row of the table of events that followers have parked.
// Django does not have it.
type parkedEvent struct {
	ApplicationName         string    `gorm:"type:varchar(32);primaryKey"`
	UpstreamApplicationName string    `gorm:"type:varchar(32);primaryKey"`
	NotificationID          int64     `gorm:"type:bigint;primaryKey;autoIncrement:false"`
	OriginatorID            UUID      `gorm:"not null"`
	OriginatorVersion       int64     `gorm:"type:bigint;not null"`
	Topic                   string    `gorm:"type:text;not null"`
	Error                   string    `gorm:"type:text;not null"`
	ParkedAt                time.Time `gorm:"not null"`
}

// TableName implements gorm's schema.TablerWithNamer, so that a table prefix
// applies.
func (StoredEvent) TableName(namer schema.Namer) string { return prefix(namer) + "stored_events" }

// TableName implements gorm's schema.TablerWithNamer.
func (storedSnapshot) TableName(namer schema.Namer) string { return prefix(namer) + "snapshots" }

// TableName implements gorm's schema.TablerWithNamer.
func (notificationTracking) TableName(namer schema.Namer) string {
	return prefix(namer) + "notification_tracking"
}

// TableName implements gorm's schema.TablerWithNamer.
func (followerStatus) TableName(namer schema.Namer) string { return prefix(namer) + "follower_status" }

// TableName implements gorm's schema.TablerWithNamer.
func (followerRunner) TableName(namer schema.Namer) string { return prefix(namer) + "follower_runners" }

// TableName implements gorm's schema.TablerWithNamer.
func (followerSetting) TableName(namer schema.Namer) string {
	return prefix(namer) + "follower_settings"
}

// TableName implements gorm's schema.TablerWithNamer.
func (followerPartition) TableName(namer schema.Namer) string {
	return prefix(namer) + "follower_partitions"
}

// TableName implements gorm's schema.TablerWithNamer.
func (parkedEvent) TableName(namer schema.Namer) string { return prefix(namer) + "parked_events" }

// ownModels are the models of all tables of this module.
func ownModels() []any {
	return []any{&StoredEvent{}, &storedSnapshot{}, &notificationTracking{}, &followerStatus{}, &parkedEvent{},
		&followerRunner{}, &followerSetting{}, &followerPartition{}}
}

// keys are the unique keys that the recorders cannot do without, their columns
// sorted. That of positions is not among them: a lock protects positions.
var keys = map[string][]string{
	"stored_events":       {"application_name", "originator_id", "originator_version"},
	"snapshots":           {"application_name", "originator_id", "originator_version"},
	"follower_status":     {"application_name", "upstream_application_name"},
	"parked_events":       {"application_name", "notification_id", "upstream_application_name"},
	"follower_runners":    {"application_name", "process", "upstream_application_name"},
	"follower_settings":   {"application_name", "upstream_application_name"},
	"follower_partitions": {"application_name", "number", "upstream_application_name"},
}

// prefix is the table prefix of GORM's own naming strategy. Others have no
// prefix that could be asked for.
func prefix(namer schema.Namer) string {
	switch n := namer.(type) {
	case schema.NamingStrategy:
		return n.TablePrefix
	case *schema.NamingStrategy:
		return n.TablePrefix
	}
	return ""
}

// tables are the names of the tables in a database, as they are and quoted for
// statements.
type tables struct {
	events, snapshots, tracking, status, parked, runners, settings, partitions table
}

type table struct {
	schema string // "" is the connection's own
	name   string
	quoted string
}

func tablesOf(db *gorm.DB) tables {
	return tables{
		events:     tableOf(db, StoredEvent{}),
		snapshots:  tableOf(db, storedSnapshot{}),
		tracking:   tableOf(db, notificationTracking{}),
		status:     tableOf(db, followerStatus{}),
		parked:     tableOf(db, parkedEvent{}),
		runners:    tableOf(db, followerRunner{}),
		settings:   tableOf(db, followerSetting{}),
		partitions: tableOf(db, followerPartition{}),
	}
}

// all are the tables, that of events first.
func (t tables) all() []table {
	return []table{t.events, t.snapshots, t.tracking, t.status, t.parked, t.runners, t.settings, t.partitions}
}

// plainName is what a prefix may make of the names of tables and schemas.
// Anything else would have to be quoted in more ways than one, and one of them
// would be forgotten.
var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// check refuses names that are not plain, and names that PostgreSQL would cut
// off.
func (t tables) check() error {
	for _, one := range t.all() {
		if !plainName.MatchString(one.name) || one.schema != "" && !plainName.MatchString(one.schema) {
			return fmt.Errorf("the table prefix makes the name %q; letters, digits and _ are allowed in it, and one dot after a schema",
				strings.TrimPrefix(one.schema+"."+one.name, "."))
		}
		if len(one.name) > longestName {
			return fmt.Errorf("the table prefix makes the name %q, which is longer than %d characters", one.name, longestName)
		}
	}
	return nil
}

// longestName is PostgreSQL's limit.
const longestName = 63

func tableOf(db *gorm.DB, model schema.TablerWithNamer) table {
	return tableNamed(db, model.TableName(db.NamingStrategy))
}

// tableNamed is the table of a name, which may have a schema.
func tableNamed(db *gorm.DB, full string) table {
	t := table{name: full, quoted: db.Statement.Quote(full)}
	if before, after, ok := strings.Cut(full, "."); ok {
		t.schema, t.name = before, after
	}
	return t
}
