// Command biosgen writes the package generated from the contract in wsdl: what gowsdl does not give, or does
// not give strictly. gowsdl makes the message types; biosgen makes
//
//   - port.go: the interface Port, a slice of it for each function, Call, Handler and the total dispatch;
//   - operations.go: the tables of operations, faults and commands, from the annotations of the contract;
//   - codec.go: a strict encoder and decoder of every message, with the facets of the schema;
//   - types.go: the shape of every message, for code that is generic over messages;
//   - client.go: Client, a Port that answers by asking another BIOS.v;
//   - docs/operations.md: the reference.
//
// Usage, from the root of the tree: biosgen -out generated -docs docs/operations.md; or, for gowsdl to read,
// biosgen -publish DIR, which writes the published copy of the contract to a folder.
package main

import (
	"bytes"
	"embed"
	"flag"
	"fmt"
	"go/format"
	"log"
	"os"
	"path/filepath"
	"text/template"

	"biosv/wsdl"
)

//go:embed templates/*.tmpl
var templates embed.FS

func main() {
	log.SetFlags(0)
	log.SetPrefix("biosgen: ")
	out := flag.String("out", "", "write Go files to this folder")
	docs := flag.String("docs", "", "write the operations reference to this file")
	publish := flag.String("publish", "", "write the published copy of the contract to this folder, and nothing else")
	flag.Parse()
	if err := run(*out, *docs, *publish); err != nil {
		log.Fatal(err)
	}
}

func run(out, docs, publish string) error {
	if publish != "" {
		d, err := wsdl.Published()
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(publish, "bios.wsdl"), d.WSDL, 0o644); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(publish, wsdl.SchemaName), d.Schema, 0o644)
	}
	c, err := read(wsdl.Source, wsdl.Schema)
	if err != nil {
		return fmt.Errorf("read the contract: %w", err)
	}
	t, err := template.New("").Funcs(functions).ParseFS(templates, "templates/*.tmpl")
	if err != nil {
		return err
	}
	for _, name := range []string{"port.go", "operations.go", "codec.go", "types.go", "client.go"} {
		var b bytes.Buffer
		if err := t.ExecuteTemplate(&b, name+".tmpl", c); err != nil {
			return err
		}
		text, err := format.Source(b.Bytes())
		if err != nil {
			return fmt.Errorf("%s: %w\n%s", name, err, b.Bytes())
		}
		if err := os.WriteFile(filepath.Join(out, name), text, 0o644); err != nil {
			return err
		}
	}
	var b bytes.Buffer
	if err := t.ExecuteTemplate(&b, "operations.md.tmpl", c); err != nil {
		return err
	}
	return os.WriteFile(docs, b.Bytes(), 0o644)
}
