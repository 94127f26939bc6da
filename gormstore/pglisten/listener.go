package pglisten

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// listener hears notifications of a PostgreSQL server.
type listener struct {
	config *pgx.ConnConfig
	logger *slog.Logger
	waits  waits
}

// waits are how long a listener waits for what.
type waits struct {
	shortest, longest time.Duration // before the first and before later attempts to connect again
	connecting        time.Duration // for a connection that listens
	// idle bounds the wait for a notification, after which the listener asks
	// whether the server is there, and answer the wait for the answer.
	idle   time.Duration
	answer time.Duration
}

// usual are the waits of every listener outside of tests.
var usual = waits{
	shortest:   100 * time.Millisecond,
	longest:    10 * time.Second,
	connecting: 10 * time.Second,
	idle:       30 * time.Second,
	answer:     10 * time.Second,
}

// New makes a listener of a DSN, a URL or a list of key=value as pgx takes
// them; what it does not say is taken from the environment (PGHOST and so on).
// The listener logs, once, that it has lost its connection or cannot get one,
// and that it has one again; never the DSN. A nil logger is slog.Default().
//
// New does not connect. The listener holds no connection itself and needs no
// Close: what a call of Listen uses, it has given back when it returns. It is
// safe for concurrent use, also by several Stores, which then share the settings
// and nothing else.
//
// Notifications that come while the wake of Listen is running are put together:
// wake is then called once for each text, however often it was notified, by the
// goroutine that called Listen. A DSN that cannot be read is a
// persistence.ErrProgramming, whose text does not repeat it: it is unknown
// which part of it is the password.
func New(dsn string, logger *slog.Logger) (gormstore.Listener, error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, &persistence.Error{Class: persistence.ErrProgramming, Op: "pglisten",
			Hint: "the DSN cannot be read; it is of the form postgres://user:password@host:port/database or host=... dbname=..."}
	}
	if logger == nil {
		logger = slog.Default()
	}
	return &listener{config: config, logger: logger, waits: usual}, nil
}

// Listen implements gormstore.Listener.
func (l *listener) Listen(ctx context.Context, channel func(context.Context) (string, error), wake func(text string)) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	heard := newSignals()
	var reader sync.WaitGroup
	var err error
	reader.Go(func() {
		defer stop()
		err = l.hear(ctx, channel, heard)
	})
	for heard.wait(ctx) {
		for _, text := range heard.take() {
			wake(text)
		}
	}
	stop()
	reader.Wait()
	return err
}

// hear connects again and again, until ctx ends or there can be no channel.
func (l *listener) hear(ctx context.Context, channel func(context.Context) (string, error), heard *signals) error {
	wait, lost := l.waits.shortest, false
	for {
		err := l.session(ctx, channel, func() {
			heard.add("")
			if lost {
				l.logger.InfoContext(ctx, "pglisten: hearing of other processes' events again")
			}
			wait, lost = l.waits.shortest, false
		}, heard.add)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, persistence.ErrInterface):
			return err
		case !lost:
			// The error is logged as a text: as a value it holds the settings,
			// with the password.
			lost = true
			l.logger.WarnContext(ctx, "pglisten: not hearing of other processes' events until there is a connection; "+
				"followers find them by polling", "error", err.Error())
		}
		pause(ctx, wait)
		wait = min(2*wait, l.waits.longest)
	}
}

// pause waits between half of a time and all of it, so that the processes that
// lost a server do not all come back at once.
func pause(ctx context.Context, most time.Duration) {
	timer := time.NewTimer(most/2 + rand.N(most/2))
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
