package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/hooklift/gowsdl/soap"
	"github.com/spf13/cobra"

	"biosv/generated"
)

// service is a BIOS of the test's own: it remembers what it was asked and answers what it is told to.
type service struct {
	answer func(generated.Call, generated.Request) (generated.Reply, error)

	connection Connection
	call       generated.Call
	request    generated.Request
}

func (s *service) connect(_ context.Context, c Connection) (generated.Handler, error) {
	s.connection = c
	return s, nil
}

func (s *service) Handle(_ context.Context, call generated.Call, request generated.Request) (generated.Reply, error) {
	s.call, s.request = call, request
	if s.answer == nil {
		return filled(request.Operation().NewReply(), maximal).(generated.Reply), nil
	}
	return s.answer(call, request)
}

// outcome is what a command did.
type outcome struct {
	code     int
	out, err string
}

// asked are the flags that settle a connection without a data folder.
var asked = []string{"--url", "https://bios.example:8443/bios", "--ca", "root.pem"}

// run runs the program's command line against a service. in is standard input.
func (s *service) run(t *testing.T, in string, args ...string) outcome {
	t.Helper()
	return runWith(t.Context(), s.connect, strings.NewReader(in), args)
}

func runWith(ctx context.Context, connect Connect, in io.Reader, args []string) outcome {
	var out, err bytes.Buffer
	root := &cobra.Command{Use: "biosv"}
	root.AddCommand(Commands(connect)...)
	root.SetIn(in)
	root.SetOut(&out)
	root.SetErr(&err)
	code := Run(ctx, root, args)
	return outcome{code, out.String(), err.String()}
}

// ask is run with the flags of a connection, and demands that it succeeds.
func (s *service) ask(t *testing.T, args ...string) outcome {
	t.Helper()
	o := s.run(t, "", append(args, asked...)...)
	if o.code != 0 {
		t.Fatalf("%q: exit code %d: %s", args, o.code, o.err)
	}
	return o
}

// size says how much of a message is there.
type size int

const (
	minimal size = iota // what the schema requires
	maximal             // everything, and repeated elements three times
)

// filled fills a message with values that the schema allows.
func filled(message generated.Message, s size) generated.Message {
	v := reflect.ValueOf(message).Elem()
	name, _, err := shapeOf(message)
	if err != nil {
		panic(err)
	}
	fill(v, name, s)
	return message
}

func fill(v reflect.Value, name string, s size) {
	for _, f := range generated.Types[name] {
		n := 1
		if f.Optional && s == minimal {
			n = 0
		} else if f.Many && s == maximal {
			n = 3
		}
		for i := range n {
			e := reflect.New(elementType(v, f)).Elem()
			if f.Kind == generated.Complex {
				fill(e, f.Type, s)
			} else {
				e = simple(f, e.Type(), i, s)
			}
			put(v, f, e)
		}
	}
}

// pemText looks like a certificate or a request for one.
const pemText = "-----BEGIN IT-----\nAAAA\n-----END IT-----\n"

// hostile is text of a service that is not to be trusted: escape sequences, line breaks, a right-to-left override.
const hostile = "\x1b[2J\x1b]0;owned\a\r\n\tüber\u202e\u0085\u2028 <&\"'> \x7f"

func simple(f generated.Field, t reflect.Type, i int, s size) reflect.Value {
	v := reflect.New(t).Elem()
	switch f.Kind {
	case generated.Boolean:
		v.SetBool(s == maximal)
	case generated.Integer:
		for _, text := range []string{"18446744073709551615", "9223372036854775807", "4294967295", "2147483647", "1000", "100"} {
			if e, err := scalar(f, t, text); err == nil && s == maximal {
				return e
			}
		}
		if e, err := scalar(f, t, "0"); err == nil {
			return e
		}
		v, _ = scalar(f, t, "1")
	case generated.Enumeration:
		v.SetString(f.Values[i%len(f.Values)])
	case generated.DateTime:
		at := time.Date(2026, 1, 31, 12, 0, i, 0, time.UTC)
		if s == maximal {
			at = time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC)
		}
		v.Set(reflect.ValueOf(soap.CreateXsdDateTime(at, true)))
	case generated.Binary:
		v.SetBytes([]byte(fmt.Sprintf("\x00\xff binary %d", i)))
	default:
		v.SetString("name")
		if f.Type == "ImageName" {
			v.SetString("images/web1.qcow2")
		}
		if f.Type == "BootOptionReference" {
			v.SetString("Boot0001")
		}
		if f.Type == "VendorGuid" {
			v.SetString("8be4df61-93ca-11d2-aa0d-00e098032b8c")
		}
		if c, ok := v.Interface().(checked); ok {
			if rule, _ := c.Check(); rule != "" {
				panic(t.Name() + " is not met by this fixture")
			}
		} else if s == maximal && !document(f.Name) {
			v.SetString(fmt.Sprintf("%d %s %s", i, hostile, strings.Repeat("a long text of many words ", 8)))
		} else {
			v.SetString("")
			if document(f.Name) {
				v.SetString(pemText)
			}
		}
	}
	return v
}
