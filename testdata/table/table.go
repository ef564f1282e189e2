// Package table reads the tables in which the README.md of a folder says what its files are, and finds files that
// none tells of.
package table

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"biosv/envelope"
)

// Row is a row of a table: a file in its first cell, in back quotes, and the other cells.
type Row struct {
	File  string
	Cells []string
}

// Read gives the rows of all tables of README.md. Each must have so many cells beside the file, and tell of a file
// that is there, or of something that is made; of each file and each thing made, a row must tell.
func Read(files fs.FS, made []string, cells int) (rows []Row, err error) {
	text, err := fs.ReadFile(files, "README.md")
	if err != nil {
		return nil, err
	}
	names, err := fs.Glob(files, "*.*")
	if err != nil {
		return nil, err
	}
	unsaid := map[string]bool{}
	for _, name := range append(names, made...) {
		unsaid[name] = name != "README.md"
	}
	var errs []error
	for line := range strings.Lines(string(text)) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` | ")
		if !ok || !strings.HasPrefix(line, "| `") {
			continue
		}
		r := Row{name, strings.Split(strings.TrimSuffix(strings.TrimSpace(rest), " |"), " | ")}
		switch {
		case len(r.Cells) != cells:
			errs = append(errs, fmt.Errorf("README.md: %s: %d cells; want %d", name, len(r.Cells), cells))
		case !unsaid[name]:
			errs = append(errs, fmt.Errorf("README.md tells of %s, which is not there, or told of before", name))
		}
		delete(unsaid, name)
		rows = append(rows, r)
	}
	for name, not := range unsaid {
		if not {
			errs = append(errs, fmt.Errorf("README.md does not tell of %s", name))
		}
	}
	return rows, errors.Join(errs...)
}

// Version reads a cell that names a version of SOAP.
func Version(cell string) (envelope.Version, error) {
	for _, v := range []envelope.Version{envelope.SOAP11, envelope.SOAP12} {
		if cell == v.String() {
			return v, nil
		}
	}
	return 0, fmt.Errorf("%q is no version of SOAP", cell)
}
