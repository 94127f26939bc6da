package natsstore

import (
	"context"
	"strings"

	"github.com/nats-io/nats.go"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// Listen implements capability.Listener. The servers publish a message without
// its payload after each event that was stored.
func (s storeCapabilities) Listen(ctx context.Context, wake func(application string)) error {
	if s.closed.Load() {
		return s.closedError("natsstore", "listen")
	}
	subscription, err := s.subscribe(ctx, "natsstore", "listen", s.config.Namespace+".*.w", func(m *nats.Msg) {
		t := strings.TrimSuffix(strings.TrimPrefix(m.Subject, s.config.Namespace+"."), ".w")
		if application, ok := nameOf(t); ok {
			wake(application)
		}
	})
	if err != nil {
		return err
	}
	defer subscription.Unsubscribe()
	changes := s.conn.StatusChanged(nats.CONNECTED, nats.CLOSED)
	defer s.conn.RemoveStatusListener(changes)
	for {
		select {
		case <-ctx.Done():
			return nil
		case status := <-changes:
			if status == nats.CLOSED {
				return &persistence.Error{Class: persistence.ErrOperational, Op: "natsstore: listen", Err: nats.ErrConnectionClosed}
			}
			wake("")
		}
	}
}
