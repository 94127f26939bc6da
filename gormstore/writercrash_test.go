package gormstore_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Readers see every event once and in order while the processes that write and
// the server are killed again and again. What was acknowledged is stored, what
// was undone is not, and what a reader has seen stays stored. A reader that
// orders by id alone loses events in the same run.
func TestWritersAndServerKilled(t *testing.T) {
	t.Parallel()
	const alone = "any reader"
	k := newKilling(t)
	k.readers = map[string]reading{
		"pages":         k.pages,
		"topics":        k.topics,
		"subscription":  k.subscription,
		"remote log":    k.remoteLog,
		"other process": k.otherProcess,
		alone:           k.byID,
	}
	readers := k.startReaders(t)
	k.overtake(t, readers, k.held(k.writer()), k.held(k.writer()))
	k.killUntil(t, testdb.Figure(testdb.Sample(200, 1_000), 200_000))
	k.end(t)
	stored := k.stored(t)
	k.written.Store(int64(len(stored)))
	lost := readers.finish(t, stored)
	for name, missing := range lost {
		if name != alone && missing > 0 {
			t.Errorf("%s: %d events were lost, want 0", name, missing)
		}
	}
	if lost[alone] == 0 {
		t.Error("a reader that orders by id lost no event, want those that were overtaken lost")
	}
	k.check(t)
}

// After a crash the server may draw ids again that it has drawn before for
// events that were never stored. A reader that has moved to the last value of
// the sequence would pass over the events that get them.
func TestReaderAfterCrashReadsIDsDrawnAgain(t *testing.T) {
	t.Parallel()
	cluster := testdb.NewCluster(t, "autovacuum=off")
	db := migrated(t, testdb.Open(t, dialector("postgres", cluster.Database(t))))
	pool, err := db.DB()
	if err != nil {
		t.Fatal(err)
	}
	pool.SetMaxIdleConns(-1) // none is left that has not noticed the crash
	r := recorder(t, db, schoolName)
	insert(t, r, history(uuid.New(), 1, 1)...)
	read := wholeLog(t, r)
	position := read[len(read)-1].ID
	stopLogWriters(t, db) // what is not committed is not written
	err = gormstore.Transaction(t.Context(), db, func(ctx context.Context, _ *gorm.DB) error {
		_, err := r.InsertEvents(ctx, history(uuid.New(), 1, 100))
		return errors.Join(err, errUndone)
	})
	if !errors.Is(err, errUndone) {
		t.Fatalf("got %v, want an error that is %v", err, errUndone)
	}
	var drawn int64
	if err := db.Raw("SELECT last_value FROM " + sequence(t, db)).Scan(&drawn).Error; err != nil {
		t.Fatal(err)
	}
	page, err := r.SelectNotifications(t.Context(), persistence.NotificationRange{After: position, Limit: 10})
	if err != nil || len(page) > 0 {
		t.Fatalf("got %d events, %v; want none", len(page), err)
	}
	if head, err := r.MaxNotificationID(t.Context()); err != nil || head != position {
		t.Fatalf("the head is %d, %v; want %d, the last event that is stored", head, err, position)
	}
	if err := errors.Join(cluster.Kill(), cluster.Start()); err != nil {
		t.Fatal(err)
	}
	id := insert(t, r, history(uuid.New(), 1, 1)...)[0]
	page, err = r.SelectNotifications(t.Context(), persistence.NotificationRange{After: position, Limit: 10})
	if err != nil || len(page) != 1 || page[0].ID != id {
		t.Fatalf("got %v, %v; want the event %d", page, err, id)
	}
	if id > drawn { // a reader at the last value would not have missed it
		t.Errorf("the event has the id %d, want one that was drawn before, up to %d", id, drawn)
	}
}

// stopLogWriters stops the processes of a server that write what no transaction
// has committed, until the server is killed or the test ends.
func stopLogWriters(t *testing.T, db *gorm.DB) {
	t.Helper()
	var ids []int
	query := "SELECT pid FROM pg_stat_activity WHERE backend_type IN ('walwriter', 'background writer', 'checkpointer')"
	if err := db.Raw(query).Scan(&ids).Error; err != nil || len(ids) != 3 {
		t.Fatalf("got the processes %v, %v; want 3", ids, err)
	}
	for _, id := range ids {
		process := expect.Must(os.FindProcess(id))
		expect.NoError(t, process.Signal(syscall.SIGSTOP))
		t.Cleanup(func() { _ = process.Signal(syscall.SIGCONT) }) // it may be gone
	}
}

