package libvirt

import "github.com/beevik/etree"

// appendTo puts an element at the end of another, and gives it.
func appendTo(parent, child *etree.Element) *etree.Element {
	parent.AddChild(child)
	return child
}

// appendOnce gives the child of a name, and makes it where there is none.
func appendOnce(parent *etree.Element, name string) *etree.Element {
	if e := parent.SelectElement(name); e != nil {
		return e
	}
	return appendTo(parent, etree.NewElement(name))
}

// insertAfter puts an element behind another.
func insertAfter(sibling, e *etree.Element) { sibling.Parent().InsertChildAt(sibling.Index()+1, e) }

// ensure gives a child of the root; where there is none, it is made behind the one named.
func (d *definition) ensure(name, after string) *etree.Element {
	if e := d.child(name); e != nil {
		return e
	}
	e := etree.NewElement(name)
	if sibling := d.child(after); sibling != nil {
		insertAfter(sibling, e)
		return e
	}
	return appendTo(d.Root(), e)
}

// remove takes an element away.
func remove(e *etree.Element) { e.Parent().RemoveChild(e) }

// replace puts a copy of an element in the place of another; nil means none.
func replace(e, by *etree.Element) {
	if by != nil {
		insertAfter(e, by.Copy())
	}
	remove(e)
}

// dropEmpty takes an element away that has no children any more, unless it is to stay.
func dropEmpty(e *etree.Element, stays bool) {
	if len(e.ChildElements()) == 0 && !stays {
		remove(e)
	}
}
