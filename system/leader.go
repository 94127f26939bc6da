package system

import (
	"context"
	"reflect"
	"time"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
	"github.com/eventsourcing-go/eventsourcing/internal/mapper"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Leader is a log of events that can be followed. Every application of a system
// is one; others, like the log of another service, are given to Pipe as they
// are. It must be safe for concurrent use.
type Leader interface {
	// Name is the name of the application whose log it is. Followers keep their
	// positions under it.
	Name() string
	// Head is the position of the log's last event, and 0 if there is none.
	Head(ctx context.Context) (int64, error)
	// Notifications returns a page of the log, fewer than r.Limit only at the
	// end of the range.
	Notifications(ctx context.Context, r persistence.NotificationRange) ([]persistence.Notification, error)
	// Decode returns the event in a notification. If domain.UpcastToMany makes
	// several events of it, they are its Parts, and those are what is handled.
	Decode(n persistence.Notification) (domain.Event, error)
	// Topics returns the names under which events with payloads of a type are
	// stored, today's first and then former ones, or none if the log has no
	// such events.
	Topics(payload reflect.Type) []string
}

// topicLister is a Leader whose events this program itself defines. A topic
// that it does not know is one of a newer program.
type topicLister interface{ knownTopics() []string }

// newestLeader is a Leader that may have newer events than its Head, while
// others are still being written.
type newestLeader interface {
	// Newest is the position of the newest event that is stored.
	Newest(ctx context.Context) (int64, error)
}

// newestOf is the position of a leader's newest event.
func newestOf(ctx context.Context, leader Leader) (int64, error) {
	if l, ok := leader.(newestLeader); ok {
		return l.Newest(ctx)
	}
	return leader.Head(ctx)
}

// localLeader is an application of the same process.
type localLeader struct {
	app    bridge.Application
	pushed recentEvents
	holds  holdWarning
}

// remember keeps what was saved in this process for followers that come to it
// soon, if it is what they would read: followers must not depend on who
// recorded an event.
func (l *localLeader) remember(recordings []mapper.Recording) {
	l.pushed.add(recordings, l.app.Mapper().CopiesPlain)
}

func (l *localLeader) Name() string { return l.app.Name() }

func (l *localLeader) Head(ctx context.Context) (int64, error) {
	return l.app.Recorder().MaxNotificationID(ctx)
}

// Newest implements newestLeader.
func (l *localLeader) Newest(ctx context.Context) (int64, error) {
	return l.app.Recorder().NewestNotificationID(ctx)
}

// Hold implements heldLeader.
func (l *localLeader) Hold(ctx context.Context, recent time.Duration) (*persistence.LogHold, error) {
	reader := l.app.RecorderCapabilities().Hold
	if reader == nil {
		return nil, nil
	}
	return reader.LogHold(ctx, recent)
}

func (l *localLeader) Notifications(ctx context.Context, r persistence.NotificationRange) ([]persistence.Notification, error) {
	return l.app.Recorder().SelectNotifications(ctx, r)
}

// Decode returns the event as it was saved if that was in this process a short
// while ago: it need not be decrypted, decompressed and decoded again.
func (l *localLeader) Decode(n persistence.Notification) (domain.Event, error) {
	if event, ok := l.pushed.event(n); ok {
		return event, nil
	}
	return l.app.Mapper().NotificationToParts(n)
}

// knownTopics implements knowing.
func (l *localLeader) knownTopics() []string { return l.app.Mapper().KnownTopics() }

func (l *localLeader) Topics(payload reflect.Type) []string {
	return l.app.Mapper().TopicsOfPayload(payload)
}
