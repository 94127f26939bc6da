package gormstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"gorm.io/gorm"
	"gorm.io/gorm/logger"
	"gorm.io/gorm/schema"
)

// description is what the database says about a table.
type description struct {
	exists  bool
	schema  string   // "" on SQLite
	schemas []string // those of the search path that have the table
	role    string   // the current user; "" on SQLite
	granted bool     // the role may read the table
	hidden  bool     // row level security hides rows from the role
	columns []column
	// unreliable says why rows are lost, or ids are not unique and ascending.
	// It is "" if they are, and if the columns say so already.
	unreliable string
}

// column is what the database says about a column.
type column struct {
	name    string
	kind    string // the type as it was declared, in lower case
	base    string // the type without its length, of a domain that of its base
	length  int    // of a text; 0 is unlimited
	notNull bool
	filled  bool // the database has a value if an INSERT names none
	primary bool // part of the primary key
	key     bool // primary, on SQLite, whose key columns may lack NOT NULL and a default
	source  sequence
}

// sequence is the source of a column's ids. The zero sequence is none.
type sequence struct {
	quoted    string // with its schema
	kind      string
	increment int64
	cache     int64
	limit     int64
	last      int64 // 0 if it is not known
	cycles    bool
	readable  bool
	granted   bool
}

// inspection is what the tables of a database are like.
type inspection struct {
	absent      []any // models without a table
	differences []string
	warnings    []string // what works now, and will not for ever
	schema      string   // the schema to create tables in; "" is the first of the search path
	blocked     bool     // nothing may be created
	// refusals names each absent table that only followers need, and why it
	// cannot be created.
	refusals []string
}

// creates reports whether there is something to create.
func (i inspection) creates() bool { return len(i.absent) > 0 && !i.blocked }

// withheld are the differences if tables are absent and cannot be created.
func (i inspection) withheld() []string {
	if !i.blocked {
		return nil
	}
	return i.refusals
}

// inspect compares the tables of all models with what the recorders need.
func (s *Store) inspect(ctx context.Context, c connection) (found inspection, err error) {
	tx := s.session(ctx, c.pool)
	models := ownModels()
	described, err := s.dialect.describe(ctx, c, tablesOfModels(tx, models))
	if err != nil {
		return found, err
	}
	ambiguous := ambiguity(described)
	found.differences = append(found.differences, ambiguous...)
	for i, model := range models {
		table := described[i]
		switch {
		case !table.exists:
			found.absent = append(found.absent, model)
		case !table.granted:
			found.differences = append(found.differences, ungranted(s.nameOf(model), table.role))
		default:
			if err := s.compare(ctx, c, tx, model, table, &found); err != nil {
				return found, err
			}
		}
		if found.schema == "" {
			found.schema = table.schema
		}
	}
	if len(found.absent) == 0 {
		return found, nil
	}
	if len(ambiguous) > 0 {
		found.blocked = true
		return found, nil
	}
	err = s.refuse(ctx, c, described[0].role, &found)
	return found, err
}

func tablesOfModels(tx *gorm.DB, models []any) []table {
	all := make([]table, len(models))
	for i, model := range models {
		all[i] = tableOf(tx, model.(schema.TablerWithNamer))
	}
	return all
}

// ambiguity is the difference if tables are in several schemas of the search
// path: another connection, or this one after a change of its path, would use
// others.
func ambiguity(described []description) []string {
	var schemas []string
	for _, table := range described {
		schemas = append(schemas, table.schemas...)
	}
	slices.Sort(schemas)
	if schemas = slices.Compact(schemas); len(schemas) < 2 {
		return nil
	}
	return []string{fmt.Sprintf("the schemas %s of the search path have tables for events; "+
		"set a search_path that has one of them, or a table prefix with the schema", strings.Join(schemas, " and "))}
}

func ungranted(table, role string) string {
	return fmt.Sprintf("table %s exists, and the role %s may not use it: GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s",
		table, role, table, role)
}

