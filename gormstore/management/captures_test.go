package management_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// deviations are the captures whose output differs on purpose, and why. What is
// compared of the others is everything but the messages of errors, which are
// this package's own.
var deviations = map[string]string{
	"same follower named twice -v 2 (2 names of 2 => 'All')":               "a name given twice counts once",
	"two unknown (order from a set)":                                       "unknown names are sorted",
	"uncaught error class (ValueError) in the 2nd follower, -v 1":          "every error is that follower's failure alone",
	"re-run after uncaught: first follower's work was rolled back (count)": "the first follower's work was kept",
	"two runners":                            "the words are those of Go",
	"EVENTSOURCING_RUNNER returns None":      "the words are those of Go",
	"EVENTSOURCING_RUNNER attribute missing": "the words are those of Go",
	"EVENTSOURCING_RUNNER module missing":    "the words are those of Go",
	"no runner in any app":                   "the words are those of Go",
	"bad verbosity":                          "the usage has our options",
	"help":                                   "the help has our options",
	"runner not started":                     "the runner need not be started",
}

var messages = regexp.MustCompile(`(Caught a \w+: ).*`)

// Every capture of the Python library is in the transcripts, and but for the
// deviations the output is the same byte for byte. The exit code differs if a
// follower fails: 1.
func TestCaptures(t *testing.T) {
	played := map[string]section{}
	for _, s := range transcript(t, "testdata/transcripts/sync_followers.md") {
		played[s.title] = s
	}
	frame := func(text string) string { return messages.ReplaceAllString(text, "$1…") }
	captures := transcript(t, "testdata/captures.md")
	for _, capture := range captures {
		ours, ok := played[capture.title]
		if !ok || !slices.Equal(strings.Fields(strings.ReplaceAll(capture.command, "manage.py", "manage")), strings.Fields(ours.command)) {
			t.Errorf("%q is not played as it was captured", capture.title)
			continue
		}
		same := capture.stdout == ours.stdout && frame(capture.stderr) == frame(ours.stderr)
		failed := strings.Contains(ours.stdout, "FAILED") || strings.Contains(capture.title, "failing")
		if failed && ours.code == 1 {
			ours.code = 0 // as the Python library has it
		}
		same = same && capture.code == ours.code
		if _, differs := deviations[capture.title]; same == differs {
			t.Errorf("%q is the same: %v, and deviates on purpose: %v\ncaptured\n%s\nours\n%s", capture.title, same, differs, capture, ours)
		}
	}
	if len(captures) != len(played) || len(captures) < 40 {
		t.Errorf("%d captures, %d played, want at least 40 captures", len(captures), len(played))
	}
}
