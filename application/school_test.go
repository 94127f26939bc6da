package application_test

import (
	"bytes"
	"go/ast"
	"go/format"
	"go/parser"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/eventsourcing-go/eventsourcing/application"
	example "github.com/eventsourcing-go/eventsourcing/examples/trainingschool/school"
	"github.com/eventsourcing-go/eventsourcing/internal/expect"
	"github.com/eventsourcing-go/eventsourcing/persistence"
)

const schoolFolder = "../examples/trainingschool/school"

func TestTrainingSchool(t *testing.T) {
	s, err := example.New(application.WithLookup(nothing))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := t.Context()
	if err := s.Register(ctx, "Fido"); err != nil {
		t.Fatal(err)
	}
	for _, trick := range []string{"roll over", "fetch ball"} {
		if err := s.AddTrick(ctx, "Fido", trick); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := s.Tricks(ctx, "Fido"); err != nil || !slices.Equal(got, []string{"roll over", "fetch ball"}) {
		t.Errorf("got %v, %v, want no error and %q", got, err, []string{"roll over", "fetch ball"})
	}
	if err := s.Register(ctx, "Fido"); !persistence.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
	expect.ErrorIs(t, s.AddTrick(ctx, "Rex", "sit"), application.ErrAggregateNotFound)
}

// The example is at most 50 lines of code: gofmt's lines that are neither blank
// nor comments. Five of them are for Python: the name of the class, and the two
// structs that need more lines with tags. It needs no type switch.
func TestTrainingSchoolIsShort(t *testing.T) {
	const most = 50
	files, err := filepath.Glob(schoolFolder + "/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	lines := 0
	for _, file := range files {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if formatted, err := format.Source(source); err != nil || !bytes.Equal(formatted, source) {
			t.Errorf("%s is not formatted: %v", file, err)
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, source, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			if _, ok := n.(*ast.TypeSwitchStmt); ok {
				t.Errorf("%s has a type switch", file)
			}
			return true
		})
		lines += linesOfCode(source)
	}
	if lines > most {
		t.Errorf("got %d lines of code, want at most %d", lines, most)
	}
}

// linesOfCode counts the lines that have a token, and so are neither blank nor
// comments.
func linesOfCode(source []byte) int {
	file := token.NewFileSet().AddFile("", -1, len(source))
	var s scanner.Scanner
	s.Init(file, source, nil, 0)
	lines := map[int]bool{}
	for {
		position, tok, text := s.Scan()
		switch {
		case tok == token.EOF:
			return len(lines)
		case tok == token.SEMICOLON && text == "\n": // put in by the scanner
		default:
			lines[file.Line(position)] = true
		}
	}
}
