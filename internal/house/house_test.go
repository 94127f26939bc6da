package house

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/doc"
	"go/format"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/eventsourcing-go/eventsourcing"

// root is the folder of the module, seen from this one.
const root = "../.."

// goPackage is what go list says of a package.
type goPackage struct {
	ImportPath   string
	Dir          string
	Name         string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	Deps         []string
}

func (p goPackage) short() string {
	return strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
}

func (p goPackage) public() bool {
	return !strings.Contains(p.ImportPath, "/internal/") && !strings.Contains(p.ImportPath, "/examples/")
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Dir,Name,GoFiles,TestGoFiles,XTestGoFiles,Imports,Deps", "./...")
	cmd.Dir = root
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(output))); ; {
		var p goPackage
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// allowedImports are the packages of this repository that a package may import.
type allowedImports struct {
	name    string
	imports []string
}

// mayImport says for each package that a service links which others of the
// module it may import, and why nothing else: imports point one way, so that a
// package can be understood with those before it alone. A package imports only
// packages that are before it in this list.
var mayImport = []allowedImports{
	{"internal/saving", nil},
	{"internal/txscope", nil},
	{"internal/timing", nil},
	{"internal/limits", nil},
	{"internal/invalid", nil},
	{"internal/lru", nil},
	{"internal/eventtype", nil},
	{"domain", []string{"internal/eventtype", "internal/limits", "internal/saving"}},
	{"internal/definitions", []string{"domain", "internal/eventtype"}},
	{"domain/domaintest", []string{"domain", "internal/definitions"}},
	{"persistence", []string{"domain", "internal/invalid", "internal/limits", "internal/txscope"}},
	{"internal/capability", []string{"persistence", "internal/invalid"}},
	{"telemetry", []string{"domain", "persistence"}},
	{"cipher", []string{"persistence"}},
	{"compressor", []string{"persistence"}},
	{"internal/transcoding", []string{"persistence"}},
	{"persistence/jsontranscoder", []string{"persistence", "domain", "internal/invalid", "internal/transcoding"}},
	{"persistence/python", []string{"domain", "persistence", "persistence/jsontranscoder", "internal/invalid", "internal/transcoding"}},
	{"internal/environment", []string{"persistence", "internal/invalid"}},
	{"internal/mapper", []string{"domain", "internal/capability", "internal/definitions", "internal/eventtype", "internal/invalid", "persistence"}},
	{"internal/polling", []string{"persistence"}},
	{"internal/checker", []string{"persistence", "internal/capability", "internal/mapper"}},
	{"internal/bridge", []string{"domain", "persistence", "internal/capability", "internal/environment", "internal/mapper", "internal/txscope",
		"telemetry"}},
	{"persistence/memory", []string{"persistence", "internal/capability", "internal/environment"}},
	{"persistence/persistencetest", []string{"domain", "persistence", "internal/capability", "internal/limits"}},
	{"application", []string{"domain", "cipher", "compressor", "persistence", "persistence/jsontranscoder", "persistence/python",
		"persistence/memory", "internal/bridge", "internal/capability", "internal/definitions", "internal/environment", "internal/eventtype", "internal/invalid", "internal/lru", "internal/mapper",
		"internal/polling", "internal/saving", "internal/timing", "internal/txscope", "telemetry"}},
	{"system", []string{"domain", "persistence", "application", "internal/bridge", "internal/capability", "internal/mapper", "internal/polling",
		"internal/txscope", "telemetry"}},
	{"system/health", []string{"system"}},
	{"system/remotelog", []string{"domain", "persistence", "persistence/memory", "application", "system", "internal/bridge", "internal/invalid",
		"internal/mapper"}},
	{"gormstore/internal/inventory", []string{"persistence"}},
	{"gormstore/internal/groupcommit", []string{"persistence", "internal/timing"}},
	// application and system are for projections.
	{"gormstore", []string{"domain", "persistence", "application", "system",
		"gormstore/internal/groupcommit", "gormstore/internal/inventory", "internal/capability", "internal/environment", "internal/timing", "internal/txscope"}},
	{"gormstore/pglisten", []string{"persistence", "gormstore"}},
	// The operations put everything together.
	{"gormstore/internal/operations", []string{"domain", "cipher", "persistence", "system", "gormstore",
		"gormstore/internal/inventory", "internal/bridge", "internal/capability", "internal/checker", "internal/txscope"}},
	// Nothing imports the commands but programs.
	{"gormstore/management", []string{"domain", "persistence", "application", "system",
		"gormstore/internal/inventory", "gormstore/internal/operations", "internal/capability"}},
	{"gormstore/admin", []string{"gormstore/internal/operations"}},
}

func TestImportsPointOneWay(t *testing.T) {
	allowed, known := map[string][]string{}, map[string]bool{}
	for _, p := range mayImport {
		for _, imported := range p.imports {
			if !known[imported] {
				t.Errorf("%s may import %s, which is not before it in the list", p.name, imported)
			}
		}
		allowed[p.name], known[p.name] = p.imports, true
	}
	for _, p := range nestedMayImport {
		for _, imported := range p.imports {
			if !known[imported] {
				t.Errorf("%s may import %s, which is not before it in the lists", p.name, imported)
			}
		}
		known[p.name] = true
	}
	for _, p := range packages(t) {
		if !known[p.short()] {
			if p.public() && p.ImportPath != module {
				t.Errorf("package %s is not in the list of allowed imports; add it with a reason", p.short())
			}
			continue // no service links it: what is in the list imports only what is there
		}
		for _, imported := range p.Imports {
			short, own := strings.CutPrefix(imported, module+"/")
			if own && !slices.Contains(allowed[p.short()], short) {
				t.Errorf("%s imports %s, which it may not", p.short(), short)
			}
		}
		for _, unused := range allowed[p.short()] {
			if !slices.Contains(p.Imports, module+"/"+unused) {
				t.Errorf("%s may import %s, and does not; take that out of the list", p.short(), unused)
			}
		}
	}
}

// forbidden are parts of import paths that nothing a user's binary links may
// have: a service must not carry drivers that it does not use, nor test
// libraries.
var forbidden = []string{"gorm.io/driver", "mattn", "jackc/pgx", "testing", "goleak", "rapid", "spf13/cobra", "testify"}

// mayLink says which of these a package may link nevertheless: it is there so
// that no other has to.
var mayLink = map[string]string{"gormstore/pglisten": "jackc/pgx", "gormstore/management": "spf13/cobra"}

func TestLibraryPackagesLinkNoDriversAndNoTestLibraries(t *testing.T) {
	for _, p := range packages(t) {
		if !p.public() || strings.HasSuffix(p.ImportPath, "test") || p.ImportPath == module {
			continue
		}
		for _, dependency := range p.Deps {
			for _, part := range forbidden {
				if part == mayLink[p.short()] {
					continue
				}
				if dependency == part || strings.Contains(dependency, part) && strings.Contains(dependency, ".") {
					t.Errorf("%s links %s", p.short(), dependency)
				}
			}
		}
	}
}

func parse(t *testing.T, p goPackage) (*doc.Package, []*doc.Example) {
	t.Helper()
	set := token.NewFileSet()
	var files []*ast.File
	for _, name := range slices.Concat(p.GoFiles, p.TestGoFiles, p.XTestGoFiles) {
		file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	documented, err := doc.NewFromFiles(set, files, p.ImportPath)
	if err != nil {
		t.Fatal(err)
	}
	return documented, doc.Examples(files...)
}

func TestEverythingExportedIsExplained(t *testing.T) {
	for _, p := range packages(t) {
		documented, examples := parse(t, p)
		if documented.Doc == "" && len(p.GoFiles) > 0 {
			t.Errorf("package %s has no package comment", p.short())
		}
		if !p.public() {
			continue
		}
		if len(examples) == 0 {
			t.Errorf("package %s has no runnable Example, want some examples", p.short())
		}
		for _, missing := range undocumented(documented) {
			t.Errorf("%s.%s has no comment", p.short(), missing)
		}
	}
}

func undocumented(p *doc.Package) (missing []string) {
	note := func(name, text string) {
		if text == "" && token.IsExported(name[strings.LastIndexByte(name, '.')+1:]) {
			missing = append(missing, name)
		}
	}
	for _, f := range p.Funcs {
		note(f.Name, f.Doc)
	}
	for _, t := range p.Types {
		note(t.Name, t.Doc)
		for _, f := range slices.Concat(t.Funcs, t.Methods) {
			if !isErrorMethod(f.Name) && token.IsExported(t.Name) {
				note(t.Name+"."+f.Name, f.Doc)
			}
		}
	}
	return missing
}

// isErrorMethod leaves out the one method whose meaning never differs.
func isErrorMethod(name string) bool { return name == "Error" }

// TestReadmeShowsTheExample holds the README to the code: what it shows of the
// training school is the training school, without the comments.
func TestReadmeShowsTheExample(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	shown := declarations(t, "package p\n"+strings.Join(goBlocks(string(readme))[:2], "\n"))
	for _, file := range []string{"dog.go", "school.go"} {
		source, err := os.ReadFile(filepath.Join(root, "examples/trainingschool/school", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range declarations(t, string(source)) {
			if !slices.Contains(shown, declaration) {
				t.Errorf("the README does not show this of %s:\n%s", file, declaration)
			}
		}
	}
}

// TestGuideShowsTheExample holds the definitions in the guide from Django to the
// training school.
func TestGuideShowsTheExample(t *testing.T) {
	guide, err := os.ReadFile(filepath.Join(root, "docs/python.md"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(root, "examples/trainingschool/school/dog.go"))
	if err != nil {
		t.Fatal(err)
	}
	real, shown := declarations(t, string(source)), declarations(t, "package p\n"+strings.Join(goBlocks(string(guide)), "\n"))
	if len(shown) < 6 {
		t.Errorf("the guide shows %d declarations, want at least 6", len(shown))
	}
	for _, declaration := range shown {
		if !slices.Contains(real, declaration) {
			t.Errorf("the guide shows what is not in dog.go:\n%s", declaration)
		}
	}
}

// TestReadmeShowsTheFollower holds what the README shows of the follower to its
// code. It leaves some of it out.
func TestReadmeShowsTheFollower(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile(filepath.Join(root, "examples/trainingschool/trickcounts/trickcounts.go"))
	if err != nil {
		t.Fatal(err)
	}
	real, found := declarations(t, string(source)), false
	for _, block := range goBlocks(string(readme)) {
		if !strings.Contains(block, "type TrickCounts struct") {
			continue
		}
		found = true
		for _, declaration := range declarations(t, "package p\n"+block) {
			if !slices.Contains(real, declaration) {
				t.Errorf("the README shows what is not in trickcounts.go:\n%s", declaration)
			}
		}
	}
	if !found {
		t.Error("the README does not show the follower")
	}
}

func goBlocks(markdown string) (blocks []string) {
	for _, part := range strings.Split(markdown, "```go\n")[1:] {
		block, _, _ := strings.Cut(part, "```")
		blocks = append(blocks, block)
	}
	return blocks
}

// declarations are the declarations of a file but for its imports, formatted
// and without comments.
func declarations(t *testing.T, source string) (texts []string) {
	t.Helper()
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "", source, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, declaration := range file.Decls {
		if general, ok := declaration.(*ast.GenDecl); ok && general.Tok == token.IMPORT {
			continue
		}
		var b strings.Builder
		if err := format.Node(&b, set, declaration); err != nil {
			t.Fatal(err)
		}
		texts = append(texts, strings.Join(strings.Fields(b.String()), " "))
	}
	return texts
}

var testNames = regexp.MustCompile("`([\\w/]+)\\.((?:Test|Example)\\w*)`")

// testFunctions returns the functions of all test files, such as
// system.TestParking.
func testFunctions(t *testing.T) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	note := func(folder, file string) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(source)) {
			if function, ok := strings.CutPrefix(line, "func "); ok {
				function, _, _ = strings.Cut(function, "(")
				found[folder+"."+function] = true
			}
		}
	}
	for _, p := range packages(t) {
		for _, name := range slices.Concat(p.TestGoFiles, p.XTestGoFiles) {
			note(p.short(), filepath.Join(p.Dir, name))
		}
	}
	for _, folder := range nestedModules {
		files, err := filepath.Glob(filepath.Join(root, folder, "*_test.go"))
		if err != nil || len(files) == 0 {
			t.Errorf("%s has %d files of tests, error %v, want no error and some files", folder, len(files), err)
		}
		for _, file := range files {
			note(folder, file)
		}
	}
	return found
}

// nestedModules are the folders of packages in nested modules whose tests
// documents name.
var nestedModules = []string{"natsstore", "natsstore/copylog", "examples/trainingschool-cluster"}

// TestDocumentsNameTests holds the documents that name tests to tests that
// exist: the walk through the Python library's document, the guarantees, the
// decisions.
func TestDocumentsNameTests(t *testing.T) {
	exist := testFunctions(t)
	least := map[string]int{"docs/seed.md": 50, "GUARANTEES.md": 40, "docs/decisions/0009-concurrent-order.md": 20}
	decisions, err := fs.Glob(os.DirFS(root), "docs/decisions/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, document := range decisions {
		least[document] = max(least[document], 0)
	}
	for document, least := range least {
		text, err := os.ReadFile(filepath.Join(root, document))
		if err != nil {
			t.Fatal(err)
		}
		named := testNames.FindAllStringSubmatch(string(text), -1)
		for _, match := range named {
			if test := match[1] + "." + match[2]; !exist[test] {
				t.Errorf("%s names the test %s, which does not exist", document, test)
			}
		}
		if len(named) < least {
			t.Errorf("%s names %d tests, want at least %v", document, len(named), least)
		}
	}
}
