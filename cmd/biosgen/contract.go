package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/beevik/etree"

	"biosv/wsdl"
)

// contract is what biosgen knows of bios.wsdl and bios.xsd.
type contract struct {
	Namespace  string
	Simple     []*simpleType
	Complex    []*complexType
	Faults     []*fault
	Operations []*operation
	Functions  []*function

	simple  map[string]*simpleType
	complex map[string]*complexType
}

// simpleType is a named restriction of a built-in type (XML Schema Part 2, section 4.1).
type simpleType struct {
	Name, Doc          string
	Base               builtin
	Values             []enumValue
	Pattern            string
	MinLength          int
	MaxLength          int // -1: none
	MinValue, MaxValue string
}

type enumValue struct{ Name, Doc string }

// complexType is a named sequence.
type complexType struct {
	Name, Doc string
	Fields    []*field
}

// field is one element of a sequence. Exactly one of its three types is set.
type field struct {
	Name, Doc string
	Builtin   *builtin
	Simple    *simpleType
	Complex   *complexType
	Optional  bool
	Many      bool
	MediaType string
}

// builtin is a type of XML Schema Part 2 with what stands for it in Go and in the codec.
type builtin struct{ XSD, Go, Method, Bits string }

var builtins = map[string]builtin{
	"string":        {"string", "string", "String", ""},
	"boolean":       {"boolean", "bool", "Bool", ""},
	"int":           {"int", "int32", "Int64", "32"},
	"long":          {"long", "int64", "Int64", "64"},
	"short":         {"short", "int16", "Int64", "16"},
	"unsignedInt":   {"unsignedInt", "uint32", "Uint64", "32"},
	"unsignedLong":  {"unsignedLong", "uint64", "Uint64", "64"},
	"unsignedShort": {"unsignedShort", "uint16", "Uint64", "16"},
	"unsignedByte":  {"unsignedByte", "byte", "Uint64", "8"},
	"dateTime":      {"dateTime", "soap.XSDDateTime", "DateTime", ""},
	"base64Binary":  {"base64Binary", "[]byte", "Base64", ""},
}

type fault struct {
	Name, Doc    string
	Detail       *complexType
	Code, Status string
}

type operation struct {
	Name, Doc, Action             string
	Function, Role, Effect, Scope string
	Guest                         bool
	Request, Reply                *complexType
	Faults                        []string
	Commands                      []command
}

type command struct {
	Words, Arguments    []string
	Set                 [][2]string
	Table, Example, Doc string
}

// function is a slice of the port: the operations that one package of smm answers.
type function struct {
	Name       string
	Operations []*operation
}

func read(source, schema []byte) (*contract, error) {
	w, s := etree.NewDocument(), etree.NewDocument()
	if err := w.ReadFromBytes(source); err != nil {
		return nil, fmt.Errorf("bios.wsdl: %w", err)
	}
	if err := s.ReadFromBytes(schema); err != nil {
		return nil, fmt.Errorf("bios.xsd: %w", err)
	}
	c := &contract{Namespace: wsdl.Namespace, simple: map[string]*simpleType{}, complex: map[string]*complexType{}}
	if err := c.readSimple(s); err != nil {
		return nil, err
	}
	if err := c.readComplex(s); err != nil {
		return nil, err
	}
	return c, c.readOperations(w, s)
}

func (c *contract) readSimple(s *etree.Document) error {
	for _, e := range s.Root().SelectElements("simpleType") {
		r := e.SelectElement("restriction")
		t := &simpleType{Name: name(e), Doc: doc(e), MaxLength: -1}
		var ok bool
		if t.Base, ok = builtins[local(r.SelectAttrValue("base", ""))]; !ok {
			return fmt.Errorf("simple type %s: base %s is not supported", t.Name, r.SelectAttrValue("base", ""))
		}
		for _, f := range r.ChildElements() {
			v := f.SelectAttrValue("value", "")
			var err error
			switch f.Tag {
			case "enumeration":
				t.Values = append(t.Values, enumValue{v, doc(f)})
			case "pattern":
				t.Pattern = v
			case "minLength":
				t.MinLength, err = strconv.Atoi(v)
			case "maxLength":
				t.MaxLength, err = strconv.Atoi(v)
			case "minInclusive":
				t.MinValue = v
			case "maxInclusive":
				t.MaxValue = v
			default:
				err = fmt.Errorf("facet %s is not supported", f.Tag)
			}
			if err != nil {
				return fmt.Errorf("simple type %s: %w", t.Name, err)
			}
		}
		c.Simple, c.simple[t.Name] = append(c.Simple, t), t
	}
	return nil
}

