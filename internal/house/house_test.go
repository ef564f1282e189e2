// Package house holds the tests of the house itself: which package may import which, who may use encoding/xml, what a
// library does not do, and that a newcomer who adds an operation touches three places only.
package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

// source is a Go file of the tree, whatever builds it.
type source struct {
	path    string // from the root, with slashes
	file    *ast.File
	lines   int
	imports []string
}

// sources reads every Go file but those that are made anew.
func sources(t *testing.T) (all []source) {
	t.Helper()
	files := token.NewFileSet()
	if err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || name == filepath.Join(root, "bin") || name == filepath.Join(root, "dist")) {
			return fs.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		file, err := parser.ParseFile(files, name, text, parser.ParseComments)
		if err != nil {
			return err
		}
		s := source{file: file, lines: strings.Count(string(text), "\n")}
		if s.path, err = filepath.Rel(root, name); err != nil {
			return err
		}
		s.path = filepath.ToSlash(s.path)
		for _, i := range file.Imports {
			imported, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			s.imports = append(s.imports, imported)
		}
		all = append(all, s)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return all
}

// forTests says whether a file is part of tests only: it is one, or its package helps them.
func (s source) forTests() bool {
	return strings.HasSuffix(s.path, "_test.go") || slices.Contains(s.imports, "testing")
}

func (s source) generated() bool { return strings.HasPrefix(s.path, "generated/") }

// layers says of each part of the tree what of ours it may import. The first row whose prefix fits counts, and a
// package that no row fits fails: a new one takes its place in the house. Tests import what they like.
var layers = []layer{
	{"wsdl", nil},
	{"envelope", []string{"envelope"}},
	{"internal/durable", nil},
	{"store", []string{"internal/durable"}},
	{"security/audit", []string{"store"}},
	{"security/policy", []string{"fault", "generated", "security"}},
	{"security/tpm", []string{"internal/durable"}},
	{"security/keyfile", []string{"internal/durable"}},
	{"security/launch", []string{"internal/durable", "security/keyfile", "security/tpm"}},
	{"security/pki", []string{"internal/durable", "security/keyfile"}},
	{"security", nil},
	{"generated", []string{"envelope", "security"}},
	{"fault", []string{"envelope", "generated", "store"}},
	{"machine/libvirt", []string{"fault", "generated", "internal/durable", "machine", "machine/firmware", "smm"}},
	{"machine/qemu", []string{"fault", "generated", "internal/durable", "machine", "machine/firmware", "smm"}},
	{"machine/", []string{"fault", "generated", "machine", "smm"}},
	{"machine", []string{"generated"}},
	{"smm/eventlog", []string{"generated", "security/audit", "smm", "store"}},
	{"smm/", []string{"fault", "generated", "security", "smm", "store"}},
	{"smm", []string{"fault", "generated", "security", "store"}},
	{"service/route", []string{"fault", "generated", "security"}},
	{"service/listen", nil},
	{"service/observe", []string{"generated"}},
	{"service/uefi", []string{"generated", "security", "smm/variable/efi"}}, // efi is the specification's words, and no function
	{"service", []string{"envelope", "fault", "generated", "security", "service", "wsdl"}},
	{"cmd/biosgen", []string{"wsdl"}},
	{"cmd/biosv", []string{""}},
	{"internal/cli", []string{"envelope", "generated"}},
	{"internal/doctor", nil},
	{"internal", []string{""}},
	{"vbios/testdata", []string{"service/uefi/frame"}},
	{"vbios", nil},
	{"testdata", []string{""}},
}

type layer struct {
	prefix string // of a package; with a slash at its end, of what is below it only
	may    []string
}

// layerOf gives the row of a package, or -1.
func layerOf(name string) int {
	return slices.IndexFunc(layers, func(l layer) bool {
		return name == l.prefix || strings.HasPrefix(name, strings.TrimSuffix(l.prefix, "/")+"/")
	})
}

// base are the names that mean the package itself in a row, and nothing below it.
var base = map[string]bool{"machine": true, "security": true, "smm": true}

