package management_test

import (
	"strings"
	"testing"
)

// The upstream apps of reset_follower are given as the Python library has them,
// with blanks between, and with commas.
func TestUpstreamAppsWithBlanks(t *testing.T) {
	t.Parallel()
	s := newSQLite(t)
	s.train(t, "TrainingSchool", 1)
	s.train(t, "CatSchool", 1)
	s.manage(t, "sync_followers", "-v", "0").want(t, 0, "", "")
	const both, one = "(2 upstream apps)", "(1 upstream app)"
	for words, want := range map[string]string{
		"Counter -u TrainingSchool CatSchool":              both,
		"-n Counter --upstream-apps TrainingSchool":        one,
		"-u TrainingSchool CatSchool Counter":              both,
		"-u TrainingSchool Counter":                        one,
		"-u TrainingSchool -u CatSchool Counter":           both,
		"-u TrainingSchool,CatSchool Counter":              both,
		"Counter -u TrainingSchool -v 1 CatSchool":         both,
		"--upstream-apps=TrainingSchool CatSchool Counter": both,
		"Counter -u CatSchool":                             one,
		"Counter":                                          both,
		"Counter Diary":                                    "accepts at most 1 arg(s), received 2",
		"Counter Diary -u TrainingSchool":                  "accepts at most 1 arg(s), received 2",
		"Counter -u TrainingSchool Nobody":                 "Nobody",
		"Counter -u TrainingSchool ,":                      "argument -u/--upstream-apps: a name is empty",
		"-u TrainingSchool":                                "No follower selected",
	} {
		got := s.manage(t, append([]string{"reset_follower", "-n"}, strings.Fields(words)...)...)
		if output := got.stdout + got.stderr; !strings.Contains(output, want) {
			t.Errorf("%s: %s, want %q", words, output, want)
		}
	}
}
