package application_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// The table of what the original requires names tests that exist.
func TestConformanceTable(t *testing.T) {
	table, err := os.ReadFile("../docs/conformance-application.md")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]bool{}
	for prefix, folder := range map[string]string{"": ".", "domain.": "../domain", "lru.": "../internal/lru"} {
		files, err := filepath.Glob(folder + "/*_test.go")
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			source, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, match := range regexp.MustCompile(`(?m)^func (Test\w+)\(t \*testing\.T\)`).FindAllSubmatch(source, -1) {
				tests[prefix+string(match[1])] = true
			}
		}
	}
	named := regexp.MustCompile("`((?:domain\\.|lru\\.)?Test\\w+)").FindAllSubmatch(table, -1)
	if len(named) == 0 {
		t.Fatal("the table names no tests")
	}
	for _, match := range named {
		if name := string(match[1]); !tests[name] {
			t.Errorf("there is no %s", name)
		}
	}
}
