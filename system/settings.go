package system

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/eventsourcing-go/eventsourcing/domain"
	"github.com/eventsourcing-go/eventsourcing/internal/capability"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

// ErrPaused says that a follower is paused and processes nothing until it is
// resumed.
var ErrPaused = fmt.Errorf("%w: the follower is paused; resume it with the command followers resume", domain.ErrEventSourcing)

// allTopics is the topic under which a follower without a filter processes
// those that are not named.
const allTopics = "*"

func (f *followerLoop) settingsRecorder() capability.SettingsRecorder {
	return f.app.RecorderCapabilities().Settings
}

// settleStart records the start of a follower with StartAt or StartAtHead, unless it has begun.
func (f *followerLoop) settleStart(ctx context.Context) (err error) {
	if f.follower.start == 0 || f.settingsRecorder() == nil {
		return nil // pull reports a store without settings
	}
	for range settleAttempts {
		_, settings, _, readErr := f.readSettings(ctx)
		switch {
		case readErr != nil:
			return f.failed(persistence.Notification{}, readErr)
		case settings != nil && (settings.Began != nil || settings.Paused()):
			return nil
		}
		// Another process that is faster is at the same thing.
		if _, err = f.readPosition(ctx); !errors.Is(err, errOvertaken) && !isLocked(err) {
			break
		}
	}
	if err != nil {
		return f.failed(persistence.Notification{}, err)
	}
	return nil
}

// settleAttempts is how often settleStart gives way to other processes.
const settleAttempts = 10

// readPosition reads the position. The settings, which come with it, are
// followed before anything is processed.
func (f *followerLoop) readPosition(ctx context.Context) (int64, error) {
	if f.settingsRecorder() == nil {
		return f.app.Recorder().MaxTrackingID(ctx, f.leader.Name())
	}
	position, settings, revision, err := f.readSettings(ctx)
	if err != nil {
		return position, err
	}
	if settings == nil {
		return position, f.withoutSettings(ctx)
	}
	if settings.Paused() {
		return position, f.paused()
	}
	if settings.Began == nil || settings.Topics != f.settled {
		at := position
		if settings.Partitions > 0 { // what some have passed, others may have before them
			if at, err = f.newPartitionLoop().highestPosition(ctx, f.leader.Name()); err != nil {
				return position, err
			}
		}
		if err := f.settle(ctx, at, *settings); err != nil {
			return position, err
		}
		position, settings, revision, err = f.readSettings(ctx) // which settle has changed
		switch {
		case err != nil:
			return position, err
		case settings == nil || settings.Began == nil || settings.Topics != f.settled || settings.Paused():
			return position, errOvertaken
		}
	}
	f.revision, f.storedPartitions = revision, settings.Partitions
	f.topicNote = noteOf(settings)
	f.warnOf(ctx, f.topicNote)
	return position, nil
}

func (f *followerLoop) paused() error {
	return fmt.Errorf("system: %s does not process events of %s: %w", f.app.Name(), f.leader.Name(), ErrPaused)
}

// withoutSettings warns once that the store keeps no settings.
func (f *followerLoop) withoutSettings(ctx context.Context) error {
	if f.follower.start != 0 {
		return fmt.Errorf("system: %s does not start at the beginning of %s, and its database has no table that says whether it has begun; "+
			"create it with the command migrate", f.app.Name(), f.leader.Name())
	}
	f.warnOf(ctx, "the database has no table for the settings of followers: they cannot be paused, and a change of their topics "+
		"is not noticed; create it with the command migrate")
	return nil
}

// warnOf logs a warning, unless it is the one that was logged last.
func (f *followerLoop) warnOf(ctx context.Context, note string) {
	if note != "" && note != f.warned {
		f.app.Logger().WarnContext(ctx, "follower: "+note, "follower", f.app.Name(), "leader", f.leader.Name())
	}
	f.warned = note
}

// settle records the follower's beginning, and which topics it processes from
// now on. It returns errOvertaken if another process has changed the position
// or the settings since they were read.
func (f *followerLoop) settle(ctx context.Context, position int64, read capability.FollowerSettings) error {
	next := read
	changes, err := f.settleTopics(ctx, position, &next)
	if err != nil {
		return err
	}
	if read.Partitions > 0 && read.Began != nil && next.Topics == read.Topics && next.TopicChanges == read.TopicChanges {
		// The lock would wait for the batches of all processes.
		f.settled = next.Topics
		return nil
	}
	to := position
	if read.Began == nil {
		if to, err = f.beginning(ctx, position); err != nil {
			return err
		}
		next.Began = &to
		if to == position {
			// A position without settings is that of a follower which began
			// before there were any.
			next.Began = new(int64)
		}
	}
	err = f.transaction(ctx, func(ctx context.Context) error {
		at, current, _, err := f.lockSettings(ctx)
		switch {
		case err != nil:
			return err
		case current == nil || at != position && current.Partitions == 0 || current.Partitions != read.Partitions || current.Topics != read.Topics || (current.Began == nil) != (read.Began == nil):
			return errOvertaken
		case current.Paused():
			return f.paused()
		}
		if to > position {
			if err := f.move(ctx, position, to, nil); err != nil {
				return err
			}
		}
		return f.settingsRecorder().WriteSettings(ctx, f.leader.Name(), next)
	})
	if err != nil {
		return err
	}
	f.settled = next.Topics
	if to > position {
		f.app.Logger().InfoContext(ctx, "follower begins at a position and not at the beginning of the log", "follower", f.app.Name(),
			"leader", f.leader.Name(), "position", to)
	}
	if changes != "" {
		f.app.Logger().WarnContext(ctx, "the follower's topics are not those that it last ran with; if another program runs "+
			"under this name, give it its own name", "follower", f.app.Name(), "leader", f.leader.Name(),
			"position", position, "changes", changes)
	}
	return nil
}

