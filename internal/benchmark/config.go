package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// config is what the flags say.
type config struct {
	rows      []string
	databases []string
	writers   []int
	events    []int
	histories []int
	timing    timing
	rounds    int
	preload   int
	followers followers
	json      string
	profile   string
}

// followers is what the flags say of the rows that measure followers.
type followers struct {
	backlog    int           // events to catch up with
	deliveries int           // saves in each turn
	slow       int           // events of 5 ms each
	followed   int           // events to follow while the heap is watched
	idle       time.Duration // how long an idle follower is watched
}

// parseConfig reads the flags. It reports all mistakes in lists and figures
// together; what package flag itself says, it writes to output.
func parseConfig(arguments []string, output io.Writer) (config, error) {
	flags := flag.NewFlagSet("benchmark", flag.ContinueOnError)
	flags.SetOutput(output)
	rows := flags.String("rows", strings.Join(rowNames(), ","), "what to measure")
	databases := flags.String("databases", postgresKind+","+sqliteKind, "where")
	writers := flags.String("writers", "1,16,64", "concurrent writers in the row save")
	events := flags.String("events", "1,10", "events in each save in the row save")
	histories := flags.String("histories", "100,1000", "events of each aggregate in the row load")
	seconds := flags.Float64("seconds", 0.4, "measured time of each turn")
	warmup := flags.Float64("warmup", 0.1, "seconds of each turn before they are measured")
	rounds := flags.Int("rounds", 3, "turns of each way")
	preload := flags.Int("preload", 20_000, "rows in the table before each turn")
	backlog := flags.Int("backlog", 100_000, "events to catch up with in the row catchup")
	deliveries := flags.Int("deliveries", 100, "saves in each turn of the row delivery")
	slow := flags.Int("slow", 2_000, "events of 5 ms each in the row scale")
	followed := flags.Int("followed", 1_000_000, "events to follow in the row following")
	idle := flags.Float64("idle", 20, "seconds for which the row following watches an idle follower")
	json := flags.String("json", "", "also write all figures to this file")
	profile := flags.String("cpuprofile", "", "also write a profile of this process's CPU to this file")
	if err := flags.Parse(arguments); err != nil {
		return config{}, err
	}

	c := config{rounds: *rounds, preload: *preload, json: *json, profile: *profile}
	c.timing = timing{Warmup: inSeconds(*warmup), Measured: inSeconds(*seconds)}
	c.followers = followers{backlog: *backlog, deliveries: *deliveries, slow: *slow, followed: *followed, idle: inSeconds(*idle)}
	var mistakes [9]error
	c.rows, mistakes[0] = words("rows", *rows, rowNames())
	c.databases, mistakes[1] = words("databases", *databases, []string{postgresKind, sqliteKind})
	c.writers, mistakes[2] = numbers("writers", *writers, maxWriters)
	c.events, mistakes[3] = numbers("events", *events, eventsPerAggregate)
	c.histories, mistakes[4] = numbers("histories", *histories, maxHistory)
	if flags.NArg() > 0 {
		mistakes[5] = fmt.Errorf("unexpected %q", flags.Arg(0))
	}
	if c.timing.Measured <= 0 || c.timing.Warmup < 0 {
		mistakes[6] = errors.New("-seconds must be above zero, and -warmup not below it")
	}
	if c.rounds < 1 || c.preload < 0 {
		mistakes[7] = errors.New("-rounds must be above zero, and -preload not below it")
	}
	if min(*backlog, *deliveries, *slow, *followed) < 1 || *idle <= 0 {
		mistakes[8] = errors.New("-backlog, -deliveries, -slow, -followed and -idle must be above zero")
	}
	return c, errors.Join(mistakes[:]...)
}

const (
	maxWriters = 128 // keeps the connections below what the server admits
	maxHistory = 100_000
)

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// words reads a list of names out of those that are known.
func words(name, value string, known []string) ([]string, error) {
	list := strings.Split(value, ",")
	for _, word := range list {
		if !slices.Contains(known, word) {
			return nil, fmt.Errorf("-%s: unknown %q; known are %s", name, word, strings.Join(known, ", "))
		}
	}
	return list, nil
}

// numbers reads a list of whole numbers from 1.
func numbers(name, value string, highest int) ([]int, error) {
	var list []int
	for word := range strings.SplitSeq(value, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > highest {
			return nil, fmt.Errorf("-%s: %q is not a number from 1 to %d", name, word, highest)
		}
		list = append(list, n)
	}
	return list, nil
}
