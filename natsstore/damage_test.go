package natsstore_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/natsstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// TestDamagedBlock cuts a file of a replica, which then leads the stream. What
// it lacks is an error of every way to read, and no event is skipped. The
// control reads on without the alarms: events are missing, without an error.
func TestDamagedBlock(t *testing.T) {
	t.Parallel()
	c := startCluster(t, full())
	conn := c.connect(t, 0)
	const dogs, size = 40, 60
	writer := recorder(t, conn)
	for i := range dogs {
		if _, err := writer.InsertEvents(t.Context(), large(fmt.Sprint(i), 1, size)); err != nil {
			t.Fatal(err)
		}
	}
	c.settled(t, conn, schoolStream)
	damaged := (c.leader(t, conn, schoolStream) + 1) % 3
	c.nodes[damaged].stop()
	cutFirstBlock(t, c.nodes[damaged].StoreDir)
	c.nodes[damaged].start(t)
	c.ready(t, damaged)
	c.settled(t, conn, schoolStream)

	reader := recorder(t, conn)
	control, err := natsstore.New(conn, replicated)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	natsstore.WithoutAlarms(control)
	careless, err := control.ProcessRecorder(training)
	if err != nil {
		t.Fatal(err)
	}

	// Any replica may answer, so each way to read is tried until the damaged
	// one does. Until then reads are whole.
	wantDamage(t, "the log", try(t, func() error { return readLog(t, reader, dogs*size) }))
	wantDamage(t, "an originator", try(t, func() error {
		for i := range dogs {
			if err := readDog(t, reader, fmt.Sprint(i), size); err != nil {
				return err
			}
		}
		return nil
	}))
	if err := try(t, func() error { return readLog(t, careless, dogs*size) }); !errors.Is(err, errSkipped) {
		t.Errorf("the control: got the error %v, want that events were skipped", err)
	}

	// As a leader it would also give versions again that are stored. So a store
	// compares its state when it hears of the election.
	c.lead(t, conn, schoolStream, damaged)
	eventually(t, func() error {
		if _, err = reader.MaxNotificationID(t.Context()); err == nil {
			return errors.New("a store that knew another leader reads on")
		}
		return nil
	})
	wantDamage(t, "a store that knew another leader", err)
	_, err = reader.InsertEvents(t.Context(), large("0", size+1, 1))
	wantDamage(t, "a save", err)
	_, err = recorder(t, conn).MaxNotificationID(t.Context())
	wantDamage(t, "the first use of a store", err)
}

