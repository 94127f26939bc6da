package main

import (
	"errors"
	"flag"
	"io"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestParseConfigDefaults(t *testing.T) {
	t.Parallel()
	c, err := parseConfig(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.rows, rowNames()) || !slices.Equal(c.databases, []string{postgresKind, sqliteKind}) {
		t.Errorf("got %v in %v, want everything everywhere", c.rows, c.databases)
	}
	if !slices.Equal(c.writers, []int{1, 16, 64}) || !slices.Equal(c.events, []int{1, 10}) || !slices.Equal(c.histories, []int{100, 1000}) {
		t.Errorf("got %v writers, %v events and %v in each history, want writers %v, events %v and histories %v", c.writers, c.events, c.histories, []int{1, 16, 64}, []int{1, 10}, []int{100, 1000})
	}
	if c.followers != (followers{100_000, 100, 2_000, 1_000_000, 20 * time.Second}) {
		t.Errorf("got %+v, want the figures of the full run", c.followers)
	}
	if c.rounds != 3 || c.preload != 20_000 || c.timing != (timing{100 * time.Millisecond, 400 * time.Millisecond}) {
		t.Errorf("got %d rounds, %d rows, %v, want rounds 3, preload 20_000 and timing %v", c.rounds, c.preload, c.timing, (timing{100 * time.Millisecond, 400 * time.Millisecond}))
	}
}

func TestParseConfig(t *testing.T) {
	t.Parallel()
	c, err := parseConfig(strings.Fields("-rows load,save -writers 2 -events 3,4 -seconds 1.5 -warmup 0 -rounds 5 "+
		"-databases sqlite -preload 0 -histories 7 -json figures.json -backlog 8 -deliveries 9 -slow 11 -followed 10 -idle 0.5"), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(c.rows, []string{rowLoad, rowSave}) || !slices.Equal(c.databases, []string{sqliteKind}) ||
		!slices.Equal(c.writers, []int{2}) || !slices.Equal(c.events, []int{3, 4}) || !slices.Equal(c.histories, []int{7}) || c.rounds != 5 || c.preload != 0 ||
		c.timing != (timing{0, 1500 * time.Millisecond}) || c.json != "figures.json" ||
		c.followers != (followers{8, 9, 11, 10, 500 * time.Millisecond}) {
		t.Errorf("got %+v, want rows %q, databases %q, writers %v, events %v, histories %v, rounds 5, preload 0, timing %v, json %q and followers %v", c, []string{rowLoad, rowSave}, []string{sqliteKind}, []int{2}, []int{3, 4}, []int{7}, (timing{0, 1500 * time.Millisecond}), "figures.json", (followers{8, 9, 11, 10, 500 * time.Millisecond}))
	}
}

// All mistakes are reported together.
func TestParseConfigMistakes(t *testing.T) {
	t.Parallel()
	_, err := parseConfig(strings.Fields("-rows saves -writers 0,x -events 101 -histories -1 -databases oracle -seconds 0 -rounds 0 -backlog 0 more"), io.Discard)
	if err == nil {
		t.Fatal("got no error")
	}
	for _, want := range []string{`unknown "saves"`, `-writers: "0"`, `-events: "101"`, `-histories: "-1"`, `unknown "oracle"`, "-seconds", "-rounds", "-backlog", `unexpected "more"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to contain %s", err, want)
		}
	}
	if _, err := parseConfig([]string{"-h"}, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("got %v, want flag.ErrHelp", err)
	}
}
