package main

import (
	"fmt"
	"strings"
	"text/template"
)

// functions are what the templates call.
var functions = template.FuncMap{
	"comment": comment,
	"export":  func(s string) string { return strings.ToUpper(s[:1]) + s[1:] },
	"quote":   func(s string) string { return fmt.Sprintf("%q", s) },
	"decode":  decodeField,
	"encode":  encodeField,
	"check":   checkBody,
	"scalar":  func(t *simpleType) bool { return t.Base.Method != "String" },
	"words":   func(w []string) string { return strings.Join(w, " ") },
	"cell":    func(s string) string { return strings.ReplaceAll(s, "|", `\|`) },
	"typ":     func(f *field) string { return f.typeName() },
	"kind":    func(f *field) string { return f.kind() },
	"cards":   cardinality,
}

// comment breaks a sentence into lines of a Go comment.
func comment(s string) string {
	var b strings.Builder
	line := "//"
	for _, w := range strings.Fields(s) {
		if len(line)+1+len(w) > 110 {
			b.WriteString(line + "\n")
			line = "//"
		}
		line += " " + w
	}
	return b.String() + line
}

func cardinality(f *field) string {
	switch {
	case f.Many && f.Optional:
		return "any number"
	case f.Many:
		return "one or more"
	case f.Optional:
		return "optional"
	}
	return "required"
}

func (f *field) typeName() string {
	switch {
	case f.Builtin != nil:
		return f.Builtin.XSD
	case f.Simple != nil:
		return f.Simple.Name
	}
	return f.Complex.Name
}

func (f *field) kind() string {
	switch {
	case f.Complex != nil:
		return "Complex"
	case f.Simple != nil && len(f.Simple.Values) > 0:
		return "Enumeration"
	case f.Simple != nil:
		return scalarKind(f.Simple.Base)
	}
	return scalarKind(*f.Builtin)
}

func scalarKind(b builtin) string {
	switch b.Method {
	case "Int64", "Uint64":
		return "Integer"
	case "Bool":
		return "Boolean"
	case "Base64":
		return "Binary"
	}
	return b.Method // String, DateTime
}

// readValue is the expression that reads a simple value of the current element.
func readValue(b builtin, typeName string) string {
	if b.Bits != "" {
		return fmt.Sprintf("%s(r.%s(%q, %s))", b.Go, b.Method, typeName, b.Bits)
	}
	if b.Method == "DateTime" {
		return fmt.Sprintf("dateTime(r.DateTime(%q))", typeName)
	}
	return fmt.Sprintf("r.%s(%q)", b.Method, typeName)
}

// decodeField is the statement that reads one particle of a sequence (XML Schema Part 1, section 3.9).
func decodeField(f *field) string {
	var one string
	switch {
	case f.Complex != nil:
		one = fmt.Sprintf("v := new(%s)\nv.decode(r)\n", f.Complex.Name)
	case f.Simple != nil:
		one = fmt.Sprintf("v := new(%s)\nv.decode(r)\n", f.Simple.Name)
	default:
		one = "v := " + readValue(*f.Builtin, f.Builtin.XSD) + "\n"
	}
	switch {
	case f.Many:
		loop := fmt.Sprintf("for r.More(%q) {\n%sm.%s = append(m.%s, v)\n}\n", f.Name, one, f.Name, f.Name)
		if !f.Optional {
			loop += fmt.Sprintf("if len(m.%s) == 0 {\nr.Need(%q)\n}\n", f.Name, f.Name)
		}
		return loop
	case f.Optional:
		return fmt.Sprintf("if r.More(%q) {\n%sm.%s = v\n}\n", f.Name, one, f.Name)
	}
	return fmt.Sprintf("if r.Need(%q) {\n%sm.%s = v\n}\n", f.Name, one, f.Name)
}

// writeValue is the statement that writes a simple value as an element.
func writeValue(b builtin, name, value string) string {
	switch b.Method {
	case "Int64":
		return fmt.Sprintf("w.Int64(%q, int64(%s))\n", name, value)
	case "Uint64":
		return fmt.Sprintf("w.Uint64(%q, uint64(%s))\n", name, value)
	case "DateTime":
		return fmt.Sprintf("w.DateTime(%q, %s.ToGoTime())\n", name, value)
	}
	return fmt.Sprintf("w.%s(%q, %s)\n", b.Method, name, value)
}