func allowed(name, imported string, may []string) bool {
	// One function of smm does not import another: what they share is in smm. Its own parts may import one another.
	if strings.HasPrefix(name, "smm/") && strings.HasPrefix(imported, "smm/") {
		return function(name) == function(imported)
	}
	for _, m := range may {
		if m == "" || imported == m || !base[m] && strings.HasPrefix(imported, m+"/") {
			return true
		}
	}
	return strings.HasPrefix(imported, name+"/") // a package's own parts
}

func TestImportsRunDownwards(t *testing.T) {
	t.Parallel()
	used := make([]bool, len(layers))
	for _, s := range sources(t) {
		name := path.Dir(s.path)
		row := layerOf(name)
		if row < 0 {
			t.Errorf("%s has no place in the house: give it a row in layers", name)
			continue
		}
		used[row] = true
		if s.forTests() {
			continue
		}
		for _, i := range s.imports {
			if imported, ours := strings.CutPrefix(i, "biosv/"); ours && !allowed(name, imported, layers[row].may) {
				t.Errorf("%s imports %s; it may import %q", s.path, imported, layers[row].may)
			}
		}
	}
	for i, l := range layers {
		if !used[i] {
			t.Errorf("layers has a row for %s, and there is no such package", l.prefix)
		}
	}
}

// What the rows are there for.
func TestImportsThatWouldRunUpwardsAreRefused(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name, imported string
		want           bool
	}{
		{"smm/power", "smm", true},
		{"smm/power", "smm/attribute", false}, // functions do not know each other
		{"smm/power", "service/soap", false},
		{"smm/power", "envelope", false}, // smm knows no XML
		{"smm/power", "security/audit", false},
		{"smm/eventlog", "security/audit", true},
		{"smm", "machine/sim", false},
		{"smm", "smm/power", true}, // its own part, though it has no use for it
		{"service/soap", "smm", false},
		{"service/soap", "smm/power", false}, // no door imports a function
		{"service/soap", "service/route", true},
		{"service/listen", "generated", false},
		{"security", "generated", false},
		{"security/tpm", "service/listen", false},
		{"machine/sim", "smm", true},
		{"machine/sim", "machine", true},
		{"machine/sim", "machine/host", false},
		{"machine/sim", "smm/attribute", false},
		{"machine/sim", "store", false},
		{"generated", "security", true},
		{"generated", "security/tpm", false},
		{"store", "generated", false},
		{"internal/cli", "store", false},
		{"cmd/biosv", "smm/power", true},
	} {
		if got := allowed(row.name, row.imported, layers[layerOf(row.name)].may); got != row.want {
			t.Errorf("%s may import %s: %t", row.name, row.imported, got)
		}
	}
	if layerOf("somewhere") >= 0 || layerOf("smmx") >= 0 {
		t.Error("a package without a row has a place")
	}
}

// function is the folder of a function of smm, of which a package is or is a part.
func function(name string) string {
	folders := strings.SplitN(name, "/", 3)
	return folders[1]
}

// encoding/xml accepts what is no XML and loses what the schema requires: only gowsdl's file imports it, for its
// types, and nothing calls it.
func TestNothingUsesEncodingXML(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if !slices.Contains(s.imports, "encoding/xml") {
			continue
		}
		if s.path != "generated/bios.go" {
			t.Errorf("%s imports encoding/xml", s.path)
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if name, ok := selected(n, "xml"); ok && name != "Name" {
				t.Errorf("%s uses xml.%s", s.path, name)
			}
			return true
		})
	}
}

// selected gives the name that a selector expression takes from a package.
func selected(n ast.Node, from string) (name string, ok bool) {
	s, ok := n.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	x, ok := s.X.(*ast.Ident)
	return s.Sel.Name, ok && x.Name == from
}

// panics are the functions that panic, with the reason.
var panics = map[string]string{
	"cmd/biosv/serve.go serveCommand":   "a flag is hidden that is not declared: every start shows it",
	"smm/variable/efi/efi.go MustGUID":  "a constant of the program is no GUID: every start shows it",
	"store/errors.go faulted":           "a panic that is not of a damaged page goes on",
	"testdata/hostile/hostile.go Bytes": "a file of the tree is missing; only tests ask for it",
}

