package management_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/internal/testdb"
)

var update = flag.Bool("update", false, "write the transcripts in testdata anew")

// section is a part of a transcript: what is done first, a command, and what it
// printed.
type section struct {
	title   string
	setup   []string // lines that begin with ">"
	command string
	result
}

// transcript reads the sections of a file, in the form of the captures: $ marks
// the end of a line, \t a tab, ^[ an escape.
func transcript(t *testing.T, path string) (sections []section) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(text), "\n### ")[1:] {
		title, rest, _ := strings.Cut(part, "\n")
		before, rest, ok := strings.Cut(rest, "```\n$ ")
		if !ok {
			continue // a heading alone
		}
		s := section{title: title}
		for line := range strings.Lines(before) {
			if step, ok := strings.CutPrefix(line, "> "); ok {
				s.setup = append(s.setup, strings.TrimSpace(step))
			}
		}
		s.command, rest, _ = strings.Cut(rest, "\n")
		_, rest, _ = strings.Cut(rest, "-- stdout --\n")
		stdout, rest, _ := strings.Cut(rest, "-- stderr --\n")
		stderr, rest, _ := strings.Cut(rest, "-- exit ")
		code, _, _ := strings.Cut(rest, " ")
		s.code, _ = strconv.Atoi(code)
		s.stdout, s.stderr = plain(stdout), plain(stderr)
		sections = append(sections, s)
	}
	return sections
}

var (
	toPlain = strings.NewReplacer("$\n", "\n", `\t`, "\t", "^[", "\x1b")
	toShown = strings.NewReplacer("\n", "$\n", "\t", `\t`, "\x1b", "^[")
)

func plain(shown string) string { return toPlain.Replace(shown) }

// String is the section as a file has it.
func (s section) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n", s.title)
	for _, step := range s.setup {
		fmt.Fprintf(&b, "> %s\n", step)
	}
	if len(s.setup) > 0 {
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "```\n$ %s\n-- stdout --\n%s-- stderr --\n%s-- exit %d --\n```\n",
		s.command, toShown.Replace(s.stdout), toShown.Replace(s.stderr), s.code)
	return b.String()
}

// Notification ids depend on what was rolled back before.
var ids = regexp.MustCompile(`notification \d+`)

// stage has what a transcript is played with.
type stage struct {
	make func(*testing.T) *service
	*service
}

// play does what a section says.
func (g *stage) play(t *testing.T, s section) section {
	t.Helper()
	for _, step := range s.setup {
		g.step(t, strings.Fields(step))
	}
	words := strings.Fields(s.command)
	for i, word := range words {
		if word == "manage.py" || word == "manage" {
			words = append(words[:i:i], words[i+1:]...)
			break
		}
	}
	s.result = g.manage(t, words...)
	s.stderr = ids.ReplaceAllString(s.stderr, "notification N")
	return s
}

func (g *stage) step(t *testing.T, words []string) {
	t.Helper()
	switch words[0] {
	case "new":
		g.service = g.make(t)
	case "unmigrated":
		if err := g.db.Exec("DROP TABLE notification_tracking").Error; err != nil {
			t.Fatal(err)
		}
	case "train":
		n, err := strconv.Atoi(words[2])
		if err != nil {
			t.Fatal(err)
		}
		g.train(t, words[1], n)
	case "sync": // the words after it are environment
		g.manage(t, append(words[1:], "sync_followers", "-v", "0")...).want(t, 0, "", "")
	default:
		t.Fatalf("unknown step %q", words)
	}
}

// What the program prints is what the transcripts have, on both databases. The
// transcripts of one command, which other tests try on both, are played on
// PostgreSQL if every combination is tried.
func TestTranscripts(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/transcripts/*.md")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no transcripts", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".md")
		t.Run(name+"/sqlite", func(t *testing.T) {
			t.Parallel()
			playFile(t, file, newSQLite, *update)
		})
		if !testdb.Exhaustive() && (name == "reset_follower" || name == "sync_followers") {
			continue
		}
		t.Run(name+"/postgres", func(t *testing.T) {
			t.Parallel()
			playFile(t, file, newStrict, false)
		})
	}
}

// newStrict makes a service on PostgreSQL that writes as one on SQLite does.
func newStrict(t *testing.T) *service {
	t.Helper()
	s := newPostgres(t)
	s.env = append(s.env, "STRICT_ORDER=y")
	return s
}

func playFile(t *testing.T, file string, make func(*testing.T) *service, write bool) {
	g := &stage{make: make, service: make(t)}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	introduction, _, _ := strings.Cut(string(text), "\n### ")
	written := []string{introduction}
	for _, want := range transcript(t, file) {
		got := g.play(t, want)
		written = append(written, got.String())
		if !write && got.result != want.result {
			t.Errorf("this was played\n%s\nand wanted was\n%s", got, want)
		}
	}
	if write {
		if err := os.WriteFile(file, []byte(strings.Join(written, "\n")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
