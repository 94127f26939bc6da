package house

import (
	"bytes"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// longestTest is how many lines a file of tests may have: one that is longer
// holds several things, and each of them can have a file whose name says what it
// is.
const longestTest = 500

// goFiles returns the paths of the Go files below a folder, without those that
// are data of tests.
func goFiles(t *testing.T, folder string) (files []string) {
	t.Helper()
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "testdata" || strings.HasPrefix(entry.Name(), ".git")):
			return filepath.SkipDir
		case strings.HasSuffix(path, ".go"):
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// tooLong returns a problem for each file of tests below a folder that is too
// long.
func tooLong(t *testing.T, folder string) (problems []string) {
	t.Helper()
	for _, file := range goFiles(t, folder) {
		if !strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(text, []byte("\n")); n > longestTest {
			problems = append(problems, fmt.Sprintf("%s has %d lines, want at most %d", file, n, longestTest))
		}
	}
	return problems
}

func TestFilesOfTestsAreShort(t *testing.T) {
	for _, problem := range tooLong(t, root) {
		t.Error(problem)
	}
	folder := t.TempDir()
	for name, lines := range map[string]int{"short_test.go": longestTest, "long_test.go": longestTest + 1, "long.go": longestTest + 1} {
		if err := os.WriteFile(filepath.Join(folder, name), bytes.Repeat([]byte("\n"), lines), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := tooLong(t, folder); len(got) != 1 || !strings.Contains(got[0], "long_test.go has 501 lines") {
		t.Errorf("got %q, want the long file of tests", got)
	}
}

// alike returns the pairs of names that differ by one letter.
func alike(names []string) (pairs []string) {
	for i, a := range names {
		for _, b := range names[:i] {
			if isOneLetterFrom(a, b) {
				pairs = append(pairs, b+" and "+a)
			}
		}
	}
	return pairs
}

// isOneLetterFrom reports whether two names become the same if a letter of one
// is changed or left out.
func isOneLetterFrom(a, b string) bool {
	if len(a) < len(b) {
		a, b = b, a
	}
	common := 0
	for common < len(b) && a[common] == b[common] {
		common++
	}
	return len(a) == len(b) && common < len(a) && a[common+1:] == b[common+1:] ||
		len(a) == len(b)+1 && a[common+1:] == b[common:]
}

func TestNamesOfFilesAreNotAlike(t *testing.T) {
	folders := map[string]map[string]bool{}
	for _, file := range goFiles(t, root) {
		folder := filepath.Dir(file)
		if folders[folder] == nil {
			folders[folder] = map[string]bool{}
		}
		folders[folder][strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".go"), "_test")] = true
	}
	for folder, names := range folders {
		for _, pair := range alike(slices.Sorted(maps.Keys(names))) {
			t.Errorf("%s has the files %s, which differ by one letter", folder, pair)
		}
	}
	names := []string{"fault", "faults", "fold", "hold", "save", "saves", "stave", "wave"}
	want := []string{"fault and faults", "fold and hold", "save and saves", "save and stave", "save and wave"}
	if got := alike(names); !slices.Equal(got, want) {
		t.Errorf("got the pairs %q, want %q", got, want)
	}
}
