package gormstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// dividedPosition is the position, in the table of positions, of a follower
// that is divided into partitions. It is above every event: a program that does
// not know of partitions, such as one of the Python library, finds nothing
// after it, and cannot move it.
const dividedPosition = 1 << 62

func isDivided(position sql.NullInt64) bool {
	return position.Valid && position.Int64 == dividedPosition
}

// ofPartitions is the condition that selects the partitions of a follower.
const ofPartitions = " WHERE application_name = ? AND upstream_application_name = ?"

// lowest is the lowest position of the partitions of a follower whose position
// says that it is divided, and how many there are. If it has been made whole
// since that was read, it is the position, and there are none. If they are
// damaged, the position is that of the rows there are. One statement reads the
// position with the partitions: between two the follower could be made whole
// and be divided again, and seem to be damaged.
func (r *processRecorder) lowest(ctx context.Context, c connection, upstream string) (position int64, count int, err error) {
	query := "SELECT COALESCE(MIN(position), 0), COUNT(*), COALESCE(MIN(partitions), 0), COALESCE(MAX(partitions), 0)," +
		" COALESCE(MIN(number), 0), COALESCE(MAX(number), 0), COUNT(DISTINCT partition_key)," +
		" (SELECT MAX(notification_id) FROM " + r.tracking.quoted + ofPartitions + ") FROM " +
		r.store.tables.partitions.quoted + ofPartitions
	var fewest, most, first, last, keys int
	var whole sql.NullInt64
	err = c.row(ctx, r.store.dialect.placeholders(query), r.application, upstream, r.application, upstream).
		Scan(&position, &count, &fewest, &most, &first, &last, &keys, &whole)
	switch {
	case err != nil:
	case !isDivided(whole):
		return whole.Int64, 0, nil
	case count == 0:
		err = r.damaged(upstream, "its position says that it is divided into partitions, and there are none")
	case fewest != most || most != count || first != 0 || last != count-1:
		err = r.damaged(upstream, fmt.Sprintf("it has %d partitions, from %d to %d, and their rows say that there are %d", count, first, last, most))
	case keys != 1:
		err = r.damaged(upstream, fmt.Sprintf("its partitions have %d different keys", keys))
	case position < 0:
		err = r.damaged(upstream, fmt.Sprintf("one of its partitions has the position %d", position))
	}
	return position, count, err
}

// damaged is the error if the rows of partitions do not fit together. To go on
// with what is left would leave out events or repeat them.
func (r *processRecorder) damaged(upstream, problem string) error {
	return &persistence.Error{Class: capability.ErrPartitionsDamaged, Op: r.application + ": read the partitions in " + upstream,
		Err: errors.New(problem), Hint: "restore the rows of " + r.store.tables.partitions.name + ", or reset the follower"}
}

// Partitions implements capability.PartitionRecorder.
func (r *processRecorder) Partitions(ctx context.Context, upstream string) (persistence.PartitionSet, error) {
	op := r.application + ": read partitions"
	c, done, err := r.store.reader(ctx, op)
	if err != nil {
		return persistence.PartitionSet{}, err
	}
	defer done()
	set, err := r.divided(ctx, c, upstream)
	return set, r.store.translate(ctx, op, err)
}

// divided reads the partitions of a follower. The set is empty unless its
// position says that it is divided, and if it was made whole meanwhile. The
// position comes first: most followers are not divided, and a database may not
// have the table of partitions yet.
func (r *processRecorder) divided(ctx context.Context, c connection, upstream string) (set persistence.PartitionSet, err error) {
	position, err := r.position(ctx, c, upstream)
	if err != nil || !isDivided(position) {
		return set, err
	}
	if _, count, err := r.lowest(ctx, c, upstream); err != nil || count == 0 {
		return set, err
	}
	return r.partitions(ctx, c, upstream)
}

// partitions reads the rows of a follower's partitions.
func (r *processRecorder) partitions(ctx context.Context, c connection, upstream string) (set persistence.PartitionSet, err error) {
	now, err := r.store.dialect.now(ctx, c)
	if err != nil {
		return set, err
	}
	ahead := time.Now().UTC().Sub(now)
	query := "SELECT number, partition_key, position, fence, owner, successor, leased_until, error, notification_id, since FROM " +
		r.store.tables.partitions.quoted + ofPartitions + " ORDER BY number"
	rows, err := c.query(ctx, r.store.dialect.placeholders(query), r.application, upstream)
	if err != nil {
		return set, err
	}
	defer rows.Close()
	for rows.Next() {
		var p persistence.Partition
		var until int64
		var since sql.NullTime
		err := rows.Scan(&p.Number, &set.Key, &p.Position, &p.Fence, &p.Owner, &p.Successor, &until, &p.Error, &p.NotificationID, &since)
		if err != nil {
			return set, err
		}
		if until > 0 {
			end := time.UnixMicro(until).UTC()
			p.Leased = p.Owner != "" && now.Before(end) && !end.After(now.Add(capability.LongestLease))
			p.Until = end.Add(ahead)
		}
		if since.Valid {
			p.Since = since.Time.UTC()
		}
		set.Partitions = append(set.Partitions, p)
	}
	return set, rows.Err()
}