func sequence(t *testing.T, db *gorm.DB) (name string) {
	t.Helper()
	if err := db.Raw("SELECT pg_get_serial_sequence('stored_events', 'id')").Scan(&name).Error; err != nil {
		t.Fatal(err)
	}
	return name
}

// killing is readers and processes of writers on a server, all but the readers
// of which are killed.
type killing struct {
	*concurrency
	cluster *testdb.Cluster
	writing []*writingProcess // that run

	mu     sync.Mutex // protects what follows
	saved  []uuid.UUID
	undone []uuid.UUID
}

// The writers are so many processes with so many writers each.
const (
	writingProcesses  = 4
	writersPerProcess = 16
)

func newKilling(t *testing.T) *killing {
	t.Helper()
	cluster := testdb.NewCluster(t, "max_prepared_transactions=200", "max_connections=300", "wal_writer_delay=10ms")
	dsn := cluster.Database(t)
	db := migrated(t, testdb.Open(t, dialector("postgres", dsn)))
	return &killing{concurrency: &concurrency{db: db, dsn: dsn, outages: true}, cluster: cluster}
}

// killUntil kills processes and the server until so many events are
// acknowledged.
func (k *killing) killUntil(t *testing.T, events int) {
	t.Helper()
	for range writingProcesses {
		k.writing = append(k.writing, k.start(t))
	}
	every := testdb.Figure(3, 6) // processes between two kills of the server
	processes, servers := 0, 0
	for deadline := time.Now().Add(20 * time.Minute); ; {
		time.Sleep(20*time.Millisecond + rand.N(200*time.Millisecond)) // chance is the point
		if servers < processes/every {
			if err := errors.Join(k.cluster.Kill(), k.cluster.Start()); err != nil {
				t.Fatal(err)
			}
			servers++
		} else {
			i := rand.N(writingProcesses)
			if rand.N(4) > 0 { // a few are killed while they begin
				k.writing[i].waitUntilWritten(t)
			}
			k.writing[i].kill(t)
			k.writing[i] = k.start(t)
			processes++
		}
		k.resolve(200 * time.Millisecond)
		acknowledged := k.acknowledged()
		if acknowledged >= events && servers >= testdb.Sample(1, 2) {
			t.Logf("%d processes and the server %d times killed; %d events acknowledged", processes, servers, acknowledged)
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("only %d events were acknowledged in time", acknowledged)
			return
		}
	}
}

// end ends the writers that still run, and all transactions.
func (k *killing) end(t *testing.T) {
	t.Helper()
	for _, p := range k.writing {
		p.end(t)
	}
	if !expect.Eventually(func() bool {
		k.resolve(0)
		var left int64
		err := k.db.Raw("SELECT (SELECT count(*) FROM pg_prepared_xacts) + (SELECT count(*) FROM pg_stat_activity " +
			"WHERE pid <> pg_backend_pid() AND datname = current_database() AND state LIKE 'idle in%')").Scan(&left).Error
		return err == nil && left == 0
	}) {
		t.Error("transactions are still open")
	}
}

// resolve commits or rolls back the prepared transactions that were left for so
// long, as the program does that has them prepared.
func (k *killing) resolve(left time.Duration) {
	var names []string
	k.db.Raw("SELECT gid FROM pg_prepared_xacts WHERE prepared < clock_timestamp() - ? * interval '1 microsecond'",
		left.Microseconds()).Scan(&names)
	for _, name := range names { // whose process may end it as well
		k.db.Exec([]string{"COMMIT", "ROLLBACK"}[rand.N(2)] + " PREPARED '" + name + "'")
	}
}

func (k *killing) acknowledged() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.saved) * writtenPerSave
}

