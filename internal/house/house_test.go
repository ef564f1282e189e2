// Package house holds the tests of the house itself: which package may import which, who may use encoding/xml,
// and that a newcomer who adds an operation touches three places only.
package house

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const root = "../.."

type pkg struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) (list []pkg) {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	d := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatal(err)
		}
		list = append(list, p)
	}
}

// layers says of each part of the tree what of ours it may import. The first row whose prefix fits counts, and a
// package that no row fits fails: a new one takes its place in the house.
var layers = []struct {
	prefix string
	may    []string
}{
	{"wsdl", nil},
	{"envelope", []string{"envelope"}},
	{"internal/durable", nil},
	{"store", []string{"internal/durable"}},
	{"security/audit", []string{"store"}},
	{"security/policy", []string{"fault", "generated", "security"}},
	{"security/tpm", []string{"internal/durable"}},
	{"security/launch", []string{"internal/durable", "security/tpm"}},
	{"security/pki", []string{"internal/durable"}},
	{"security", nil},
	{"generated", []string{"envelope", "security"}},
	{"fault", []string{"envelope", "generated", "store"}},
	{"machine", []string{"fault", "generated", "machine", "smm"}},
	{"smm/eventlog", []string{"generated", "security/audit", "smm", "store"}},
	{"smm/", []string{"fault", "generated", "security", "smm", "store"}},
	{"smm", []string{"fault", "generated", "security", "store"}},
	{"service/route", []string{"fault", "generated", "security"}},
	{"service/listen", nil},
	{"service/observe", []string{"generated"}},
	{"service", []string{"envelope", "fault", "generated", "security", "service", "wsdl"}},
	{"cmd/biosgen", []string{"wsdl"}},
	{"cmd/biosv", []string{""}},
	{"internal/cli", []string{"envelope", "generated"}},
	{"internal/doctor", nil},
	{"internal", []string{""}},
	{"testdata", []string{""}},
}

func TestImportsRunDownwards(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, "biosv/")
		row := -1
		for i, l := range layers {
			if name == l.prefix || strings.HasPrefix(name, strings.TrimSuffix(l.prefix, "/")+"/") && (!strings.HasSuffix(l.prefix, "/") || name != strings.TrimSuffix(l.prefix, "/")) {
				row = i
				break
			}
		}
		if row < 0 {
			t.Errorf("%s has no place in the house: give it a row in layers", name)
			continue
		}
		for _, i := range p.Imports {
			if imported, ours := strings.CutPrefix(i, "biosv/"); ours && !allowed(name, imported, layers[row].may) {
				t.Errorf("%s imports %s; it may import %q", name, imported, layers[row].may)
			}
		}
	}
}

func allowed(name, imported string, may []string) bool {
	// One function of smm does not import another: what they share is in smm.
	if strings.HasPrefix(name, "smm/") && strings.HasPrefix(imported, "smm/") {
		return strings.HasPrefix(name, imported+"/") || strings.HasPrefix(imported, name+"/")
	}
	for _, m := range may {
		// A row that names security means its base package.
		if m == "" || imported == m || m != "security" && m != "smm" && strings.HasPrefix(imported, m+"/") {
			return true
		}
	}
	return strings.HasPrefix(imported, name+"/") // a package's own parts
}

// encoding/xml accepts what is no XML and loses what the schema requires: only gowsdl's file imports it, for its
// types, and nothing calls it.
func TestNothingUsesEncodingXML(t *testing.T) {
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == ".cache" || d.Name() == ".git" || d.Name() == "bin") {
			return fs.SkipDir
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		for _, i := range file.Imports {
			if v, _ := strconv.Unquote(i.Path.Value); v != "encoding/xml" {
				continue
			}
			if filepath.ToSlash(path) != root+"/generated/bios.go" {
				t.Errorf("%s imports encoding/xml", path)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "xml" && s.Sel.Name != "Name" {
						t.Errorf("%s uses xml.%s", path, s.Sel.Name)
					}
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The virtual high-privilege mode is small enough to be read as a whole, and knows no BIOS function.
func TestTheCoreStaysSmall(t *testing.T) {
	files, err := filepath.Glob(root + "/smm/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	lines := 0
	for _, f := range files {
		if !strings.HasSuffix(f, "_test.go") {
			lines += countLines(t, f)
		}
	}
	if lines >= 1000 {
		t.Errorf("smm has %d lines; it is to stay under 1,000", lines)
	}
}