// Divide implements capability.PartitionRecorder. The fences begin above all
// that there were, also if their rows have been deleted.
func (r *processRecorder) Divide(ctx context.Context, upstream, key string, count int) error {
	return r.store.requireTx(ctx, r.application+": divide a follower", func(c connection) error {
		position, err := r.lockPosition(ctx, c, true, upstream)
		if err != nil {
			return err
		}
		set, err := r.partitions(ctx, c, upstream)
		if err != nil {
			return err
		}
		now, err := r.store.dialect.now(ctx, c)
		if err != nil {
			return err
		}
		fence, at := now.UnixMicro(), position.Int64
		for _, p := range set.Partitions {
			fence = max(fence, p.Fence+1)
		}
		if isDivided(position) {
			if _, _, err := r.lowest(ctx, c, upstream); err != nil {
				return err
			}
			if at, err = r.commonPosition(set, upstream); err != nil {
				return err
			}
		} else if len(set.Partitions) > 0 && at > 0 {
			return r.movedBeside(upstream, at)
		}
		if err := r.deletePartitions(ctx, c, upstream); err != nil {
			return err
		}
		if count == 0 {
			return r.makeWhole(ctx, c, upstream, at)
		}
		for number := range count {
			query := "INSERT INTO " + r.store.tables.partitions.quoted + " (application_name, upstream_application_name, number, partitions," +
				" partition_key, position, fence, owner, successor, leased_until, error, notification_id)" +
				" VALUES (?, ?, ?, ?, ?, ?, ?, '', '', 0, '', 0)"
			if _, err := c.exec(ctx, r.store.dialect.placeholders(query), r.application, upstream, number, count, key, at, fence); err != nil {
				return err
			}
		}
		if isDivided(position) {
			return nil
		}
		to := persistence.Tracking{ApplicationName: upstream, NotificationID: dividedPosition}
		written, err := r.writePosition(ctx, c, position, to)
		if err == nil && !written {
			err = r.notMoved(position, to)
		}
		return err
	})
}

// commonPosition is the position of all partitions.
func (r *processRecorder) commonPosition(set persistence.PartitionSet, upstream string) (int64, error) {
	for _, p := range set.Partitions {
		if p.Position != set.Partitions[0].Position {
			return 0, &persistence.Error{Class: persistence.ErrProgramming, Op: r.application + ": divide a follower",
				Err: fmt.Errorf("its partitions of %s have the positions %d and %d, and must all have the same one",
					upstream, set.Partitions[0].Position, p.Position)}
		}
	}
	if len(set.Partitions) == 0 {
		return 0, nil
	}
	return set.Partitions[0].Position, nil
}

// movedBeside is the error if a program that does not know of partitions has
// moved the position beside them.
func (r *processRecorder) movedBeside(upstream string, position int64) error {
	return &persistence.Error{Class: persistence.ErrOperational, Op: r.application + ": divide a follower",
		Err: fmt.Errorf("its position in %s is %d, and it has partitions with their own", upstream, position),
		Hint: fmt.Sprintf("a program that does not know of partitions has written it; stop that program, and set the position back to %d "+
			"in %s, or reset the follower", int64(dividedPosition), r.tracking.name)}
}

// makeWhole gives a follower that was divided one position.
func (r *processRecorder) makeWhole(ctx context.Context, c connection, upstream string, at int64) error {
	query := "DELETE FROM " + r.tracking.quoted + ofPartitions + " AND notification_id = ?"
	_, err := c.exec(ctx, r.store.dialect.placeholders(query), r.application, upstream, int64(dividedPosition))
	if err != nil || at == 0 {
		return err
	}
	current, err := r.position(ctx, c, upstream)
	if err != nil || current.Int64 >= at {
		return err
	}
	_, err = r.writePosition(ctx, c, current, persistence.Tracking{ApplicationName: upstream, NotificationID: at})
	return err
}

