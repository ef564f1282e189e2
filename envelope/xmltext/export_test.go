package xmltext

// What tests see of the inside.

// ParseDateTime reads a dateTime.
var ParseDateTime = parseDateTime

// Node is an element, or with an empty Local a text.
type Node struct {
	Name
	Text       string
	Attributes []Attribute
	Children   []Node
}

// Attribute is an attribute of a Node.
type Attribute struct {
	Name
	Value string
}

// Tree reads a document as it is.
func Tree(doc []byte, limits Limits) (Node, error) {
	r := NewReader(doc, limits)
	defer r.Release()
	var root Node
	if r.Root() {
		root = r.node()
		r.EndDocument()
	}
	return root, r.Err()
}

func (r *Reader) node() (n Node) {
	space, local := r.Name()
	n.Name = Name{string(space), string(local)}
	for _, a := range r.attrs {
		n.Attributes = append(n.Attributes, Attribute{Name{string(a.Space), string(a.Local)}, string(a.Value)})
	}
	for r.mixed() {
		if len(r.text) > 0 {
			n.Children = append(n.Children, Node{Text: string(r.text)})
		}
		if !r.Any() {
			break
		}
		n.Children = append(n.Children, r.node())
	}
	if r.err == nil {
		r.pop()
	}
	return n
}