// A library gives errors to whoever called it, and whoever called it decides what is printed and when the program ends.
func TestLibrariesNeitherPanicNorPrintNorEndTheProgram(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	for _, s := range sources(t) {
		if s.generated() || s.forTests() {
			continue
		}
		program := s.file.Name.Name == "main"
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue // what is wrong with a variable shows when the program starts
			}
			where := s.path + " " + f.Name.Name
			ast.Inspect(f, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if builtin, ok := call.Fun.(*ast.Ident); ok {
						switch {
						case builtin.Name == "print" || builtin.Name == "println":
							t.Errorf("%s calls %s", where, builtin.Name)
						case builtin.Name == "panic" && panics[where] != "":
							used[where] = true
						case builtin.Name == "panic" && f.Name.Name != "init" && !(program && f.Name.Name == "main"):
							t.Errorf("%s panics; give an error, or a reason in panics", where)
						}
					}
				}
				if name, ok := selected(n, "fmt"); ok && !program && strings.HasPrefix(name, "Print") {
					t.Errorf("%s calls fmt.%s", where, name)
				}
				if name, ok := selected(n, "os"); ok && !program && (name == "Exit" || name == "Stdout" || name == "Stderr") {
					t.Errorf("%s uses os.%s", where, name)
				}
				return true
			})
		}
		if !program && slices.Contains(s.imports, "log") {
			t.Errorf("%s imports log; a library is given a *slog.Logger", s.path)
		}
	}
	for where := range panics {
		if !used[where] {
			t.Errorf("panics has %s, which does not panic", where)
		}
	}
}

// mostLines and mostTestLines are how long a file gets before it is two: a reader takes one in from its top to its end.
const (
	mostLines     = 600
	mostTestLines = 900 // most of it tables
)

// long are the files that are longer, with the reason.
var long = map[string]string{}

func TestFilesAreShort(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		most := mostLines
		if s.forTests() {
			most = mostTestLines
		}
		if !s.generated() && s.lines > most && long[s.path] == "" {
			t.Errorf("%s has %d lines; make it two, or give a reason in long", s.path, s.lines)
		}
	}
}

var later = regexp.MustCompile(`^(?://|/\*)\s*(TODO|FIXME|XXX|HACK)\b[:( ]*(.*)`)

// What is left for later says what and why, under one word.
func TestWhatIsLeftForLaterHasAReason(t *testing.T) {
	t.Parallel()
	for _, s := range sources(t) {
		if s.generated() {
			continue
		}
		for _, group := range s.file.Comments {
			for _, c := range group.List {
				if m := later.FindStringSubmatch(c.Text); m != nil && (m[1] != "TODO" || len(strings.Fields(m[2])) < 4) {
					t.Errorf("%s: %q gives no reason", s.path, c.Text)
				}
			}
		}
	}
}

// The virtual high-privilege mode is small enough to be read as a whole, and knows no BIOS function.
func TestTheCoreStaysSmall(t *testing.T) {
	t.Parallel()
	lines := 0
	for _, s := range sources(t) {
		if path.Dir(s.path) == "smm" && !s.forTests() {
			lines += s.lines
		}
	}
	if lines == 0 || lines >= 1000 {
		t.Errorf("smm has %d lines; it is to stay under 1,000", lines)
	}
}

// What only tests need is not in the program that is shipped.
func TestTheProgramHoldsNothingForTests(t *testing.T) {
	t.Parallel()
	list := exec.Command("go", "list", "-deps", "./cmd/biosv")
	list.Dir = root
	out, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if !slices.Contains(packages, "biosv/smm") {
		t.Fatalf("the program is not made of smm: %q", packages)
	}
	for _, p := range packages {
		if p == "testing" || strings.HasPrefix(p, "biosv/internal/test") || strings.HasPrefix(p, "biosv/testdata") || strings.HasPrefix(p, "github.com/google/go-cmp") {
			t.Errorf("cmd/biosv is linked with %s", p)
		}
	}
}
