package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// belowRecorders are the files of gormstore that know of no recorder: the
// dialects, and the log that they write to. Test files are not among them.
var belowRecorders = []string{"dialect*.go", "postgres*.go", "sqlite*.go", "tables*.go", "log*.go", "lockwait.go", "eventtable.go", "eventlog.go"}

// recordersUsedBelow returns the uses of a recorder's name in those files.
func recordersUsedBelow(t *testing.T, folder string) (uses []string) {
	t.Helper()
	files := 0
	for _, pattern := range belowRecorders {
		names, err := filepath.Glob(filepath.Join(folder, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasSuffix(name, "_test.go") {
				continue
			}
			files++
			positions := token.NewFileSet()
			file, err := parser.ParseFile(positions, name, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok && strings.HasSuffix(id.Name, "Recorder") {
					uses = append(uses, filepath.Base(name)+": "+id.Name)
				}
				return true
			})
		}
	}
	if files == 0 {
		t.Fatalf("%s has none of the files %v", folder, belowRecorders)
	}
	return uses
}

func TestDialectsKnowNoRecorder(t *testing.T) {
	for _, use := range recordersUsedBelow(t, filepath.Join(root, "gormstore")) {
		t.Errorf("%s: dialects get an eventLog or an eventTable, see docs/architecture.md", use)
	}
	folder := t.TempDir()
	code := "package p\n\nfunc merge(r *processRecorder) {}\n"
	for _, name := range []string{"postgresmerge.go", "postgresmerge_test.go", "tracking.go"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := recordersUsedBelow(t, folder); !slices.Equal(got, []string{"postgresmerge.go: processRecorder"}) {
		t.Errorf("got %q, want the one use below", got)
	}
}
