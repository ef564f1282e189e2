package cli

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"biosv/generated"
)

// MarshalJSON writes a message of the contract, or a part of one, with the contract's own names and types: an
// optional element that is absent is left out, a required one is always there, a repeated one is an array (empty,
// where there is none), whole numbers are numbers of any size, a dateTime is RFC 3339 in UTC, binary is base64
// (RFC 4648 section 4), an enumeration its value. A message that lacks what the schema requires is an error.
func MarshalJSON(message any) ([]byte, error) {
	name, v, err := shapeOf(message)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := writeObject(&b, name, v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func writeObject(b *bytes.Buffer, name string, v reflect.Value) error {
	b.WriteByte('{')
	first := true
	for _, f := range generated.Types[name] {
		values, ok := elements(v, f)
		if !ok {
			if f.Optional {
				continue
			}
			return &generated.MissingError{Type: name, Element: f.Name}
		}
		if !first {
			b.WriteByte(',')
		}
		first = false
		b.WriteString(strconv.Quote(f.Name) + ":")
		if f.Many {
			b.WriteByte('[')
		}
		for i, e := range values {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeElement(b, f, e); err != nil {
				return err
			}
		}
		if f.Many {
			b.WriteByte(']')
		}
	}
	b.WriteByte('}')
	return nil
}

func writeElement(b *bytes.Buffer, f generated.Field, v reflect.Value) error {
	switch f.Kind {
	case generated.Complex:
		return writeObject(b, f.Type, v)
	case generated.Boolean:
		b.WriteString(strconv.FormatBool(v.Bool()))
	case generated.Integer:
		b.WriteString(integer(v))
	case generated.Binary:
		b.WriteString(`"` + base64.StdEncoding.EncodeToString(v.Bytes()) + `"`)
	case generated.DateTime:
		b.WriteString(`"` + moment(v).UTC().Format(time.RFC3339Nano) + `"`)
	default:
		return writeString(b, v.String())
	}
	return nil
}

// writeString keeps < and > readable, which package json would not, and escapes every character that a terminal might
// obey, which package json would not either.
func writeString(b *bytes.Buffer, s string) error {
	var text bytes.Buffer
	e := json.NewEncoder(&text)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		return err
	}
	for _, r := range strings.TrimSuffix(text.String(), "\n") {
		switch {
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(b, `\u%04x`, r)
		}
	}
	return nil
}

// unmarshal reads an object that [MarshalJSON] would write into v, which is of the type named. A name that the type
// does not have is refused.
func unmarshal(data []byte, name string, v reflect.Value) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var object map[string]any
	if err := d.Decode(&object); err != nil {
		return fmt.Errorf("a JSON object of the type %s is expected: %w", name, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("one JSON object of the type %s is expected, and more follows it", name)
	}
	return readObject(object, name, v)
}

func readObject(object map[string]any, name string, v reflect.Value) error {
	var names []string
	for _, f := range generated.Types[name] {
		names = append(names, f.Name)
		given, ok := object[f.Name]
		if !ok {
			if !f.Optional {
				return fmt.Errorf("%s lacks %s", name, f.Name)
			}
			continue
		}
		values := []any{given}
		if f.Many {
			if values, ok = given.([]any); !ok {
				return fmt.Errorf("%s.%s: an array is expected", name, f.Name)
			}
		}
		for _, value := range values {
			e, err := readElement(f, elementType(v, f), value)
			if err != nil {
				return fmt.Errorf("%s.%s: %w", name, f.Name, err)
			}
			put(v, f, e)
		}
	}
	for given := range object {
		if !slices.Contains(names, given) {
			return fmt.Errorf("%s has no %q; it has %s", name, given, strings.Join(names, ", "))
		}
	}
	return nil
}

func readElement(f generated.Field, t reflect.Type, value any) (reflect.Value, error) {
	if f.Kind == generated.Complex {
		object, ok := value.(map[string]any)
		if !ok {
			return reflect.Value{}, fmt.Errorf("an object of the type %s is expected", f.Type)
		}
		e := reflect.New(t).Elem()
		return e, readObject(object, f.Type, e)
	}
	text, ok := value.(string)
	switch f.Kind {
	case generated.Boolean:
		var b bool
		b, ok = value.(bool)
		text = strconv.FormatBool(b)
	case generated.Integer:
		var n json.Number
		n, ok = value.(json.Number)
		text = n.String()
	case generated.Binary:
		content, err := base64.StdEncoding.DecodeString(text)
		if err != nil || !ok {
			return reflect.Value{}, fmt.Errorf("base64 is expected")
		}
		return reflect.ValueOf(content).Convert(t), nil
	}
	if !ok {
		return reflect.Value{}, fmt.Errorf("%s is expected", expected(f))
	}
	return scalar(f, t, text)
}

// printJSON prints a message, indented.
func printJSON(w io.Writer, message any) error {
	compact, err := MarshalJSON(message)
	if err != nil {
		return fmt.Errorf("print the answer: %w", err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, compact, "", "  "); err != nil {
		return err
	}
	b.WriteByte('\n')
	_, err = w.Write(b.Bytes())
	return err
}
