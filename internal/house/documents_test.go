package house

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	links    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	headings = regexp.MustCompile(`(?m)^#+ (.*)$`)
	fences   = regexp.MustCompile("(?ms)^ *```.*?^ *```")
	// notInAnchors is what GitHub leaves out of a heading's anchor.
	notInAnchors = regexp.MustCompile(`[^\p{L}\p{N}_ -]`)
)

// TestLinksLeadSomewhere checks the links of the documents to files of this
// repository and to headings.
func TestLinksLeadSomewhere(t *testing.T) {
	count := 0
	for _, document := range documents(t) {
		for _, link := range links.FindAllStringSubmatch(withoutCode(t, document), -1) {
			target, anchor, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			count++
			file := document
			if target != "" {
				file = filepath.Join(filepath.Dir(document), target)
			}
			if _, err := os.Stat(file); err != nil {
				t.Errorf("%s links to %s, which does not exist", document, link[1])
			} else if anchor != "" && !anchors(t, file)[anchor] {
				t.Errorf("%s links to %s, which has no such heading", document, link[1])
			}
		}
	}
	if count < 50 {
		t.Errorf("found %d links, want at least 50", count)
	}
}

var (
	codeSpans = regexp.MustCompile("`[^`\n]+`")
	// testName ends with an ellipsis if it stands for all tests that begin so.
	testName = regexp.MustCompile(`\b((?:Test|Fuzz|Example)[A-Z]\w*)(…?)`)
)

// TestDocumentsNameTestsThatExist checks names of tests without a package too,
// in all documents but the changelog, which also names former ones.
func TestDocumentsNameTestsThatExist(t *testing.T) {
	var tests []string
	for function := range testFunctions(t) {
		tests = append(tests, function[strings.LastIndexByte(function, '.')+1:])
	}
	for _, document := range documents(t) {
		if filepath.Base(document) == "CHANGELOG.md" {
			continue
		}
		for _, span := range codeSpans.FindAllString(withoutCode(t, document), -1) {
			for _, name := range testName.FindAllStringSubmatch(span, -1) {
				exists := slices.ContainsFunc(tests, func(test string) bool {
					return test == name[1] || name[2] != "" && strings.HasPrefix(test, name[1])
				})
				if !exists {
					t.Errorf("%s names the test %s, which does not exist", document, name[0])
				}
			}
		}
	}
}

var mapRow = regexp.MustCompile("(?m)^\\| `([^`]+)` \\| [^|]+ \\| ([^|]*) \\|$")

// TestArchitectureHasTheMap compares the maps of packages in the document with
// what they may import.
func TestArchitectureHasTheMap(t *testing.T) {
	const document = "docs/architecture.md"
	text, err := os.ReadFile(filepath.Join(root, document))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, row := range mapRow.FindAllStringSubmatch(string(text), -1) {
		got[row[1]] = row[2]
	}
	for _, p := range slices.Concat(mayImport, nestedMayImport) {
		want := ""
		if len(p.imports) > 0 {
			want = "`" + strings.Join(p.imports, "`, `") + "`"
		}
		if imports, found := got[p.name]; !found {
			t.Errorf("%s has no row for %s, which may import %s", document, p.name, want)
		} else if imports != want {
			t.Errorf("%s says that %s may import %s, want %s", document, p.name, imports, want)
		}
		delete(got, p.name)
	}
	for name := range got {
		t.Errorf("%s has a row for %s, which is not in the list of allowed imports", document, name)
	}
}

// documents returns the paths of all Markdown files but those of test data.
func documents(t *testing.T) (paths []string) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if entry != nil && entry.IsDir() && (entry.Name() == "testdata" || entry.Name() == ".git") {
			return filepath.SkipDir
		}
		if strings.HasSuffix(path, ".md") {
			paths = append(paths, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// withoutCode returns a document without its blocks of code.
func withoutCode(t *testing.T, document string) string {
	t.Helper()
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	return fences.ReplaceAllString(string(text), "")
}

// anchors returns the anchors that GitHub gives to the headings of a document.
func anchors(t *testing.T, document string) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, heading := range headings.FindAllStringSubmatch(withoutCode(t, document), -1) {
		text := notInAnchors.ReplaceAllString(strings.ToLower(heading[1]), "")
		found[strings.ReplaceAll(text, " ", "-")] = true
	}
	return found
}