// deletePartitions deletes the partitions of a follower, if there is a table of
// them.
func (r *processRecorder) deletePartitions(ctx context.Context, c connection, upstream string) error {
	exists, err := hasTable(r.store.session(ctx, c.pool), &followerPartition{})
	if err != nil || !exists {
		return err
	}
	query := "DELETE FROM " + r.store.tables.partitions.quoted + ofPartitions
	_, err = c.exec(ctx, r.store.dialect.placeholders(query), r.application, upstream)
	return err
}

// lowerPartitions moves partitions back to a position that they are after.
func (r *processRecorder) lowerPartitions(ctx context.Context, c connection, upstream string, to int64) error {
	set, condition, arguments := r.partitionUpdate("position = ?", "position > ?", upstream, to, to)
	_, err := c.exec(ctx, r.store.dialect.placeholders(set+" WHERE "+condition), arguments...)
	return err
}

// partitionUpdate is an UPDATE of partitions, before its condition, and its
// condition, with the arguments of what is set, of the follower, and of which.
// Rows are locked in the order of their numbers, so that two updates do not
// deadlock.
func (r *processRecorder) partitionUpdate(
	set, which, upstream string, to any, arguments ...any,
) (update, condition string, all []any) {
	t := r.store.tables.partitions.quoted
	update = "UPDATE " + t + " SET " + set
	lock := ""
	if r.store.dialect.concurrent() {
		lock = " FOR UPDATE"
	}
	condition = "application_name = ? AND upstream_application_name = ? AND number IN (SELECT number FROM " + t + ofPartitions +
		" AND (" + which + ") ORDER BY number" + lock + ")"
	all = append([]any{to, r.application, upstream, r.application, upstream}, arguments...)
	return update, condition, all
}

// RenewLeases implements capability.PartitionRecorder.
func (r *processRecorder) RenewLeases(
	ctx context.Context, upstream, process string, numbers []int, duration time.Duration,
) (set persistence.PartitionSet, err error) {
	if len(numbers) == 0 {
		return r.Partitions(ctx, upstream)
	}
	err = r.inTransaction(ctx, r.store.tables.partitions, "renew the leases of partitions", func(ctx context.Context, c connection) error {
		now, err := r.store.dialect.now(ctx, c)
		if err != nil {
			return err
		}
		which, arguments := "owner = ? AND number IN ("+placeholdersFor(len(numbers))+")", []any{process}
		for _, number := range numbers {
			arguments = append(arguments, number)
		}
		update, condition, arguments := r.partitionUpdate("leased_until = ?", which, upstream, now.Add(duration).UnixMicro(), arguments...)
		if _, err := c.exec(ctx, r.store.dialect.placeholders(update+" WHERE "+condition), arguments...); err != nil {
			return err
		}
		set, err = r.divided(ctx, c, upstream)
		return err
	})
	return set, err
}

// ChangeLeases implements capability.PartitionRecorder. There is a statement
// for each action and not for each lease, as there may be many; all rows are
// locked before, in the order of their numbers.
func (r *processRecorder) ChangeLeases(
	ctx context.Context, upstream, process string, changes []capability.LeaseChange, duration time.Duration,
) (set persistence.PartitionSet, err error) {
	byAction := map[capability.LeaseAction][]capability.LeaseChange{}
	for _, change := range changes {
		byAction[change.Action] = append(byAction[change.Action], change)
	}
	err = r.inTransaction(ctx, r.store.tables.partitions, "change the leases of partitions", func(ctx context.Context, c connection) error {
		if err := r.lockRows(ctx, c, upstream, changes); err != nil {
			return err
		}
		now, err := r.store.dialect.now(ctx, c)
		if err != nil {
			return err
		}
		for _, action := range slices.Sorted(maps.Keys(byAction)) {
			err := r.changeLeases(ctx, c, upstream, process, action, byAction[action], now.UnixMicro(), now.Add(duration).UnixMicro())
			if err != nil {
				return err
			}
		}
		set, err = r.divided(ctx, c, upstream)
		return err
	})
	return set, err
}

// lockRows locks the rows of leases that are to be changed. SQLite has one lock
// for all.
func (r *processRecorder) lockRows(ctx context.Context, c connection, upstream string, changes []capability.LeaseChange) error {
	if !r.store.dialect.concurrent() || len(changes) < 2 {
		return nil
	}
	which, arguments := "number IN ("+placeholdersFor(len(changes))+")", []any{r.application, upstream}
	for _, change := range changes {
		arguments = append(arguments, change.Number)
	}
	query := "SELECT COUNT(*) FROM (SELECT number FROM " + r.store.tables.partitions.quoted + ofPartitions + " AND " + which +
		" ORDER BY number FOR UPDATE) AS locked"
	var locked int
	return c.row(ctx, r.store.dialect.placeholders(query), arguments...).Scan(&locked)
}