// check compares what is stored with what the writers were told.
func (k *killing) check(t *testing.T) {
	t.Helper()
	var rows []struct {
		OriginatorID uuid.UUID
		Events       int
	}
	if err := k.db.Raw("SELECT originator_id, count(*) AS events FROM stored_events GROUP BY originator_id").Scan(&rows).Error; err != nil {
		t.Fatal(err)
	}
	events := map[uuid.UUID]int{}
	for _, row := range rows {
		if events[row.OriginatorID] = row.Events; row.Events != writtenPerSave {
			t.Errorf("%d of %d events of a save are stored", row.Events, writtenPerSave)
		}
	}
	missing, returned := 0, 0
	for _, id := range k.saved {
		if events[id] == 0 {
			missing++
		}
	}
	for _, id := range k.undone {
		if events[id] > 0 {
			returned++
		}
	}
	if missing+returned > 0 || len(k.undone) == 0 {
		t.Errorf("%d of %d saves that were acknowledged are not stored, and %d of %d that were undone are, want 0 and some undone", missing, len(k.saved), returned, len(k.undone))
	}
}

// writtenPerSave is how many events each save has.
const writtenPerSave = 2

// The lines that a writing process prints.
const (
	savedLine  = "saved "
	undoneLine = "undone "
)

// writeUntilEnd is the program of a writing process. It writes until its input
// ends, and says what became of each save. Errors are no promise.
func writeUntilEnd(db *gorm.DB) error {
	pool, err := db.DB()
	if err != nil {
		return err
	}
	pool.SetMaxOpenConns(writersPerProcess + 2)
	pool.SetMaxIdleConns(writersPerProcess + 2)
	c := &concurrency{db: db}
	ways := append(c.ways(c.writer()), c.held(c.writer(gormstore.WithNotify())))
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	var group sync.WaitGroup
	var mu sync.Mutex // protects standard output
	for range writersPerProcess {
		group.Go(func() {
			for ctx.Err() == nil {
				id := uuid.New()
				err := ways[rand.N(len(ways))](context.WithoutCancel(ctx), history(id, 1, writtenPerSave))
				line := savedLine
				if errors.Is(err, errUndone) {
					line = undoneLine
				} else if err != nil {
					time.Sleep(5 * time.Millisecond) // nothing signals that the server is back
					continue
				}
				mu.Lock()
				fmt.Println(line + id.String())
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return nil
}

// writingProcess is a process of writers, from outside.
type writingProcess struct {
	*exec.Cmd
	stdin   io.Closer
	written chan struct{} // closed when it has told of a save
	read    chan struct{} // closed when all that it has printed is read
}

func (k *killing) start(t *testing.T) *writingProcess {
	t.Helper()
	p := &writingProcess{Cmd: childOf(t, "write", "postgres", k.dsn), written: make(chan struct{}), read: make(chan struct{})}
	p.Stderr = os.Stderr
	stdout, err := p.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.stdin, err = p.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.read)
		written := sync.OnceFunc(func() { close(p.written) })
		for lines := bufio.NewScanner(stdout); lines.Scan(); {
			k.note(lines.Text())
			written()
		}
	}()
	return p
}

// note takes note of a line. A process that was killed may leave half of one.
func (k *killing) note(line string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for prefix, list := range map[string]*[]uuid.UUID{savedLine: &k.saved, undoneLine: &k.undone} {
		if len(line) != len(prefix)+36 || line[:len(prefix)] != prefix {
			continue
		}
		if id, err := uuid.Parse(line[len(prefix):]); err == nil {
			*list = append(*list, id)
		}
	}
}

// waitUntilWritten waits until the process has told of a save.
func (p *writingProcess) waitUntilWritten(t *testing.T) {
	t.Helper()
	select {
	case <-p.written:
	case <-p.read:
		t.Fatal("a writing process has ended and written nothing")
	case <-time.After(patience):
		t.Fatalf("a writing process has written nothing in %v", patience)
	}
}

// kill kills the process with a signal that it cannot catch.
func (p *writingProcess) kill(t *testing.T) {
	t.Helper()
	if err := p.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-p.read
	_ = p.Wait() // it was killed
}

// end lets the writers finish what they do.
func (p *writingProcess) end(t *testing.T) {
	t.Helper()
	if err := p.stdin.Close(); err != nil {
		t.Fatal(err)
	}
	<-p.read
	if err := p.Wait(); err != nil {
		t.Errorf("writers: %v", err)
	}
}