// absent is the condition under which an optional element is left out.
func absent(f *field) string {
	switch {
	case f.Simple != nil || f.Complex != nil:
		return "m." + f.Name + " != nil"
	case f.Builtin.Method == "Base64":
		return "len(m." + f.Name + ") > 0"
	case f.Builtin.Method == "DateTime":
		return "!m." + f.Name + ".ToGoTime().IsZero()"
	case f.Builtin.Method == "Bool":
		return "m." + f.Name
	case f.Builtin.Method == "String":
		return `m.` + f.Name + ` != ""`
	}
	return "m." + f.Name + " != 0"
}

// encodeField is the statement that writes one particle of a sequence.
func encodeField(t *complexType, f *field) string {
	value := "m." + f.Name
	if f.Many {
		value = "v"
	}
	var one string
	switch {
	case f.Complex != nil:
		one = fmt.Sprintf("w.Open(%q)\n%s.encode(w)\nw.Close()\n", f.Name, value)
	case f.Simple != nil:
		one = fmt.Sprintf("%s.encode(w, %q)\n", value, f.Name)
	default:
		one = writeValue(*f.Builtin, f.Name, value)
	}
	if f.Builtin == nil && (f.Many || !f.Optional) {
		one = fmt.Sprintf("if %s == nil {\nw.Fail(missing(%q, %q))\nreturn\n}\n", value, t.Name, f.Name) + one
	}
	switch {
	case f.Many:
		loop := fmt.Sprintf("for _, v := range m.%s {\n%s}\n", f.Name, one)
		if !f.Optional {
			loop = fmt.Sprintf("if len(m.%s) == 0 {\nw.Fail(missing(%q, %q))\n}\n", f.Name, t.Name, f.Name) + loop
		}
		return loop
	case f.Optional:
		return fmt.Sprintf("if %s {\n%s}\n", absent(f), one)
	}
	return one
}

// checkBody is the body of a simple type's check: it gives the rule of XML Schema Part 2 that a value breaks
// and what the schema expects.
func checkBody(t *simpleType) string {
	var b strings.Builder
	if len(t.Values) > 0 {
		b.WriteString("switch v {\ncase ")
		names := make([]string, len(t.Values))
		for i, v := range t.Values {
			names[i] = t.Name + v.Name
		}
		b.WriteString(strings.Join(names, ", ") + ":\nreturn \"\", \"\"\n}\n")
		values := make([]string, len(t.Values))
		for i, v := range t.Values {
			values[i] = v.Name
		}
		fmt.Fprintf(&b, "return \"cvc-enumeration-valid\", %q\n", "one of "+strings.Join(values, ", "))
		return b.String()
	}
	if t.MaxLength >= 0 {
		fmt.Fprintf(&b, "if utf8.RuneCountInString(string(v)) > %d {\nreturn \"cvc-maxLength-valid\", \"at most %d characters\"\n}\n", t.MaxLength, t.MaxLength)
	}
	if t.MinLength > 0 {
		fmt.Fprintf(&b, "if utf8.RuneCountInString(string(v)) < %d {\nreturn \"cvc-minLength-valid\", \"at least %d characters\"\n}\n", t.MinLength, t.MinLength)
	}
	if t.Pattern != "" {
		fmt.Fprintf(&b, "if !pattern%s.MatchString(string(v)) {\nreturn \"cvc-pattern-valid\", %q\n}\n", t.Name, "text that matches "+t.Pattern)
	}
	if t.MinValue != "" {
		fmt.Fprintf(&b, "if v < %s {\nreturn \"cvc-minInclusive-valid\", \"at least %s\"\n}\n", t.MinValue, t.MinValue)
	}
	if t.MaxValue != "" {
		fmt.Fprintf(&b, "if v > %s {\nreturn \"cvc-maxInclusive-valid\", \"at most %s\"\n}\n", t.MaxValue, t.MaxValue)
	}
	b.WriteString("return \"\", \"\"\n")
	return b.String()
}
