package soap_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"biosv/envelope"
	"biosv/envelope/xmltext"
	"biosv/generated"
	"biosv/internal/testca"
	"biosv/service/soap"
	"biosv/testdata/envelopes"
)

// Whatever a stranger sends is answered: with the gate's answer where a message reached it that can be written again, and
// else with a fault that can be read, or a word of HTTP.
func FuzzServeHTTP(f *testing.F) {
	for _, a := range corpus(f) {
		text := a.Bytes()
		if len(text) > 8<<10 {
			continue
		}
		if !a.HTTP {
			text = fmt.Appendf(nil, "POST /bios HTTP/1.1\r\nHost: localhost\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s", a.As.MediaType(), len(text), text)
		}
		f.Add(text)
	}
	good, err := envelopes.Requests()
	if err != nil {
		f.Fatal(err)
	}
	for _, m := range good {
		if m.HTTP {
			f.Add(m.Bytes)
		}
	}
	f.Add([]byte("GET /bios/demo?wsdl HTTP/1.1\r\nHost: a&b\r\n\r\n"))
	g := &gate{answer: state}
	door := soap.New(settings(g, testca.NewRoot(f, "root").Certificate))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(text)))
		if err != nil {
			return // the server refuses it by itself
		}
		r.RemoteAddr = "192.0.2.1:1"
		g.calls, g.requests = nil, nil
		w := httptest.NewRecorder()
		door.ServeHTTP(w, r)
		if r.Method != http.MethodPost {
			if len(g.calls) > 0 {
				t.Fatalf("%s reached the gate", r.Method)
			}
			return
		}
		if (w.Code == http.StatusOK) != (len(g.calls) == 1) {
			t.Fatalf("status %d, and %d messages at the gate", w.Code, len(g.calls))
		}
		for _, m := range g.requests {
			out := xmltext.NewWriter()
			generated.Encode(out, m)
			if err := out.Err(); err != nil {
				t.Fatalf("%T reached the gate: %v", m, err)
			}
			out.Release()
		}
		limits := xmltext.DefaultLimits
		limits.TextBytes = 1 << 20
		in := xmltext.NewReader(w.Body.Bytes(), limits)
		defer in.Release()
		reply, err := envelope.ReadReply(in)
		if err != nil {
			t.Fatalf("the answer cannot be read: %v\n%s", err, w.Body)
		}
		if reply.Fault != nil && reply.Fault.Reason == "" || reply.Fault == nil && w.Code != http.StatusOK {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		if reply.HasDetail {
			if _, err := generated.DecodeFault(in); err != nil {
				t.Fatalf("%v\n%s", err, w.Body)
			}
		}
		if w.Body.Len() > 5*len(text)+mostAnswer { // what is given back may have been written as CDATA
			t.Fatalf("%d bytes are answered with %d", len(text), w.Body.Len())
		}
	})
}
