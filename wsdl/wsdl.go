// Package wsdl holds the contract of BIOS.v: what a BIOS can be asked, and what it answers. bios.wsdl and
// bios.xsd are the only API of the project that is written by hand; cmd/biosgen makes the package generated
// from them.
//
// The files hold more than clients need: beside each request, in xs:appinfo, stand the role it asks for,
// whether it changes anything, its commands and an example. [Published] gives the copies without them, which
// is what clients and gowsdl read.
package wsdl

import (
	_ "embed"
	"fmt"
	"strings"
	"sync"

	"github.com/beevik/etree"
)

// Source is the WSDL document and Schema the schema that it includes, with what is not for clients.
var (
	//go:embed bios.wsdl
	Source []byte
	//go:embed bios.xsd
	Schema []byte
)

// SchemaName is the name under which the schema is included and served.
const SchemaName = "bios.xsd"

// Namespace is the target namespace of the contract, and Annotations that of its xs:appinfo.
const (
	Namespace   = "urn:biosv:bios:v1"
	Annotations = "urn:biosv:contract:v1"
)

// Address is the service's address in the source; [At] puts the true one in its place.
const Address = "https://localhost:8443/bios"

// Document is the contract as clients read it.
type Document struct {
	WSDL, Schema []byte
}

// Published gives the contract without xs:appinfo, with the relative address of its schema.
var Published = sync.OnceValues(func() (Document, error) {
	w, err := publish(Source)
	if err != nil {
		return Document{}, fmt.Errorf("bios.wsdl: %w", err)
	}
	s, err := publish(Schema)
	if err != nil {
		return Document{}, fmt.Errorf("bios.xsd: %w", err)
	}
	return Document{WSDL: w, Schema: s}, nil
})

// At gives the published contract as the server at an address serves it: the endpoint and the schema's
// location are absolute (clients behind a proxy cannot follow others), the schema's as address?xsd=bios.xsd.
func At(address string) (Document, error) {
	d, err := Published()
	if err != nil {
		return Document{}, err
	}
	escape := strings.NewReplacer("&", "&amp;", "<", "&lt;", `"`, "&quot;")
	text := strings.NewReplacer(
		`location="`+Address+`"`, `location="`+escape.Replace(address)+`"`,
		`schemaLocation="`+SchemaName+`"`, `schemaLocation="`+escape.Replace(address)+`?xsd=`+SchemaName+`"`,
	).Replace(string(d.WSDL))
	return Document{WSDL: []byte(text), Schema: d.Schema}, nil
}

// publish takes every xs:appinfo out of a document, with the annotation that held nothing else and with the
// declaration of the prefix that only they used.
func publish(source []byte) ([]byte, error) {
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(source); err != nil {
		return nil, err
	}
	for _, info := range doc.FindElements("//appinfo") {
		annotation := info.Parent()
		if i := info.Index(); i > 0 {
			if space, ok := annotation.Child[i-1].(*etree.CharData); ok && space.IsWhitespace() {
				annotation.RemoveChildAt(i - 1)
			}
		}
		annotation.RemoveChild(info)
		if len(annotation.ChildElements()) == 0 {
			annotation.Parent().RemoveChild(annotation)
		}
	}
	root := doc.Root()
	for _, a := range root.Attr {
		if a.Space == "xmlns" && a.Value == Annotations {
			root.RemoveAttr(a.FullKey())
			break
		}
	}
	return doc.WriteToBytes()
}
