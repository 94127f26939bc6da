package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
)

// The rows: what can be measured.
const (
	rowSave        = "save"
	rowApplication = "application"
	rowLoad        = "load"
	rowLatency     = "latency"
	rowProcesses   = "processes"
	rowSlowdisk    = "slowdisk"
	rowTransaction = "transaction"
	rowMemory      = "memory"
	rowCatchup     = "catchup"
	rowDelivery    = "delivery"
	rowFollowing   = "following"
	rowContention  = "contention"
	rowScale       = "scale"
)

// rows are all rows, in the order in which they are measured.
var rows = []struct {
	name    string
	measure func(*bench, context.Context, *place) ([]result, error)
}{
	{rowSave, (*bench).measureSave},
	{rowApplication, (*bench).measureApplication},
	{rowLoad, (*bench).measureLoad},
	{rowLatency, (*bench).measureLatency},
	{rowProcesses, (*bench).measureProcesses},
	{rowSlowdisk, (*bench).measureSlowdisk},
	{rowTransaction, (*bench).measureTransaction},
	{rowMemory, (*bench).measureMemory},
	{rowCatchup, (*bench).measureCatchup},
	{rowDelivery, (*bench).measureDelivery},
	{rowFollowing, (*bench).measureFollowing},
	{rowContention, (*bench).measureContention},
	{rowScale, (*bench).measureScale},
}

func rowNames() []string {
	names := make([]string, len(rows))
	for i, row := range rows {
		names[i] = row.name
	}
	return names
}

// A bench is one run of the program.
type bench struct {
	config
	out     io.Writer
	machine machine
	results []result
}

// run measures what was asked for and prints it as it comes.
func (b *bench) run(ctx context.Context) (err error) {
	if b.machine, err = thisMachine(); err != nil {
		return err
	}
	for _, kind := range b.databases {
		if err := b.measureIn(ctx, kind); err != nil {
			return err
		}
	}
	if err := printOutcomes(b.out, judge(goals(), b.results)); err != nil {
		return err
	}
	return b.writeJSON()
}

// measureIn measures the rows in one kind of database.
func (b *bench) measureIn(ctx context.Context, kind string) (err error) {
	p, err := openPlace(kind)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.end()) }()
	if err := b.introduce(ctx, p); err != nil {
		return err
	}
	for _, row := range rows {
		if !slices.Contains(b.rows, row.name) {
			continue
		}
		results, err := row.measure(b, ctx, p)
		if err != nil {
			return err
		}
		b.results = append(b.results, results...)
		if err := printResults(b.out, results); err != nil {
			return err
		}
	}
	return nil
}

// introduce prints what the figures were measured on.
func (b *bench) introduce(ctx context.Context, p *place) error {
	_, err := b.within(p, func(d *database) ([]result, error) {
		version, err := d.version(ctx)
		b.machine.Databases = append(b.machine.Databases, version)
		if err != nil {
			return nil, err
		}
		return nil, b.machine.print(b.out, version)
	})
	return err
}

// within calls f with a database in a place.
func (b *bench) within(p *place, f func(*database) ([]result, error)) (_ []result, err error) {
	d, err := newDatabase(p)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	return f(d)
}

// writeJSON writes all figures to the file that was asked for.
func (b *bench) writeJSON() error {
	if b.json == "" {
		return nil
	}
	content, err := json.MarshalIndent(struct {
		Machine machine  `json:"machine"`
		Results []result `json:"results"`
	}{b.machine, b.results}, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(b.json, append(content, '\n'), 0o644)
}