// refuse finds out whether the role may create what is absent.
func (s *Store) refuse(ctx context.Context, c connection, role string, found *inspection) error {
	where := found.schema
	if where == "" {
		where = s.tables.events.schema
	}
	may, err := s.dialect.mayCreate(ctx, c, where)
	if err != nil || may.allowed {
		return err
	}
	found.blocked = true
	grant := fmt.Sprintf("GRANT CREATE ON SCHEMA %s TO %s, or have their owner create them with the statements of Schema", may.schema, role)
	var own []string
	for _, model := range found.absent {
		if isOwn(model) {
			own = append(own, s.nameOf(model))
			continue
		}
		found.refusals = append(found.refusals, fmt.Sprintf("table %s is missing, and the role %s may not create it: %s",
			s.nameOf(model), role, grant))
	}
	if len(own) > 0 {
		found.warnings = append(found.warnings, fmt.Sprintf("the tables %s are missing, and the role %s may not create them; "+
			"without them followers cannot park events, be paused, or show their status to other processes: %s",
			strings.Join(own, ", "), role, grant))
	}
	return nil
}

// permission says whether tables may be created in a schema.
type permission struct {
	allowed bool
	schema  string
}

// compare finds how a table differs from what its model needs.
func (s *Store) compare(ctx context.Context, c connection, tx *gorm.DB, model any, table description, found *inspection) error {
	statement := &gorm.Statement{DB: tx}
	if err := statement.Parse(model); err != nil {
		return err
	}
	add := func(format string, arguments ...any) {
		found.differences = append(found.differences, fmt.Sprintf(format, arguments...))
	}
	if table.hidden {
		add("%s", hiding(statement.Table, table.role))
	}
	known := map[string]bool{}
	for _, field := range statement.Schema.Fields {
		i := slices.IndexFunc(table.columns, func(c column) bool { return c.name == field.DBName })
		if i < 0 {
			add("table %s has no column %s", statement.Table, field.DBName)
			continue
		}
		known[field.DBName] = true
		for _, difference := range s.differencesOf(field, table.columns[i]) {
			add("column %s.%s %s", statement.Table, field.DBName, difference)
		}
		if field.AutoIncrement {
			exhausted, warning := exhaustion(table.columns[i])
			if exhausted {
				add("column %s.%s %s", statement.Table, field.DBName, warning)
			} else if warning != "" {
				found.warnings = append(found.warnings, fmt.Sprintf("column %s.%s %s", statement.Table, field.DBName, warning))
			}
		}
	}
	for _, column := range table.columns {
		if !slices.ContainsFunc(statement.Schema.Fields, func(f *schema.Field) bool { return f.DBName == column.name }) &&
			column.notNull && !column.filled {
			add("table %s has the column %s, which is NOT NULL and has no default, so no row can be added", statement.Table, column.name)
		}
	}
	if table.unreliable != "" && isEvents(model) {
		add("table %s %s", statement.Table, table.unreliable)
	}
	if isEvents(model) {
		for _, flaw := range flaws(table.columns) {
			add("table %s: %s", statement.Table, flaw)
		}
	}
	key, keyed := keys[model.(schema.TablerWithNamer).TableName(nil)], true
	if len(key) > 0 && !slices.ContainsFunc(key, func(name string) bool { return !known[name] }) {
		var err error
		if keyed, err = hasKey(tx, tableOf(tx, model.(schema.TablerWithNamer)), key...); err != nil {
			return err
		}
		if !keyed {
			add("table %s has no unique key over %s", statement.Table, strings.Join(key, ", "))
		}
	}
	switch difference, err := keyDifference(tx, tableOf(tx, model.(schema.TablerWithNamer)), statement.Table, statement.Schema, table); {
	case err != nil:
		return err
	// A difference that is only the lack of the key is reported above.
	case difference != "" && (keyed || len(statement.Schema.PrimaryFieldDBNames) != len(key)):
		add("%s", difference)
	}
	if field := statement.Schema.PrioritizedPrimaryField; field != nil && field.AutoIncrement && known[field.DBName] && !table.hidden {
		lag, err := s.dialect.sequenceLag(ctx, c, tableOf(tx, model.(schema.TablerWithNamer)), table, field.DBName)
		if err != nil {
			return err
		}
		if lag != "" {
			add("table %s: %s", statement.Table, lag)
		}
	}
	return nil
}

