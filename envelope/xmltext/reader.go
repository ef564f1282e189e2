// Package xmltext reads and writes the XML that SOAP messages are made of: XML 1.0 (fifth edition) with
// Namespaces in XML 1.0, in UTF-8, and the simple types of XML Schema 1.0 Part 2. It is strict and bounded. A
// [Reader] works over a document that is in memory as a whole and is driven by the code that biosgen generates
// from a schema: what it asks for next is what the schema allows next, and anything else is an error with the
// element's path, the line and the rule broken. A [Writer] refuses characters that XML cannot hold.
//
// Reading a request looks like this; errors are sticky, so they are looked at once:
//
//	r := xmltext.NewReader(document, xmltext.DefaultLimits)
//	defer r.Release()
//	r.SetNamespace("urn:biosv:bios:v1")
//	if r.Root() {
//		r.Open("GetAttributesRequest")
//		for r.More("Name") {
//			names = append(names, r.String("string"))
//		}
//		r.Close()
//		r.EndDocument()
//	}
//	return names, r.Err()
//
// What XML allows and SOAP does not is refused: document type declarations (so there are no entities but the
// five of XML itself) and processing instructions. So are UTF-16 and other encodings, XML 1.1, and whatever
// exceeds the [Limits]. Begin with [NewReader] and [NewWriter].
package xmltext

import "sync"

// Limits bound what a document may hold. Start from [DefaultLimits]: the zero value allows nothing.
type Limits struct {
	Bytes          int // of the document
	Markup         int // of the document without the text of binary values
	Depth          int // of open elements
	Children       int // of one element
	Attributes     int // of one element, declarations of namespaces not counted
	NameBytes      int // of an element's or attribute's name with its prefix
	AttributeBytes int // of an attribute's value as written
	TextBytes      int // of a simple value, but of binary ones
	Namespaces     int // bindings in scope
}

// DefaultLimits are far above what the contract needs and far below what would hurt. CoreWCF's depth is 32 too;
// CXF takes 500 attributes and 64 KiB in one.
var DefaultLimits = Limits{
	Bytes: 1 << 20, Markup: 1 << 20, Depth: 32, Children: 10_000, Attributes: 100, NameBytes: 256, AttributeBytes: 8 << 10, TextBytes: 64 << 10, Namespaces: 64,
}

// Names of namespaces that every document knows.
const (
	XMLNamespace      = "http://www.w3.org/XML/1998/namespace"
	XMLNSNamespace    = "http://www.w3.org/2000/xmlns/"
	SchemaNamespace   = "http://www.w3.org/2001/XMLSchema"
	InstanceNamespace = "http://www.w3.org/2001/XMLSchema-instance"
)

// Name is an expanded name (Namespaces in XML 1.0, section 2.1); Space is empty for a name in no namespace.
type Name struct{ Space, Local string }

// String gives {namespace}local.
func (n Name) String() string {
	if n.Space == "" {
		return n.Local
	}
	return "{" + n.Space + "}" + n.Local
}

// Attr is an attribute of the current element, with its value normalised.
type Attr struct{ Space, Local, Value []byte }

type element struct {
	raw          []byte // the name as written, for the end tag
	space, local []byte
	last         []byte // local name of the last child
	bindings     int    // how many were in scope outside
	start        int    // offset of its tag
	index        int32  // among siblings of its name that follow each other, from 1
	lastIndex    int32  // index of the last child
	children     int    // read so far
	empty        bool   // it is an empty-element tag
}

type binding struct{ prefix, space []byte }

type ahead int

const (
	nothing ahead = iota
	startTag
	endTag
)

// Reader reads one document. Errors are sticky: after the first, every method does nothing and gives zero.
// It is not for concurrent use.
type Reader struct {
	doc       []byte
	pos       int
	limits    Limits
	err       error
	namespace string
	stack     []element
	bindings  []binding
	attrs     []Attr
	text      []byte  // text that is not one piece of the document; the next value overwrites it
	table     []int32 // of attributes, by hash, where there are many
	ahead     ahead   // what was read in the content of the open element and not yet taken
	binary    int     // bytes of the text of binary values that were read
	simpleAt  int     // depth of the element whose simple value was read last, 0 where none was since the last tag
	rooted    bool    // the root element was read

	tagBindings int // bindings in scope outside of the tag that is being read
}

var readers = sync.Pool{New: func() any { return new(Reader) }}

// NewReader makes a reader of a document. [Reader.Release] gives it back; what was read stays valid while the
// document does.
func NewReader(doc []byte, limits Limits) *Reader {
	r := readers.Get().(*Reader)
	r.doc, r.limits = doc, limits
	return r
}

// Release lets another document use the reader, which the caller must not use any more.
func (r *Reader) Release() {
	clear(r.stack[:cap(r.stack)])
	clear(r.bindings[:cap(r.bindings)])
	clear(r.attrs[:cap(r.attrs)])
	clear(r.text[:cap(r.text)]) // it may hold a password
	clean := Reader{stack: r.stack[:0], bindings: r.bindings[:0], attrs: r.attrs[:0], text: r.text[:0], table: r.table[:0]}
	if cap(r.text) > mostKept {
		clean.text = nil
	}
	*r = clean
	readers.Put(r)
}