// beginning is the first position of a follower that has not begun.
func (f *followerLoop) beginning(ctx context.Context, position int64) (int64, error) {
	if f.follower.start == 0 || position > 0 {
		return position, nil
	}
	head, err := f.leader.Head(ctx)
	if err != nil || f.follower.start == startAtHead {
		return head, err
	}
	if f.follower.start <= head {
		return f.follower.start, nil
	}
	return 0, &mistake{f.app.Name(), fmt.Sprintf("it starts at position %d of %s, whose log ends at %d",
		f.follower.start, f.leader.Name(), head)}
}

// settleTopics sets since which position each topic is processed, and returns
// what has changed, or "". A topic that is not wanted any more keeps the position
// at which it was dropped, as a negative number. A topic that this program does
// not know stays as it is, because its events are not left out: restrict does
// not exclude them, and the follower stops at them. So if a newer program has
// recorded a new name of an event, an older one sees no change.
func (f *followerLoop) settleTopics(ctx context.Context, position int64, settings *capability.FollowerSettings) (string, error) {
	recorded, err := topicsSince(settings)
	if err != nil {
		return "", err
	}
	if position == 0 {
		recorded = nil // nothing was processed, so nothing was left out
	}
	since, changes := map[string]int64{}, []string(nil)
	for _, names := range f.wanted() {
		from, known := earliest(recorded, names)
		if !known && recorded != nil {
			changes = append(changes, "+"+names[0])
			if from, err = f.missed(ctx, names, position); err != nil {
				return "", err
			}
		}
		for _, name := range names {
			since[name] = from
		}
	}
	all, wantsAll := since[allTopics]
	dropped := false
	for _, name := range slices.Sorted(maps.Keys(recorded)) {
		from := recorded[name]
		_, wanted := since[name]
		switch {
		case wanted:
		case wantsAll && from >= 0 && from < all, !wantsAll && (from < 0 || !f.passesOver(name)):
			since[name] = from
		case !wantsAll:
			since[name] = -position
			changes, dropped = append(changes, "-"+name), true
		}
	}
	if dropped {
		settings.TopicChanges++
	}
	text, err := json.Marshal(since)
	settings.Topics = string(text)
	return strings.Join(changes, " "), err
}

// wanted are the names of each wanted topic, today's first. They are those of
// all topics if there is no filter.
func (f *followerLoop) wanted() (groups [][]string) {
	if len(f.topics) == 0 {
		return [][]string{{allTopics}}
	}
	return f.follower.topics(f.leader)
}

// passesOver reports whether the follower leaves out events of a topic that it
// does not want.
func (f *followerLoop) passesOver(topic string) bool {
	known := f.knownTopics()
	return len(known) == 0 || topic == allTopics || slices.Contains(known, topic)
}

// topicsSince is what is recorded of topics, or nil if nothing is.
func topicsSince(settings *capability.FollowerSettings) (since map[string]int64, err error) {
	if settings.Topics == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(settings.Topics), &since); err != nil {
		return nil, fmt.Errorf("system: the recorded topics of a follower cannot be read: %w", err)
	}
	return since, nil
}

// earliest is since when a topic with these names is processed. A topic that is
// known under a former name is the same one.
func earliest(recorded map[string]int64, names []string) (since int64, known bool) {
	for _, name := range names {
		if from, ok := recorded[name]; ok && from >= 0 && (!known || from < since) {
			since, known = from, true
		}
	}
	if from, ok := recorded[allTopics]; ok && from >= 0 && !known {
		return from, true
	}
	return since, known
}

// missed is the position, if the log has events of a topic up to there, and 0
// if the follower has missed none.
func (f *followerLoop) missed(ctx context.Context, names []string, position int64) (int64, error) {
	if position == 0 || names[0] == allTopics {
		return position, nil
	}
	r := persistence.NotificationRange{Limit: 1, Topics: names}
	for r.After < position {
		events, end, err := f.readEvents(ctx, r, position)
		switch {
		case err != nil:
			return 0, err
		case len(events) > 0:
			return position, nil
		}
		r.After = end
	}
	return 0, nil
}

// noteOf says what the topics of a follower leave out, or "".
func noteOf(settings *capability.FollowerSettings) string {
	since, err := topicsSince(settings)
	if err != nil {
		return err.Error()
	}
	late := map[int64][]string{}
	for _, name := range slices.Sorted(maps.Keys(since)) {
		from, shown := since[name], name
		if name == allTopics {
			shown = "every other topic"
		}
		if from != 0 {
			late[from] = append(late[from], shown)
		}
	}
	var notes []string
	for _, from := range slices.Sorted(maps.Keys(late)) {
		names := strings.Join(late[from], ", ")
		if from < 0 {
			notes = append(notes, fmt.Sprintf("%s: not processed any more since position %d", names, -from))
			continue
		}
		notes = append(notes, fmt.Sprintf("%s: processed only since position %d; reset the follower to process older ones", names, from))
	}
	if settings.TopicChanges > 1 {
		notes = append(notes, fmt.Sprintf("topics were left out %d times; if another program runs under this name, "+
			"give it its own name", settings.TopicChanges))
	}
	if len(notes) > 0 {
		notes = append(notes, "accept this with the command followers accept")
	}
	return strings.Join(notes, "; ")
}

// isPaused reports whether an error is that the follower is paused.
func isPaused(err error) bool { return errors.Is(err, ErrPaused) }