// changeLeases does one action with leases.
func (r *processRecorder) changeLeases(
	ctx context.Context, c connection, upstream, process string, action capability.LeaseAction, changes []capability.LeaseChange, now, until int64,
) error {
	var set, which string
	var to, given []any
	latest := now + capability.LongestLease.Microseconds()
	switch action {
	case capability.TakeLease:
		set, to = "owner = ?, successor = '', fence = fence + 1, leased_until = ?", []any{process, until}
		which, given = "(owner = '' OR leased_until <= ? OR leased_until > ?)", []any{now, latest}
	case capability.RequestLease:
		set, to = "successor = ?", []any{process}
		which, given = "owner <> ? AND leased_until > ? AND leased_until <= ?", []any{process, now, latest}
	case capability.HandOverLease:
		set, to = "owner = successor, successor = '', fence = fence + 1, leased_until = ?", []any{until}
		which, given = "owner = ? AND successor <> ''", []any{process}
	case capability.ReleaseLease:
		set, to = "owner = '', successor = '', fence = fence + 1, leased_until = ?", []any{now}
		which, given = "owner = ?", []any{process}
	default:
		return &persistence.Error{Class: persistence.ErrProgramming, Op: r.application + ": change the leases of partitions",
			Err: fmt.Errorf("there is no action %d", action)}
	}
	leases := make([]string, len(changes))
	arguments := append(append(to, r.application, upstream), given...)
	for i, change := range changes {
		leases[i] = "number = ? AND fence = ?"
		arguments = append(arguments, change.Number, change.Fence)
	}
	_, err := c.exec(ctx, r.store.dialect.placeholders("UPDATE "+r.store.tables.partitions.quoted+" SET "+set+ofPartitions+
		" AND "+which+" AND ("+strings.Join(leases, " OR ")+")"), arguments...)
	return err
}

// placeholdersFor is a list of so many placeholders.
func placeholdersFor(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

// NotePartition implements capability.PartitionRecorder.
func (r *processRecorder) NotePartition(ctx context.Context, upstream, process string, failure persistence.Partition) error {
	query := "UPDATE " + r.store.tables.partitions.quoted + " SET error = ?, notification_id = ?, since = ?" + ofPartitions +
		" AND number = ? AND owner = ? AND fence = ?"
	return r.inTransaction(ctx, r.store.tables.partitions, "note the failure of a partition", func(ctx context.Context, c connection) error {
		_, err := c.exec(ctx, r.store.dialect.placeholders(query), failure.Error, failure.NotificationID, nullable(failure.Since),
			r.application, upstream, failure.Number, process, failure.Fence)
		return err
	})
}

// LockPartitions implements capability.PartitionRecorder.
func (r *processRecorder) LockPartitions(
	ctx context.Context, upstream string, wait time.Duration,
) (settings *capability.FollowerSettings, revision int64, err error) {
	if wait == 0 {
		wait = r.store.lockTimeout
	}
	err = r.store.requireTx(ctx, r.application+": lock partitions", func(c connection) error {
		how := locking{timeout: wait, joined: true, shared: true}
		if err := r.takePositionLock(ctx, c, how, upstream); err != nil {
			return err
		}
		_, settings, revision, err = r.settings(ctx, c, true, upstream)
		return err
	})
	return settings, revision, err
}

// MovePartitions implements capability.PartitionRecorder.
func (r *processRecorder) MovePartitions(
	ctx context.Context, upstream, process string, leases []capability.PartitionLease, to int64,
) error {
	var which []string
	arguments := []any{process}
	for _, lease := range leases {
		which = append(which, "number = ? AND fence = ? AND position = ?")
		arguments = append(arguments, lease.Number, lease.Fence, lease.Position)
	}
	update, condition, all := r.partitionUpdate("position = ?", "owner = ? AND ("+strings.Join(which, " OR ")+")", upstream, to, arguments...)
	return r.store.requireTx(ctx, r.application+": move partitions", func(c connection) error {
		changed, err := r.store.dialect.updateBriefly(ctx, c, waitOf(ctx, r.store.lockTimeout), update, condition, all...)
		if err == nil && changed != int64(len(leases)) {
			err = &persistence.Error{Class: capability.ErrLeaseLost, Op: r.application + ": move partitions in " + upstream}
		}
		return err
	})
}
