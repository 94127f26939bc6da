package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/eventsourcing-go/eventsourcing/application"
	"github.com/eventsourcing-go/eventsourcing/cipher"
	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/gormstore"
	"github.com/eventsourcing-go/eventsourcing/internal/bridge"
)

// newLedger makes an application of accounts.
func newLedger(db *gorm.DB, name string, options ...application.Option) (*application.Application, *application.Repository[Account], error) {
	app, err := application.New(name, append(options, application.WithStore(gormstore.New(db)))...)
	if err != nil {
		return nil, nil, err
	}
	repository, err := application.NewRepository(app, accounts)
	return app, repository, err
}

// sealed has an application compress states with zlib and encrypt them with
// AES.
func sealed() (application.Option, error) {
	value, err := cipher.CreateKey(32)
	if err != nil {
		return nil, err
	}
	return application.WithEnv(map[string]string{
		"COMPRESSOR_TOPIC": "zlib", "CIPHER_TOPIC": "aes", "CIPHER_KEY": value,
	}), nil
}

// A bookkeeper is the writer of a whole application: it makes events and saves
// the account.
type bookkeeper struct {
	app     *application.Application
	account *Account
}

// book is an operation.
func (k *bookkeeper) book(ctx context.Context) error {
	if k.account == nil || k.account.Version() == eventsPerAggregate {
		k.account = newAccount(uuid.New(), 1)
	} else {
		domain.Trigger(k.account, sampleBooked)
	}
	_, err := k.app.Save(ctx, k.account)
	return err
}

// applicationCell compares Application.Save with raw rows that are as large.
func (b *bench) applicationCell(d *database, row string, writers int) (*cell, error) {
	seal, err := sealed()
	if err != nil {
		return nil, err
	}
	insert := b.task(raw, writers, 1)
	if insert.Topic, insert.State, err = sampleStored(d, seal); err != nil {
		return nil, err
	}
	full := func(ctx context.Context) (_ tally, err error) {
		db, pool, err := d.open(writers)
		if err != nil {
			return tally{}, err
		}
		defer func() { err = errors.Join(err, pool.Close()) }()
		app, _, err := newLedger(db, applicationName, seal)
		if err != nil {
			return tally{}, err
		}
		operations := make([]operation, writers)
		for i := range operations {
			operations[i] = (&bookkeeper{app: app}).book
		}
		meter, err := d.meter(ctx)
		if err != nil {
			return tally{}, err
		}
		return closedLoop(ctx, b.timing, operations, meter)
	}
	rows := func(ctx context.Context) (tally, error) { return insert.run(ctx, d) }
	return &cell{
		row: row, database: d.kind, workers: writers, events: 1,
		note: fmt.Sprintf("Application.Save: JSON, zlib, AES; states of %d bytes", len(insert.State)),
		ways: []way{{ours, b.saving(d, 1, full)}, {raw, b.saving(d, 1, rows)}},
	}, nil
}

// sampleStored is what a Booked is stored as.
func sampleStored(d *database, seal application.Option) (topic string, state []byte, err error) {
	db, pool, err := d.open(1)
	if err != nil {
		return "", nil, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	app, _, err := newLedger(db, applicationName, seal)
	if err != nil {
		return "", nil, err
	}
	stored, err := bridge.Of(app).Mapper().ToStored(newAccount(uuid.New(), 2).PendingEvents()[1])
	return stored.Topic, stored.State, err
}

// measureApplication is the row application.
func (b *bench) measureApplication(ctx context.Context, p *place) ([]result, error) {
	return b.within(p, func(d *database) ([]result, error) {
		c, err := b.applicationCell(d, rowApplication, 64)
		if err != nil {
			return nil, err
		}
		r, err := c.measure(ctx, b.rounds)
		return []result{r}, err
	})
}
