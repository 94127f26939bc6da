package application

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// intervals say after how many events of an aggregate a snapshot is taken, by the name of its definition; "" is for
// all that are not named.
type intervals map[string]int

// due tells whether a snapshot is to be taken at a version.
func (i intervals) due(definition string, version int64) bool {
	interval, named := i[definition]
	if !named {
		interval = i[""]
	}
	return interval > 0 && version > 0 && version%int64(interval) == 0
}

// parseIntervals reads "Dog=50,Visit=20", or one number for all.
func parseIntervals(setting persistence.Setting) (intervals, error) {
	parsed := intervals{}
	for part := range strings.SplitSeq(setting.Value, ",") {
		definition, number, named := strings.Cut(strings.TrimSpace(part), "=")
		if !named {
			definition, number = "", definition
		}
		definition = strings.TrimSpace(definition)
		interval, err := strconv.ParseInt(strings.TrimSpace(number), 10, 32)
		_, twice := parsed[definition]
		if err != nil || interval < 1 || twice || named && definition == "" {
			return nil, setting.Wrong(`must be a whole number from 1, or "Name=number" for each aggregate once, with commas between`)
		}
		parsed[definition] = int(interval)
	}
	return parsed, nil
}

// check refuses intervals given in code that make no sense.
func (i intervals) check() error {
	for definition, interval := range i {
		if interval < 1 {
			return fmt.Errorf("application: snapshotting interval %d of %q must be at least 1", interval, definition)
		}
	}
	return nil
}