func hiding(table, role string) string {
	return fmt.Sprintf("row level security of table %s may hide rows from the role %s: give the role BYPASSRLS, make it the owner "+
		"without FORCE ROW LEVEL SECURITY, or give it a policy FOR ALL with USING (true)", table, role)
}

func isEvents(model any) bool {
	_, is := model.(*StoredEvent)
	return is
}

// differencesOf says how a column differs from a field.
func (s *Store) differencesOf(field *schema.Field, c column) (differences []string) {
	if misfit := s.dialect.misfit(field, c); misfit != "" {
		differences = append(differences, "has type "+c.kind+", "+misfit)
	}
	switch {
	case field.NotNull && !c.notNull && !c.key:
		differences = append(differences, "allows NULL")
	case strings.HasPrefix(field.FieldType.String(), "*") && c.notNull:
		differences = append(differences, "does not allow NULL")
	}
	if field.AutoIncrement && !c.filled {
		differences = append(differences, "has neither a sequence nor an identity, so no row gets an id")
	}
	return differences
}

// flaws are the properties of the sequence by which ids would not ascend in the
// order of the log.
func flaws(columns []column) (flaws []string) {
	for _, c := range columns {
		q := c.source
		if c.name != "id" {
			continue
		}
		if q.quoted == "" && c.filled && !c.key {
			flaws = append(flaws, "column id takes its values from a function or a trigger, so nothing shows whether they ascend: "+
				"ALTER TABLE ... ALTER COLUMN id SET DEFAULT nextval('...')")
		}
		if q.quoted == "" {
			continue
		}
		if q.cache > 1 {
			flaws = append(flaws, fmt.Sprintf("sequence %s has CACHE %d, so that ids of two connections are out of order "+
				"and followers pass over events: ALTER SEQUENCE %s CACHE 1", q.quoted, q.cache, q.quoted))
		}
		if q.increment < 1 {
			flaws = append(flaws, fmt.Sprintf("sequence %s has INCREMENT %d, so that ids descend: ALTER SEQUENCE %s INCREMENT 1",
				q.quoted, q.increment, q.quoted))
		}
		if q.cycles {
			flaws = append(flaws, fmt.Sprintf("sequence %s has CYCLE, so that it hands out old ids at its end: ALTER SEQUENCE %s NO CYCLE",
				q.quoted, q.quoted))
		}
	}
	return flaws
}

// widths are the greatest values of whole numbers.
var widths = map[string]int64{"smallint": 1<<15 - 1, "integer": 1<<31 - 1, "bigint": 1<<63 - 1}

// exhaustion says how a column that hands out ids will run out of them: with a
// warning from one half on, as a difference from nine tenths on.
func exhaustion(c column) (exhausted bool, text string) {
	q := c.source
	if q.quoted == "" {
		return false, ""
	}
	if !q.granted {
		return true, fmt.Sprintf("uses the sequence %s, which the role may not: GRANT USAGE ON SEQUENCE %s TO it", q.quoted, q.quoted)
	}
	if c.base == "bigint" && q.kind != "bigint" {
		return true, fmt.Sprintf("is a bigint, and its sequence %s ends as a %s: ALTER SEQUENCE %s AS bigint", q.quoted, q.kind, q.quoted)
	}
	limit := q.limit
	if width, known := widths[c.base]; known {
		limit = min(limit, width)
	}
	text = fmt.Sprintf("has used %d of %d ids; make the column and its sequence %s a bigint, with a higher MAXVALUE, before they run out",
		q.last, limit, q.quoted)
	switch {
	case q.last/9 >= limit/10:
		return true, text
	case q.last > limit/2:
		return false, text
	}
	return false, ""
}

// textLength is the length that a field needs, or 0 if it is unlimited.
func textLength(field *schema.Field) int {
	_, length, _ := strings.Cut(strings.TrimSuffix(string(field.DataType), ")"), "(")
	n, err := strconv.Atoi(length)
	if err != nil {
		return 0
	}
	return n
}

// hasTable reports whether the connection finds the table of a model. GORM's
// own HasTable takes an error of the database for an answer.
func hasTable(tx *gorm.DB, model any) (exists bool, err error) {
	return finds(tx, tableOf(tx, model.(schema.TablerWithNamer)))
}

