package persistencetest

import (
	"context"
	"maps"
	"sync"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// party is one application in a store, with a model of what the store has
// acknowledged to it.
type party struct {
	name      string
	ctx       context.Context // ends when the row has taken far too long
	process   persistence.ProcessRecorder
	events    *book
	snapshots *book
	positions *positions
}

// positions are the acknowledged positions of an application in the logs of
// others.
type positions struct {
	mu      sync.Mutex
	highest map[string]int64
}

func (p *positions) moved(tracking persistence.Tracking) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.highest[tracking.ApplicationName] = max(p.highest[tracking.ApplicationName], tracking.NotificationID)
}

func (p *positions) all() map[string]int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.highest)
}

func newParty(ctx context.Context, name string) *party {
	return &party{
		name:      name,
		ctx:       ctx,
		events:    &book{application: name, ctx: ctx, model: &model{}, numbered: true},
		snapshots: &book{application: name, ctx: ctx, model: &model{}},
		positions: &positions{highest: map[string]int64{}},
	}
}

// use takes the recorders of the factory.
func (p *party) use(t testing.TB, f persistence.Factory) {
	t.Helper()
	process, err := f.ProcessRecorder(p.name)
	if err != nil || process == nil {
		t.Fatalf("ProcessRecorder(%q) = %v, %v", p.name, process, err)
	}
	snapshots, err := f.SnapshotRecorder(p.name)
	if err != nil || snapshots == nil {
		t.Fatalf("SnapshotRecorder(%q) = %v, %v", p.name, snapshots, err)
	}
	p.process = process
	p.events.recorder = process
	p.snapshots.recorder = snapshots
}

// through is the same application with the recorders of another factory over
// the same store.
func (p *party) through(t testing.TB, f persistence.Factory) *party {
	t.Helper()
	events, snapshots := *p.events, *p.snapshots
	other := &party{name: p.name, ctx: p.ctx, events: &events, snapshots: &snapshots, positions: p.positions}
	other.use(t, f)
	return other
}

// settle gives the application something to lose: events of the originators
// that rows use, snapshots and positions.
func (p *party) settle(t testing.TB) {
	t.Helper()
	p.events.insert(t, topical(registered, dog("Fido"), 1), at(dog("Rex"), 0))
	p.snapshots.insert(t, at(dog("Fido"), 1))
	p.insertProcessed(t, tracking(kennels, 21), history(dog("Fido"), 2, 2)...)
	p.insertTracking(t, shelters, 22)
	p.snapshots.insert(t, at(dog("Fido"), 3))
}

// tryProcessed calls InsertProcessed and remembers what it acknowledged. It may
// be called by any goroutine.
func (p *party) tryProcessed(
	ctx context.Context, to persistence.Tracking, events ...persistence.StoredEvent,
) ([]int64, error) {
	ids, err := p.process.InsertProcessed(ctx, events, to)
	if err != nil {
		return nil, err
	}
	p.positions.moved(to)
	return ids, p.events.acknowledge(ids, events)
}

// insertProcessed is tryProcessed that must succeed.
func (p *party) insertProcessed(t testing.TB, to persistence.Tracking, events ...persistence.StoredEvent) []int64 {
	t.Helper()
	ids, err := p.tryProcessed(p.ctx, to, events...)
	if err != nil {
		t.Fatalf("InsertProcessed(%d events, %+v): %v", len(events), to, err)
	}
	return ids
}

// tryTracking calls InsertTracking and remembers what it acknowledged. It may
// be called by any goroutine.
func (p *party) tryTracking(ctx context.Context, upstream string, id int64) error {
	to := tracking(upstream, id)
	err := p.process.InsertTracking(ctx, to)
	if err == nil {
		p.positions.moved(to)
	}
	return err
}

// insertTracking is tryTracking that must succeed.
func (p *party) insertTracking(t testing.TB, upstream string, id int64) {
	t.Helper()
	if err := p.tryTracking(p.ctx, upstream, id); err != nil {
		t.Fatalf("InsertTracking(%s, %d): %v", upstream, id, err)
	}
}

// position returns the position in the log of the upstream application.
func (p *party) position(t testing.TB, upstream string) int64 {
	t.Helper()
	id, err := p.process.MaxTrackingID(p.ctx, upstream)
	if err != nil {
		t.Fatalf("MaxTrackingID(%q): %v", upstream, err)
	}
	return id
}

// wantPosition compares the position in the log of the upstream application.
func (p *party) wantPosition(t testing.TB, upstream string, want int64) {
	t.Helper()
	if got := p.position(t, upstream); got != want {
		t.Errorf("position of %s in %s: got %d, want %d", p.name, upstream, got, want)
	}
}

// page reads a page of the log.
func (p *party) page(t testing.TB, r persistence.NotificationRange) []persistence.Notification {
	t.Helper()
	page, err := p.process.SelectNotifications(p.ctx, r)
	if err != nil {
		t.Fatalf("SelectNotifications(%+v): %v", r, err)
	}
	return page
}

// wantPage reads a page of the log and compares it with what was acknowledged.
func (p *party) wantPage(t testing.TB, r persistence.NotificationRange) {
	t.Helper()
	if problem := difference(p.page(t, r), p.events.model.page(r)); problem != "" {
		t.Errorf("SelectNotifications(%+v): %s", r, problem)
	}
}

// log reads the whole log, page by page.
func (p *party) log(t testing.TB) []persistence.Notification {
	t.Helper()
	log, err := p.readLog(p.ctx)
	if err != nil {
		t.Fatalf("read the log of %s: %v", p.name, err)
	}
	return log
}

// readLog reads the whole log, page by page. It may be called by any goroutine.
func (p *party) readLog(ctx context.Context) ([]persistence.Notification, error) {
	var log []persistence.Notification
	for after := int64(0); ; {
		r := persistence.NotificationRange{After: after, Limit: persistence.MaxPage}
		page, err := p.process.SelectNotifications(ctx, r)
		if err != nil || len(page) == 0 || page[len(page)-1].ID <= after {
			return append(log, page...), err
		}
		log = append(log, page...)
		after = page[len(page)-1].ID
	}
}

// maxID returns the highest id in the log.
func (p *party) maxID(t testing.TB) int64 {
	t.Helper()
	id, err := p.process.MaxNotificationID(p.ctx)
	if err != nil {
		t.Fatalf("MaxNotificationID: %v", err)
	}
	return id
}

// verify compares everything that the store holds of the application with what
// was acknowledged to it.
func (p *party) verify(t testing.TB) {
	t.Helper()
	want := p.events.model.all()
	if problem := difference(p.log(t), want); problem != "" {
		t.Errorf("the log of %s afterwards: %s", p.name, problem)
	}
	var last int64
	if len(want) > 0 {
		last = want[len(want)-1].ID
	}
	if got := p.maxID(t); got != last {
		t.Errorf("MaxNotificationID of %s afterwards: got %d, want %d", p.name, got, last)
	}
	p.events.verify(t)
	p.snapshots.verify(t)
	for upstream, want := range p.positions.all() {
		p.wantPosition(t, upstream, want)
	}
}