// try calls f until it returns an error.
func try(t *testing.T, f func() error) error {
	t.Helper()
	for begin := time.Now(); time.Since(begin) < patience; {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

var errSkipped = errors.New("events were skipped")

// readLog reads the log, and wants n events.
func readLog(t *testing.T, r persistence.ProcessRecorder, n int) error {
	for after := int64(0); ; {
		page, err := r.SelectNotifications(t.Context(), persistence.NotificationRange{After: after, Limit: persistence.MaxPage})
		if err != nil {
			return err
		}
		if len(page) == 0 {
			break
		}
		n -= len(page)
		after = page[len(page)-1].ID
	}
	if n > 0 {
		return fmt.Errorf("%w: %d of the log", errSkipped, n)
	}
	return nil
}

// readDog reads an originator, and wants n events.
func readDog(t *testing.T, r persistence.ProcessRecorder, name string, n int) error {
	for _, err := range r.SelectEvents(t.Context(), school.DogID(name), persistence.EventRange{}) {
		if err != nil {
			return err
		}
		n--
	}
	if n > 0 {
		return fmt.Errorf("%w: %d of %s", errSkipped, n, name)
	}
	return nil
}

// large returns events with large states.
func large(name string, first int64, n int) []persistence.StoredEvent {
	events := make([]persistence.StoredEvent, n)
	for i := range events {
		events[i] = persistence.StoredEvent{OriginatorID: school.DogID(name), OriginatorVersion: first + int64(i), Topic: "Dog.TrickAdded",
			State: bytes.Repeat([]byte{byte(i)}, 10_000)}
	}
	return events
}

// cutFirstBlock cuts the first block of the stream in half, as a broken disk
// or file system may.
func cutFirstBlock(t *testing.T, storeDir string) {
	t.Helper()
	folder := filepath.Join(storeDir, "jetstream", "$G", "streams", schoolStream, "msgs")
	blocks, err := filepath.Glob(filepath.Join(folder, "*.blk"))
	if err != nil || len(blocks) < 2 {
		t.Fatalf("%s has %d blocks; error %v, want no error and at least 2 blocks", folder, len(blocks), err)
	}
	slices.Sort(blocks)
	info, err := os.Stat(blocks[0])
	if err == nil {
		err = os.Truncate(blocks[0], info.Size()/2)
	}
	if err == nil {
		err = os.Remove(filepath.Join(folder, "index.db"))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func wantDamage(t *testing.T, what string, err error) {
	t.Helper()
	damage, ok := errors.AsType[*natsstore.DamageError](err)
	if !ok || !errors.Is(err, persistence.ErrInternal) {
		t.Errorf("%s: got the error %v, want a *DamageError", what, err)
		return
	}
	if damage.Stream != schoolStream || damage.Leader == "" {
		t.Errorf("%s: got %+v, want the stream and its leader", what, *damage)
	}
}

// TestOwnWritesOnSlowReplica reads at a server whose replica is late what was
// just written. The control does not ask the leader, and misses it.
func TestOwnWritesOnSlowReplica(t *testing.T) {
	t.Parallel()
	c := startCluster(t, full())
	conn := c.connect(t, 0)
	if _, err := recorder(t, conn).MaxNotificationID(t.Context()); err != nil {
		t.Fatal(err)
	}
	leader := c.leader(t, conn, schoolStream)
	late := (leader + 1) % 3
	near := c.only(t, late)
	careless, err := natsstore.New(near, replicated)
	if err != nil {
		t.Fatal(err)
	}
	defer careless.Close()
	natsstore.WithoutLeader(careless)
	control, err := careless.ProcessRecorder(training)
	if err != nil {
		t.Fatal(err)
	}
	writer, careful := recorder(t, c.only(t, leader)), recorder(t, near)
	for _, r := range []persistence.ProcessRecorder{writer, careful, control} { // compare settings
		if _, err := r.MaxNotificationID(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	c.slow(late, 100*time.Millisecond)
	missed := 0
	writes := figure(12, 40)
	// The replica may catch up while a busy machine does nothing else, but not
	// each time.
	begin := time.Now()
	for version := int64(1); version <= int64(writes) || missed == 0 && time.Since(begin) < patience; version++ {
		if _, err := writer.InsertEvents(t.Context(), large("Fido", version, 1)); err != nil {
			t.Fatal(err)
		}
		if newest(t, control) < version {
			missed++
		}
		if got := newest(t, careful); got != version {
			t.Errorf("read version %d, want %d, which was acknowledged", got, version)
		}
	}
	if missed == 0 {
		t.Error("the control read all that was written; the replica was not late")
	}
	t.Logf("the control missed %d of %d writes", missed, writes)
}

// newest returns the newest version of an originator.
func newest(t *testing.T, r persistence.ProcessRecorder) int64 {
	t.Helper()
	version := int64(0)
	for e, err := range r.SelectEvents(t.Context(), school.DogID("Fido"), persistence.EventRange{}) {
		if err != nil {
			t.Fatal(err)
		}
		version = e.OriginatorVersion
	}
	return version
}

// TestLiteralExpectations is why the store gives an expectation to a literal
// subject only: of two writers that expect the same of it one wins. With
// wildcards in two spellings both may win, which is the control.
func TestLiteralExpectations(t *testing.T) {
	t.Parallel()
	c := startCluster(t, full())
	conns := []*nats.Conn{c.only(t, 0), c.only(t, 1)}
	settings := []byte(`{"name":"raw","subjects":["raw.*.*"],"num_replicas":3}`)
	if _, err := conns[0].Request("$JS.API.STREAM.CREATE.raw", settings, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	c.leader(t, conns[0], "raw")
	literal := rounds(t, conns, func(subject, id string) [2]string { return [2]string{"", ""} })
	wildcards := 0
	// The two do not always meet.
	for begin := time.Now(); wildcards == 0 && time.Since(begin) < patience; {
		wildcards = rounds(t, conns, func(subject, id string) [2]string { return [2]string{"raw.*." + id, "*.*." + id} })
	}
	if literal != 0 {
		t.Errorf("with literal expectations there were two winners in %d rounds, want 0", literal)
	}
	if wildcards == 0 {
		t.Error("the control: with wildcards in two spellings there was one winner in each round")
	}
	t.Logf("two winners with wildcards in two spellings: %d of %d rounds", wildcards, roundCount)
}

const roundCount = 60

// rounds lets two writers write at the same time, and counts the rounds in
// which both succeed.
func rounds(t *testing.T, conns []*nats.Conn, filters func(subject, id string) [2]string) (both int) {
	t.Helper()
	for range roundCount {
		id := nats.NewInbox()[len("_INBOX."):]
		subject := "raw.x." + id
		won := make(chan bool, 2)
		for i, filter := range filters(subject, id) {
			go func() {
				m := nats.NewMsg(subject)
				m.Header.Set("Nats-Expected-Last-Subject-Sequence", "0")
				if filter != "" {
					m.Header.Set("Nats-Expected-Last-Subject-Sequence-Subject", filter)
				}
				reply, err := conns[i].RequestMsg(m, 10*time.Second)
				won <- err == nil && !bytes.Contains(reply.Data, []byte(`"error"`))
			}()
		}
		if first, second := <-won, <-won; first && second {
			both++
		}
	}
	return both
}