// finds reports whether the connection finds a table.
func finds(tx *gorm.DB, table table) (exists bool, err error) {
	query, name := "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type IN ('table', 'view') AND name = ? COLLATE NOCASE)", table.name
	if tx.Dialector.Name() == postgresName {
		query, name = "SELECT to_regclass(?) IS NOT NULL", table.quoted
	}
	err = tx.Session(&gorm.Session{Logger: logger.Discard}).Raw(query, name).Scan(&exists).Error
	return exists, err
}

// keyQueries count the unique keys of a table over exactly the columns that are
// given, sorted and with commas between. GORM's own list of a table's indexes
// leaves out those of PostgreSQL that belong to a constraint, as Django's do. A
// key that is checked only at the commit does not count.
var keyQueries = map[string]string{
	postgresName: `SELECT COUNT(*) FROM pg_index i
		WHERE i.indrelid = to_regclass(?) AND i.indisunique AND i.indimmediate AND i.indisvalid
		AND i.indpred IS NULL AND i.indexprs IS NULL
		AND (SELECT string_agg(a.attname, ',' ORDER BY a.attname) FROM pg_attribute a
			WHERE a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])) = ?`,
	sqliteName: `SELECT COUNT(*) FROM pragma_index_list(?) AS l WHERE l."unique" AND NOT l.partial
		AND (SELECT group_concat(name) FROM (SELECT name FROM pragma_index_info(l.name) ORDER BY name)) = ?`,
}

// hasKey reports whether a table has a unique key over exactly these columns,
// which are given sorted.
func hasKey(tx *gorm.DB, table table, columns ...string) (bool, error) {
	name := table.name
	if tx.Dialector.Name() == postgresName {
		name = table.quoted
	}
	var keys int
	err := tx.Session(&gorm.Session{Logger: logger.Discard}).Raw(keyQueries[tx.Dialector.Name()], name, strings.Join(columns, ",")).Scan(&keys).Error
	return keys > 0, err
}

// has reports whether the table has a column.
func (d description) has(name string) bool {
	return slices.ContainsFunc(d.columns, func(c column) bool { return c.name == name })
}

// primaryKey returns the columns of the primary key, sorted.
func (d description) primaryKey() (columns []string) {
	for _, c := range d.columns {
		if c.primary {
			columns = append(columns, c.name)
		}
	}
	slices.Sort(columns)
	return columns
}

// keyDifference says how the primary key of a table differs from that of its
// model, or returns "" if the table keeps the same rows apart and refuses the
// same duplicates. It does so with another primary key, too:
//
//   - if it also has a unique key over the columns of the model's key, unless its
//     primary key has some of these columns alone and so refuses too much;
//   - if the model's key is an id that the database counts, and the table's has
//     further columns, as that of a partitioned table must.
func keyDifference(tx *gorm.DB, t table, name string, model *schema.Schema, d description) (string, error) {
	wanted, given := slices.Clone(model.PrimaryFieldDBNames), d.primaryKey()
	slices.Sort(wanted)
	if len(wanted) == 0 || slices.Equal(wanted, given) {
		return "", nil
	}
	if slices.ContainsFunc(wanted, func(column string) bool { return !d.has(column) }) && len(given) == 0 {
		return "", nil // the column is the difference
	}
	within := func(part, whole []string) bool {
		return !slices.ContainsFunc(part, func(column string) bool { return !slices.Contains(whole, column) })
	}
	counted := len(wanted) == 1 && model.FieldsByDBName[wanted[0]].AutoIncrement
	if counted && within(wanted, given) {
		return "", nil
	}
	if len(given) == 0 || !within(given, wanted) {
		if keyed, err := hasKey(tx, t, wanted...); keyed || err != nil {
			return "", err
		}
	}
	has := "no primary key"
	if len(given) > 0 {
		has = "the primary key (" + strings.Join(given, ", ") + ")"
	}
	return fmt.Sprintf("table %s has %s, and its model has (%s)", name, has, strings.Join(wanted, ", ")), nil
}
