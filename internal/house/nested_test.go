package house

import (
	"fmt"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// nestedMayImport is mayImport for the packages of nested modules that a
// service links. The internal packages in it are why a module has to be upgraded
// together with the root.
var nestedMayImport = []allowedImports{
	{"natsstore/internal/logcopy", []string{"persistence"}},
	{"natsstore", []string{"persistence", "internal/capability", "internal/environment", "internal/limits", "internal/txscope",
		"natsstore/internal/logcopy"}},
	{"natsstore/copylog", []string{"persistence", "gormstore", "internal/checker", "natsstore", "natsstore/internal/logcopy"}},
	{"contrib/otel", []string{"domain", "persistence", "application", "telemetry"}},
	{"contrib/prometheus", []string{"application", "telemetry"}},
}

// nestedImports returns what the packages of the modules below a folder, but for
// the folder's own, import of this repository, without their tests. It reads the
// source, because go list needs the dependencies of each module.
func nestedImports(t *testing.T, folder string) map[string][]string {
	t.Helper()
	found := map[string]map[string]bool{}
	for _, file := range goFiles(t, folder) {
		name, err := filepath.Rel(folder, filepath.Dir(file))
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(file, "_test.go") || !isNested(folder, name) {
			continue
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		name = filepath.ToSlash(name)
		if found[name] == nil {
			found[name] = map[string]bool{}
		}
		for _, imported := range parsed.Imports {
			if short, own := strings.CutPrefix(strings.Trim(imported.Path.Value, "`\""), module+"/"); own {
				found[name][short] = true
			}
		}
	}
	imports := map[string][]string{}
	for name, of := range found {
		imports[name] = slices.Sorted(maps.Keys(of))
	}
	return imports
}

// isNested reports whether a package has a go.mod in its folder or above it,
// below the folder of the root.
func isNested(root, name string) bool {
	for ; name != "."; name = filepath.Dir(name) {
		if _, err := os.Stat(filepath.Join(root, name, "go.mod")); err == nil {
			return true
		}
	}
	return false
}

// nestedProblems compares what packages of nested modules import with the list.
func nestedProblems(found map[string][]string, list []allowedImports) (problems []string) {
	allowed := map[string][]string{}
	for _, p := range list {
		allowed[p.name] = slices.Sorted(slices.Values(p.imports))
		if _, exists := found[p.name]; !exists {
			problems = append(problems, p.name+" is in the list of nested modules, and is no package of one")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(found)) {
		if want, isListed := allowed[name]; !isListed {
			if (goPackage{ImportPath: module + "/" + name}).public() {
				problems = append(problems, fmt.Sprintf("%s is not in the list of nested modules", name))
			}
		} else if !slices.Equal(found[name], want) {
			problems = append(problems, fmt.Sprintf("%s imports %q, want %q", name, found[name], want))
		}
	}
	return problems
}

func TestNestedModulesImportWhatTheListSays(t *testing.T) {
	found := nestedImports(t, root)
	for _, problem := range nestedProblems(found, nestedMayImport) {
		t.Error(problem)
	}
	if of := found["natsstore"]; !slices.Contains(of, "internal/capability") {
		t.Errorf("natsstore imports %q, want internal/capability among them", of)
	}

	folder := t.TempDir()
	for file, text := range map[string]string{
		"go.mod":              "module root",
		"own/own.go":          "package own",
		"store/go.mod":        "module store",
		"store/a.go":          "package store\nimport _ \"" + module + "/persistence\"\nimport _ \"fmt\"",
		"store/b.go":          "package store\nimport _ \"" + module + "/internal/mapper\"",
		"store/b_test.go":     "package store\nimport _ \"" + module + "/system\"",
		"store/copy/c.go":     "package copy\nimport _ \"" + module + "/domain\"",
		"examples/x/go.mod":   "module x",
		"examples/x/main.go":  "package main\nimport _ \"" + module + "/system\"",
		"internal/bm/go.mod":  "module bm",
		"internal/bm/main.go": "package bm",
	} {
		path := filepath.Join(folder, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list := []allowedImports{{"store", []string{"persistence", "internal/mapper"}}, {"store/copy", []string{"domain"}}}
	for name, test := range map[string]struct {
		list []allowedImports
		want []string
	}{
		"all are listed":               {list, nil},
		"a package that is not listed": {list[:1], []string{"store/copy is not in the list of nested modules"}},
		"an import that is not listed": {[]allowedImports{{"store", []string{"persistence"}}, list[1]},
			[]string{`store imports ["internal/mapper" "persistence"], want ["persistence"]`}},
		"an import that is only listed": {[]allowedImports{list[0], {"store/copy", []string{"domain", "system"}}},
			[]string{`store/copy imports ["domain"], want ["domain" "system"]`}},
		"a package that does not exist": {append(list[:2:2], allowedImports{"own", nil}),
			[]string{"own is in the list of nested modules, and is no package of one"}},
	} {
		if got := nestedProblems(nestedImports(t, folder), test.list); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}