func (c *contract) readComplex(s *etree.Document) error {
	elements := s.Root().SelectElements("complexType")
	for _, e := range elements {
		t := &complexType{Name: name(e), Doc: doc(e)}
		c.Complex, c.complex[t.Name] = append(c.Complex, t), t
	}
	for i, e := range elements {
		t := c.Complex[i]
		for _, x := range e.SelectElement("sequence").ChildElements() {
			f := &field{
				Name: name(x), Doc: doc(x), MediaType: x.SelectAttrValue("expectedContentTypes", ""),
				Optional: x.SelectAttrValue("minOccurs", "1") == "0", Many: x.SelectAttrValue("maxOccurs", "1") == "unbounded",
			}
			typ := x.SelectAttrValue("type", "")
			if b, ok := builtins[local(typ)]; ok && strings.HasPrefix(typ, "xs:") {
				f.Builtin = &b
			} else if f.Simple = c.simple[local(typ)]; f.Simple == nil {
				if f.Complex = c.complex[local(typ)]; f.Complex == nil {
					return fmt.Errorf("%s/%s: type %s is not known", t.Name, f.Name, typ)
				}
			}
			t.Fields = append(t.Fields, f)
		}
	}
	return nil
}

func (c *contract) readOperations(w, s *etree.Document) error {
	elements := map[string]*etree.Element{}
	for _, e := range s.Root().SelectElements("element") {
		elements[name(e)] = e
		if a := e.FindElement("./annotation/appinfo/fault"); a != nil {
			c.Faults = append(c.Faults, &fault{
				Name: name(e), Doc: doc(e), Detail: c.complex[local(e.SelectAttrValue("type", ""))],
				Code: a.SelectAttrValue("code", ""), Status: a.SelectAttrValue("status", ""),
			})
		}
	}
	functions := map[string]*function{}
	for _, e := range w.Root().SelectElement("portType").SelectElements("operation") {
		o := &operation{Name: name(e), Doc: strings.TrimSpace(e.SelectElement("documentation").Text())}
		o.Action = e.SelectElement("input").SelectAttrValue("Action", "")
		request, reply := elements[o.Name], elements[o.Name+"Response"]
		if request == nil || reply == nil {
			return fmt.Errorf("operation %s: the schema has no elements %s and %sResponse", o.Name, o.Name, o.Name)
		}
		o.Request = c.complex[local(request.SelectAttrValue("type", ""))]
		o.Reply = c.complex[local(reply.SelectAttrValue("type", ""))]
		a := request.FindElement("./annotation/appinfo/operation")
		if a == nil {
			return fmt.Errorf("element %s: no bv:operation annotation says function, role, effect and scope", o.Name)
		}
		o.Function, o.Role = a.SelectAttrValue("function", ""), a.SelectAttrValue("role", "")
		o.Effect, o.Scope = a.SelectAttrValue("effect", ""), a.SelectAttrValue("scope", "")
		o.Guest = a.SelectAttrValue("guest", "") == "true"
		if o.Request == nil || o.Reply == nil || o.Function == "" ||
			!slices.Contains([]string{"anyone", "viewer", "operator", "admin"}, o.Role) ||
			!slices.Contains([]string{"read", "change"}, o.Effect) || !slices.Contains([]string{"domain", "host", "channel"}, o.Scope) {
			return fmt.Errorf("element %s: its type or its bv:operation annotation is not complete", o.Name)
		}
		for _, f := range e.SelectElements("fault") {
			o.Faults = append(o.Faults, name(f))
		}
		for _, x := range request.FindElements("./annotation/appinfo/command") {
			cmd := command{
				Words: strings.Fields(name(x)), Arguments: strings.Fields(x.SelectAttrValue("arguments", "")),
				Table: x.SelectAttrValue("table", ""), Example: x.SelectAttrValue("example", ""), Doc: o.Doc,
			}
			for _, pair := range strings.Fields(x.SelectAttrValue("set", "")) {
				k, v, _ := strings.Cut(pair, "=")
				cmd.Set = append(cmd.Set, [2]string{k, v})
			}
			o.Commands = append(o.Commands, cmd)
		}
		c.Operations = append(c.Operations, o)
		f := functions[o.Function]
		if f == nil {
			f = &function{Name: o.Function}
			functions[o.Function] = f
			c.Functions = append(c.Functions, f)
		}
		f.Operations = append(f.Operations, o)
	}
	return nil
}

func name(e *etree.Element) string { return e.SelectAttrValue("name", "") }

func doc(e *etree.Element) string {
	if d := e.FindElement("./annotation/documentation"); d != nil {
		return strings.TrimSpace(d.Text())
	}
	return ""
}

func local(qname string) string { return qname[strings.Index(qname, ":")+1:] }
