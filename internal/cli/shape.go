package cli

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hooklift/gowsdl/soap"

	"biosv/generated"
)

// shapeOf gives the type of the contract that describes a message, and the message as a struct. A fault's Go type is
// made of the type of its detail, which is named XDetail where the fault is named XFault.
func shapeOf(message any) (string, reflect.Value, error) {
	v := reflect.ValueOf(message)
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return "", v, fmt.Errorf("%T is no message of the contract", message)
	}
	if !v.CanAddr() {
		addressable := reflect.New(v.Type()).Elem()
		addressable.Set(v)
		v = addressable
	}
	name := v.Type().Name()
	if _, ok := generated.Types[name]; ok {
		return name, v, nil
	}
	if kind, ok := strings.CutSuffix(name, "Fault"); ok {
		if _, ok := generated.Types[kind+"Detail"]; ok {
			return kind + "Detail", v, nil
		}
	}
	return "", v, fmt.Errorf("%T is no message of the contract", message)
}

// elements are the values of a message's element, without pointers: one, or any number where it is repeated. It
// tells whether the element stands in the message at all; a repeated one always does.
func elements(message reflect.Value, f generated.Field) ([]reflect.Value, bool) {
	v := message.FieldByName(f.Name)
	if !v.IsValid() {
		return nil, false
	}
	if f.Many {
		values := make([]reflect.Value, 0, v.Len())
		for i := range v.Len() {
			if e := v.Index(i); e.Kind() != reflect.Pointer {
				values = append(values, e)
			} else if !e.IsNil() {
				values = append(values, e.Elem())
			}
		}
		return values, true
	}
	switch {
	case v.Kind() == reflect.Pointer:
		if v.IsNil() {
			return nil, false
		}
		v = v.Elem()
	case f.Kind == generated.DateTime:
		if moment(v).IsZero() {
			return nil, false
		}
	case f.Optional && (v.IsZero() || f.Kind == generated.Binary && v.Len() == 0):
		return nil, false // of a built-in type: the zero value stands for what is absent
	}
	return []reflect.Value{v}, true
}

// elementType is the Go type of one value of an element, without pointers.
func elementType(message reflect.Value, f generated.Field) reflect.Type {
	t := message.FieldByName(f.Name).Type()
	if f.Many {
		t = t.Elem()
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// put sets an element, or adds to it where it is repeated.
func put(message reflect.Value, f generated.Field, e reflect.Value) {
	v := message.FieldByName(f.Name)
	t := v.Type()
	if f.Many {
		t = t.Elem()
	}
	if t.Kind() == reflect.Pointer {
		p := reflect.New(e.Type())
		p.Elem().Set(e)
		e = p
	}
	if f.Many {
		e = reflect.Append(v, e)
	}
	v.Set(e)
}

// checked is what the contract's own simple types can do.
type checked interface {
	Check() (rule, expected string)
}

// scalar reads a simple value, written as in XML, JSON or on the command line. The error says what is expected and
// does not repeat the value.
func scalar(f generated.Field, t reflect.Type, text string) (reflect.Value, error) {
	v := reflect.New(t).Elem()
	wrong := fmt.Errorf("%s is expected", expected(f))
	switch f.Kind {
	case generated.Boolean:
		switch strings.ToLower(text) {
		case "true", "yes", "1":
			v.SetBool(true)
		case "false", "no", "0":
		default:
			return v, wrong
		}
	case generated.Integer:
		if err := setInteger(v, text); err != nil {
			return v, err
		}
	case generated.DateTime:
		at, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			return v, wrong
		}
		v.Set(reflect.ValueOf(soap.CreateXsdDateTime(at.UTC(), true)))
		return v, nil
	case generated.Enumeration:
		i := slices.IndexFunc(f.Values, func(known string) bool { return strings.EqualFold(known, text) })
		if i < 0 {
			return v, wrong
		}
		v.SetString(f.Values[i])
	default:
		v.SetString(text)
	}
	if c, ok := v.Interface().(checked); ok {
		if rule, expected := c.Check(); rule != "" {
			return v, fmt.Errorf("%s is expected", expected)
		}
	}
	return v, nil
}

func setInteger(v reflect.Value, text string) error {
	bits := v.Type().Bits()
	if v.CanInt() {
		n, err := strconv.ParseInt(text, 10, bits)
		if err != nil {
			return fmt.Errorf("a whole number from %d to %d is expected", int64(-1)<<(bits-1), int64(1)<<(bits-1)-1)
		}
		v.SetInt(n)
		return nil
	}
	n, err := strconv.ParseUint(text, 10, bits)
	if err != nil {
		return fmt.Errorf("a whole number from 0 to %d is expected", ^uint64(0)>>(64-bits))
	}
	v.SetUint(n)
	return nil
}

// expected says how a value of an element is written.
func expected(f generated.Field) string {
	switch f.Kind {
	case generated.Boolean:
		return "true or false"
	case generated.Integer:
		return "a whole number"
	case generated.DateTime:
		return "a time such as 2026-01-31T12:00:00Z"
	case generated.Enumeration:
		return list(f.Values, "or")
	case generated.Binary:
		return "a file"
	}
	return "text"
}

func integer(v reflect.Value) string {
	if v.CanInt() {
		return strconv.FormatInt(v.Int(), 10)
	}
	return strconv.FormatUint(v.Uint(), 10)
}

// moment is the time in an element of the kind DateTime.
func moment(v reflect.Value) time.Time {
	if d, ok := v.Interface().(soap.XSDDateTime); ok {
		return d.ToGoTime()
	}
	return time.Time{}
}

// list joins words as in a sentence.
func list(words []string, last string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + last + " " + words[len(words)-1]
}
