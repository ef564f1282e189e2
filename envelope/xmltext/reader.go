// Package xmltext reads and writes the XML that SOAP messages are made of: XML 1.0 (fifth edition) with
// Namespaces 1.0, in UTF-8. It is strict and bounded. A [Reader] works over a document that is in memory as a
// whole and is driven by the code that biosgen generates from a schema: what it asks for next is what the
// schema allows next, and anything else is an error with the element's path, the line and the rule broken.
// A [Writer] refuses characters that XML cannot hold.
//
// What XML allows and SOAP does not is refused: document type declarations (so there are no entities but the
// five of XML itself) and processing instructions. Begin with [NewReader] and [NewWriter].
package xmltext

import "sync"

// Limits bound what a document may hold.
type Limits struct {
	Bytes          int // of the document
	Depth          int // of open elements
	Children       int // of one element
	Attributes     int // of one element
	NameBytes      int // of an element's or attribute's name
	AttributeBytes int // of an attribute's value
	TextBytes      int // of a simple value, but of binary ones
	Namespaces     int // bindings in scope
}

// DefaultLimits are far above what the contract needs and far below what would hurt. CoreWCF's depth is 32 too;
// CXF takes 500 attributes and 64 KiB in one.
var DefaultLimits = Limits{
	Bytes: 1 << 20, Depth: 32, Children: 10_000, Attributes: 64, NameBytes: 256, AttributeBytes: 8 << 10, TextBytes: 64 << 10, Namespaces: 64,
}

// Names of namespaces that every document knows.
const (
	XMLNamespace      = "http://www.w3.org/XML/1998/namespace"
	XMLNSNamespace    = "http://www.w3.org/2000/xmlns/"
	SchemaNamespace   = "http://www.w3.org/2001/XMLSchema"
	InstanceNamespace = "http://www.w3.org/2001/XMLSchema-instance"
)

// Attr is an attribute of the current element, with its value normalised.
type Attr struct{ Space, Local, Value []byte }

type element struct {
	raw          []byte // the name as written, for the end tag
	space, local []byte
	bindings     int // how many were in scope outside
	start        int // offset of its tag
	empty        bool
	index        int    // among siblings of its name that follow each other
	children     int    // read so far
	last         []byte // local name of the last child
	lastIndex    int
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
	text      []byte // for values that are not one piece of the document
	ahead     ahead  // what was read in the content of the open element and not yet taken
	value     value  // the element whose simple value was read last

	tagBindings int // bindings in scope outside of the tag that is being read
}

// value remembers where a simple value stood, for [Reader.Invalid].
type value struct {
	element element
	depth   int
	set     bool
}

var readers = sync.Pool{New: func() any { return new(Reader) }}

// NewReader makes a reader of a document. [Reader.Release] gives it back; what was read stays valid while the
// document does.
func NewReader(doc []byte, limits Limits) *Reader {
	r := readers.Get().(*Reader)
	*r = Reader{doc: doc, limits: limits, stack: r.stack[:0], bindings: r.bindings[:0], attrs: r.attrs[:0], text: nil}
	return r
}

// Release lets another document use the reader.
func (r *Reader) Release() {
	clear(r.stack[:cap(r.stack)])
	clear(r.bindings[:cap(r.bindings)])
	clear(r.attrs[:cap(r.attrs)])
	r.doc = nil
	readers.Put(r)
}
