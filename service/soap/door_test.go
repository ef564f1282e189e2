package soap_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/beevik/etree"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	xsdtypes "github.com/hooklift/gowsdl/soap"

	"biosv/envelope"
	"biosv/envelope/xmltext"
	"biosv/fault"
	"biosv/generated"
	"biosv/security"
	"biosv/service/soap"
	"biosv/testdata/envelopes"
	"biosv/testdata/hostile"
	"biosv/wsdl"
)

var bothVersions = []envelope.Version{envelope.SOAP11, envelope.SOAP12}

// asked is a request for an operation, with header blocks before it.
func asked(v envelope.Version, header, operation string) string {
	return `<s:Envelope xmlns:s="` + v.Namespace() + `" xmlns:b="` + generated.Namespace + `" xmlns:a="` + envelope.Addressing + `"><s:Header>` + header + `</s:Header><s:Body>` + operation + `</s:Body></s:Envelope>`
}

// post sends a request, with header lines in turn with their values.
func post(t *testing.T, client *http.Client, url, body string, header ...string) answer {
	t.Helper()
	got, err := tryPost(t.Context(), client, url, strings.NewReader(body), header...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func tryPost(ctx context.Context, client *http.Client, url string, body io.Reader, header ...string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, body)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Add(header[i], header[i+1])
	}
	res, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(res)
}

// state answers every request with a state of power.
func state(context.Context, generated.Call, generated.Request) (generated.Reply, error) {
	return &generated.GetPowerStateReply{PowerState: new(generated.PowerStateOn)}, nil
}

func TestGoodRequestsReachTheGate(t *testing.T) {
	t.Parallel()
	all, err := envelopes.Requests()
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range all {
		g := &gate{answer: state}
		h := open(t, g)
		var got answer
		if m.HTTP {
			got, err = sendBytes(h.config(t, person+"ada"), h.url, m.Bytes)
		} else {
			got, err = send(h.client(t, person+"ada"), nil, h.url, hostile.Attack{As: m.As}, m.Bytes)
		}
		if err != nil || got.status != http.StatusOK || got.header.Get("Content-Type") != m.As.MediaType()+"; charset=utf-8" {
			t.Errorf("%s: %v, %d\n%s", m.Name, err, got.status, got.body)
			continue
		}
		calls, requests := g.reached()
		if len(calls) != 1 || requests[0].Operation().Name != m.Operation {
			t.Errorf("%s: %d requests reached the gate: %v", m.Name, len(calls), requests)
			continue
		}
		// What is kept of a request is not what the body was read into.
		if diff := cmp.Diff(decoded(t, m.Envelope()), requests[0], cmp.Exporter(func(reflect.Type) bool { return true })); diff != "" {
			t.Errorf("%s reached the gate as another: %s", m.Name, diff)
		}
		call := calls[0]
		if call.Principal.String() != person+"ada" || call.Door != security.DoorSOAP || call.Channel.LeafSHA256 == "" || call.Channel.Peer == "" || call.ID != got.header.Get("X-Request-Id") {
			t.Errorf("%s reached the gate by the call %+v", m.Name, call)
		}
		if tool, _, ok := strings.Cut(m.Name, "-1."); ok && m.Operation == "SetAttributes" && !strings.HasPrefix(call.Domain, "interop-"+tool) {
			t.Errorf("%s reached the gate for the domain %s", m.Name, call.Domain)
		}
	}
}

// decoded reads the message in an envelope.
func decoded(t *testing.T, text []byte) generated.Request {
	t.Helper()
	r := xmltext.NewReader(text, xmltext.DefaultLimits)
	defer r.Release()
	if _, err := envelope.Read(r); err != nil {
		t.Fatal(err)
	}
	m, err := generated.DecodeRequest(r)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Who asks, and of which domain, is what the certificate says, at every request of a connection.
func TestWhoAsksIsWhatTheCertificateSays(t *testing.T) {
	t.Parallel()
	g := &gate{answer: state}
	h := open(t, g)
	for _, c := range []struct{ id, path, principal, domain string }{
		{"", "", "unidentified", "dom0"},
		{"", "/demo", "unidentified", "demo"},
		{person + "ada", "", person + "ada", "dom0"},
		{person + "ada", "/demo", person + "ada", "demo"},
		{domain + "web", "", domain + "web", "web"},
		{domain + "web", "/demo", domain + "web", "demo"},
		{"spiffe://elsewhere.test/person/ada", "", "unidentified", "dom0"},
	} {
		client := h.client(t, c.id)
		for range 2 {
			got := post(t, client, h.url+c.path, asked(envelope.SOAP12, "", `<b:GetPowerState/>`), "Content-Type", "application/soap+xml")
			calls, _ := g.reached()
			if got.status != http.StatusOK || calls[len(calls)-1].Principal.String() != c.principal || calls[len(calls)-1].Domain != c.domain {
				t.Errorf("%s at %s: %d, %+v", c.id, c.path, got.status, calls[len(calls)-1])
			}
		}
	}
	calls, _ := g.reached()
	ids := map[string]bool{}
	for _, call := range calls {
		if _, err := uuid.Parse(call.ID); err != nil || ids[call.ID] {
			t.Errorf("the id %q: %v", call.ID, err)
		}
		ids[call.ID] = true
	}
}

func TestAnswersRelateToTheMessageAsked(t *testing.T) {
	t.Parallel()
	h := open(t, &gate{answer: state})
	client := h.client(t, "")
	const id = " urn:x&amp;y "
	for _, v := range bothVersions {
		got := post(t, client, h.url, asked(v, `<a:MessageID>`+id+`</a:MessageID>`, `<b:GetPowerState/>`), "Content-Type", v.MediaType())
		header := parse(t, got.body).FindElement("/Envelope/Header")
		if header == nil {
			t.Fatalf("SOAP %s: %s", v, got.body)
		}
		if text := header.FindElement("RelatesTo").Text(); text != " urn:x&y " {
			t.Errorf("SOAP %s: it relates to %q", v, text)
		}
		if text := header.FindElement("Action").Text(); text != generated.Namespace+"/GetPowerStateResponse" {
			t.Errorf("SOAP %s: its action is %q", v, text)
		}
		if text := header.FindElement("MessageID").Text(); !strings.HasPrefix(text, "urn:uuid:") {
			t.Errorf("SOAP %s: its id is %q", v, text)
		}
		for _, e := range header.ChildElements() {
			if e.NamespaceURI() != envelope.Addressing {
				t.Errorf("SOAP %s: %s is in %s", v, e.Tag, e.NamespaceURI())
			}
		}
		// Faults too, with the action of a fault.
		for body, action := range map[string]string{
			asked(v, `<a:MessageID>`+id+`</a:MessageID>`, `<b:Shutdown/>`):                                generated.Namespace + "/InvalidRequestFault",
			asked(v, `<a:MessageID>`+id+`</a:MessageID><a:Action>urn:x</a:Action>`, `<b:GetThermal/>`):    envelope.Addressing + "/soap/fault",
			asked(v, `<a:MessageID>`+id+`</a:MessageID><a:To>https://x/bios/-</a:To>`, `<b:GetThermal/>`): generated.Namespace + "/NotFoundFault",
		} {
			doc := parse(t, post(t, client, h.url, body, "Content-Type", v.MediaType()).body)
			if got := doc.FindElement("/Envelope/Header/Action"); got == nil || got.Text() != action {
				t.Errorf("SOAP %s: the action of a fault is %v; want %s", v, got, action)
			}
			if got := doc.FindElement("/Envelope/Header/RelatesTo"); got == nil || got.Text() != " urn:x&y " {
				t.Errorf("SOAP %s: the fault relates to %v", v, got)
			}
		}
		if got := post(t, client, h.url, asked(v, "", `<b:GetPowerState/>`), "Content-Type", v.MediaType()); parse(t, got.body).FindElement("/Envelope/Header") != nil {
			t.Errorf("SOAP %s: an answer to a message without an id has headers: %s", v, got.body)
		}
	}
}

func parse(t *testing.T, text []byte) *etree.Document {
	t.Helper()
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(text); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return doc
}

func TestTheActionIsCheckedAgainstTheBody(t *testing.T) {
	t.Parallel()
	h := open(t, &gate{answer: state})
	client := h.client(t, "")
	const right, wrong = generated.Namespace + "/GetPowerState", generated.Namespace + "/ResetSystem"
	for _, c := range []struct {
		v          envelope.Version
		soapAction []string
		parameter  string
		addressing string
		ok         bool
	}{
		{v: envelope.SOAP11, ok: true},
		{v: envelope.SOAP11, soapAction: []string{""}, ok: true},
		{v: envelope.SOAP11, soapAction: []string{`""`}, ok: true},
		{v: envelope.SOAP11, soapAction: []string{`"` + right + `"`}, ok: true},
		{v: envelope.SOAP11, soapAction: []string{right}, ok: true},
		{v: envelope.SOAP11, soapAction: []string{`"` + wrong + `"`}},
		{v: envelope.SOAP11, soapAction: []string{wrong}},
		{v: envelope.SOAP11, soapAction: []string{`"GetPowerState"`}},
		{v: envelope.SOAP11, soapAction: []string{`""` + right + `""`}},
		{v: envelope.SOAP11, soapAction: []string{`"` + right}},
		{v: envelope.SOAP11, soapAction: []string{`"` + right + `"`, `"` + wrong + `"`}},
		{v: envelope.SOAP11, soapAction: []string{strings.ToUpper(right)}},
		{v: envelope.SOAP11, parameter: wrong, ok: true}, // SOAP 1.1 has no such parameter
		{v: envelope.SOAP12, ok: true},
		{v: envelope.SOAP12, parameter: right, ok: true},
		{v: envelope.SOAP12, parameter: wrong},
		{v: envelope.SOAP12, parameter: right + "2"},
		{v: envelope.SOAP12, parameter: "x/" + right},
		{v: envelope.SOAP12, soapAction: []string{wrong}, ok: true}, // SOAP 1.2 has no such header, though gSOAP sends it
		{v: envelope.SOAP11, addressing: right, ok: true},
		{v: envelope.SOAP12, addressing: "\n " + right + " ", ok: true},
		{v: envelope.SOAP12, addressing: wrong},
		{v: envelope.SOAP12, parameter: right, addressing: wrong},
		{v: envelope.SOAP11, soapAction: []string{wrong}, addressing: right},
	} {
		media := c.v.MediaType()
		if c.parameter != "" {
			media += `; action="` + c.parameter + `"`
		}
		header := []string{"Content-Type", media}
		for _, a := range c.soapAction {
			header = append(header, "SOAPAction", a)
		}
		block := ""
		if c.addressing != "" {
			block = `<a:Action>` + c.addressing + `</a:Action>`
		}
		got := post(t, client, h.url, asked(c.v, block, `<b:GetPowerState/>`), header...)
		if c.ok {
			if got.status != http.StatusOK {
				t.Errorf("%+v: %d %s", c, got.status, got.body)
			}
			continue
		}
		checkAnswer(t, got, c.v, hostile.Answer{Status: envelope.Sender.HTTPStatus(c.v), Code: sender(c.v)})
		if c.v == envelope.SOAP12 && !strings.Contains(string(got.body), `c:InvalidAddressingHeader</s:Value><s:Subcode><s:Value xmlns:c="`+envelope.Addressing+`">c:ActionMismatch</s:Value>`) {
			t.Errorf("%+v: %s", c, got.body)
		}
	}
}

func sender(v envelope.Version) string {
	if v == envelope.SOAP11 {
		return "Client"
	}
	return "Sender"
}

func TestMediaTypesThatAreTaken(t *testing.T) {
	t.Parallel()
	h := open(t, &gate{answer: state})
	client := h.client(t, "")
	for _, c := range []struct {
		media  string
		v      envelope.Version
		status int
	}{
		{`text/xml`, envelope.SOAP11, 200},
		{`TEXT/XML; Charset="UTF-8"`, envelope.SOAP11, 200},
		{`text/xml;charset=utf-8;action="x"`, envelope.SOAP11, 200},
		{`text/xml; charset=us-ascii`, envelope.SOAP11, 200},
		{`text/xml; charset=""`, envelope.SOAP11, 200},
		{`application/soap+xml`, envelope.SOAP12, 200},
		{`application/soap+xml; charset=UTF-8; action=""`, envelope.SOAP12, 200},
		{`text/xml; charset=utf-16`, envelope.SOAP11, 415},
		{`text/xml; charset=utf8`, envelope.SOAP11, 415},
		{`text/xml; charset=utf-7`, envelope.SOAP11, 415},
		{`text/xml; =`, envelope.SOAP11, 415},
		{`application/xml`, envelope.SOAP11, 415},
		{`application/soap+xml; charset=iso-8859-1`, envelope.SOAP12, 415},
		{`application/xop+xml; type="application/soap+xml"`, envelope.SOAP11, 415},
		{`multipart/related; type="text/xml"; boundary=x`, envelope.SOAP11, 415},
		{`application/x-www-form-urlencoded`, envelope.SOAP11, 415},
		{`text/plain`, envelope.SOAP11, 415},
	} {
		got := post(t, client, h.url, asked(c.v, "", `<b:GetPowerState/>`), "Content-Type", c.media)
		if got.status != c.status || !strings.HasPrefix(got.header.Get("Content-Type"), c.v.MediaType()) {
			t.Errorf("%s: %d, %s\n%s", c.media, got.status, got.header.Get("Content-Type"), got.body)
		}
	}
	for coding, status := range map[string]int{"identity": 200, "": 200, "gzip": 415, "deflate": 415, "br": 415, "x": 415} {
		if got := post(t, client, h.url, asked(envelope.SOAP11, "", `<b:GetPowerState/>`), "Content-Type", "text/xml", "Content-Encoding", coding); got.status != status {
			t.Errorf("the coding %q: %d", coding, got.status)
		}
	}
}

// contractFaults are faults of every kind, with what XML cannot hold in what they quote.
var contractFaults = []generated.Fault{
	fault.InvalidRequest(fault.InvalidValue, "/a\x01b", "\xff", "A <value> & \x00."),
	fault.InvalidAttribute("/x", []*generated.AttributeRefusal{fault.Refusal(fault.UnknownAttribute, "A", []string{"v\x00"}, "No.")}),
	fault.NotFound(fault.UnknownDomain, "", "\ufffe", "No."),
	fault.Conflict(fault.StaleVersion, "No."),
	fault.AccessDenied(fault.RoleTooSmall, "s", "o", "r", "No."),
	fault.AuthenticationRequired("CertificateMissing", "No."),
	fault.Locked(fault.PasswordLockout, time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)), "No."),
	fault.Integrity(fault.BadSignature, "", "No."),
	fault.Uefi(fault.EfiWriteProtected, "EFI_WRITE_PROTECTED", "", "No."),
	fault.LimitExceeded(fault.TooMany, "Domains", 1<<63, "No."),
	fault.Unavailable(fault.TPMUnavailable, time.Second, "No."),
	fault.Internal("x"),
}

// SOAP 1.1 faults come with the status 500, or clients lose the detail; those of SOAP 1.2 with 400 for a sender's. The
// order of their parts is the one that the schemas of SOAP prescribe.
func TestFaultsOfTheContractAreWrittenInBothVersions(t *testing.T) {
	t.Parallel()
	if len(contractFaults) != len(generated.Faults) {
		t.Fatalf("%d faults are tested, and the contract has %d", len(contractFaults), len(generated.Faults))
	}
	dir := t.TempDir()
	for _, f := range contractFaults {
		h := open(t, &gate{answer: func(context.Context, generated.Call, generated.Request) (generated.Reply, error) {
			return nil, fmt.Errorf("the gate: %w", f)
		}})
		for _, v := range bothVersions {
			info := f.Info()
			want := hostile.Answer{Fault: info.Name, Detail: detailCode(t, f)}
			switch {
			case v == envelope.SOAP11 && info.Sender:
				want.Code, want.Status = "Client", 500
			case v == envelope.SOAP11:
				want.Code, want.Status = "Server", 500
			case info.Sender:
				want.Code, want.Status = "Sender", 400
			default:
				want.Code, want.Status = "Receiver", 500
			}
			got := post(t, h.client(t, ""), h.url, asked(v, "", `<b:GetPowerState/>`), "Content-Type", v.MediaType())
			checkAnswer(t, got, v, want)
			keep(t, filepath.Join(dir, info.Name+v.String()+".xml"), got.body)
			if v == envelope.SOAP12 && !strings.Contains(string(got.body), `<s:Subcode><s:Value xmlns:c="`+generated.Namespace+`">c:`+info.Name+`</s:Value></s:Subcode>`) {
				t.Errorf("there is no subcode: %s", got.body)
			}
		}
	}
	lint(t, dir)
}

func detailCode(t *testing.T, f generated.Fault) string {
	t.Helper()
	switch f := f.(type) {
	case *generated.InvalidRequestFault:
		return f.Code
	case *generated.InvalidAttributeFault:
		return f.Code
	case *generated.NotFoundFault:
		return f.Code
	case *generated.ConflictFault:
		return f.Code
	case *generated.AccessDeniedFault:
		return f.Code
	case *generated.AuthenticationRequiredFault:
		return f.Code
	case *generated.LockedFault:
		return f.Code
	case *generated.IntegrityFault:
		return f.Code
	case *generated.UefiFault:
		return f.Code
	case *generated.LimitExceededFault:
		return f.Code
	case *generated.UnavailableFault:
		return f.Code
	case *generated.InternalFault:
		return f.Code
	}
	t.Fatalf("%T", f)
	return ""
}

// What fails inside is told to nobody but the log: neither an error's text, nor an answer that the schema does not
// allow, nor a part of one.
func TestWhatFailsInsideIsAnInternalFault(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func() (generated.Reply, error){
		"an error":                    func() (generated.Reply, error) { return nil, errors.New("secret: /var/lib/biosv") },
		"an answer that lacks a part": func() (generated.Reply, error) { return &generated.GetPowerStateReply{}, nil },
		"an answer with a wrong value": func() (generated.Reply, error) {
			return &generated.GetPowerStateReply{PowerState: new(generated.PowerState("secret"))}, nil
		},
		"an answer that XML cannot hold": func() (generated.Reply, error) {
			return &generated.DiscardPendingAttributesReply{Discarded: []string{"secret\x00"}}, nil
		},
		"a fault that cannot be written": func() (generated.Reply, error) {
			return nil, &generated.LockedFault{Message: "secret", LockedUntil: xsdtypes.CreateXsdDateTime(time.Date(20000, 1, 1, 0, 0, 0, 0, time.UTC), true)}
		},
	} {
		var log bytes.Buffer
		h := open(t, &gate{answer: func(context.Context, generated.Call, generated.Request) (generated.Reply, error) { return do() }},
			func(c *soap.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		got := post(t, h.client(t, ""), h.url, asked(envelope.SOAP12, "", `<b:GetPowerState/>`), "Content-Type", "application/soap+xml")
		checkAnswer(t, got, envelope.SOAP12, hostile.Answer{Status: 500, Code: "Receiver", Fault: "InternalFault", Detail: "Internal"})
		if id := got.header.Get("X-Request-Id"); !strings.Contains(string(got.body), ">"+id+"</b:IncidentId>") || !strings.Contains(log.String(), id) {
			t.Errorf("%s: the id %s is not where one looks it up:\n%s\n%s", name, id, got.body, log.String())
		}
		if strings.Contains(string(got.body), "secret") {
			t.Errorf("%s is told: %s", name, got.body)
		}
	}
}

// A fault says which element is wrong, by which rule and on which line.
func TestFaultsSayWhere(t *testing.T) {
	t.Parallel()
	h := open(t, new(gate))
	client := h.client(t, "")
	for body, want := range map[string]string{
		"<b:GetAttributes>\n<b:Name/>\n<b:Name>&x;</b:Name></b:GetAttributes>":                      "<b:ElementPath>/Envelope/Body/GetAttributes/Name[2]</b:ElementPath><b:Line>3</b:Line><b:Rule>NotWellFormed</b:Rule>",
		"<b:SetAttributes>\n<b:Attribute>\n<b:Value/></b:Attribute></b:SetAttributes>":              "<b:ElementPath>/Envelope/Body/SetAttributes/Attribute</b:ElementPath><b:RefusedValue>&lt;b:Value&gt;</b:RefusedValue><b:Line>3</b:Line><b:Rule>cvc-complex-type.2.4.a</b:Rule>",
		"<b:GetEventLog><b:After>" + strings.Repeat("9", 300) + "</b:After></b:GetEventLog>":        "<b:ElementPath>/Envelope/Body/GetEventLog/After</b:ElementPath><b:RefusedValue>" + strings.Repeat("9", 255) + "…</b:RefusedValue><b:Line>1</b:Line><b:Rule>cvc-datatype-valid.1.2.1</b:Rule>",
		"<b:GetAttributes><b:Name" + strings.Repeat("e", 300) + "/></b:GetAttributes>":              "<b:ElementPath>/Envelope/Body/GetAttributes</b:ElementPath><b:LimitName>NameBytes</b:LimitName><b:LimitValue>256</b:LimitValue>",
		"<b:ResetSystem><b:ResetType>\t&lt;script&gt;</b:ResetType></b:ResetSystem><b:GetThermal/>": "<b:ElementPath>/Envelope/Body/ResetSystem/ResetType</b:ElementPath><b:RefusedValue>\t&lt;script&gt;</b:RefusedValue><b:Line>1</b:Line><b:Rule>cvc-enumeration-valid</b:Rule>",
	} {
		if got := post(t, client, h.url, asked(envelope.SOAP12, "", body), "Content-Type", "application/soap+xml"); !strings.Contains(string(got.body), want) {
			t.Errorf("%.80s:\n%s\nwant %s", body, got.body, want)
		}
	}
}

func TestFaultsOfSOAPItselfNameWhatIsSupported(t *testing.T) {
	t.Parallel()
	h := open(t, new(gate))
	client := h.client(t, "")
	for _, v := range bothVersions {
		got := post(t, client, h.url, `<x:Envelope xmlns:x="urn:x"/>`, "Content-Type", v.MediaType())
		doc := parse(t, got.body)
		if code, err := readFault(got.body, v); err != nil || code.Code != "VersionMismatch" || got.status != 500 {
			t.Errorf("SOAP %s: %+v, %v, %d", v, code, err, got.status)
		}
		var supported []string
		for _, e := range doc.FindElements("/Envelope/Header/Upgrade/SupportedEnvelope") {
			prefix, local, _ := strings.Cut(e.SelectAttrValue("qname", ""), ":")
			supported = append(supported, e.NamespaceURI()+" "+e.SelectAttrValue("xmlns:"+prefix, "")+" "+local)
		}
		want := []string{envelope.Namespace12 + " " + envelope.Namespace12 + " Envelope", envelope.Namespace12 + " " + envelope.Namespace11 + " Envelope"}
		if strings.Join(supported, "\n") != strings.Join(want, "\n") {
			t.Errorf("SOAP %s: Upgrade names %q", v, supported)
		}

		got = post(t, client, h.url, asked(v, `<p:One xmlns:p="urn:p" s:mustUnderstand="1"/><p:Two xmlns:p="urn:q"/><p:Three xmlns:p="urn:r" s:mustUnderstand="1"/>`, `<b:GetPowerState/>`), "Content-Type", v.MediaType())
		if code, err := readFault(got.body, v); err != nil || code.Code != "MustUnderstand" || got.status != 500 {
			t.Errorf("SOAP %s: %+v, %v, %d", v, code, err, got.status)
		}
		var not []string
		for _, e := range parse(t, got.body).FindElements("/Envelope/Header/NotUnderstood") {
			prefix, local, _ := strings.Cut(e.SelectAttrValue("qname", ""), ":")
			not = append(not, e.SelectAttrValue("xmlns:"+prefix, "")+" "+local)
		}
		if named := strings.Join(not, ", "); v == envelope.SOAP12 && named != "urn:p One, urn:r Three" || v == envelope.SOAP11 && named != "" {
			t.Errorf("SOAP %s: not understood are %s", v, named)
		}
	}
}

// Roles, mustUnderstand and what is refused of each, in both versions (SOAP 1.1 sections 4.2.2 and 4.2.3, SOAP 1.2
// sections 5.2.2 and 5.2.3).
func TestHeadersAreForWhomTheySay(t *testing.T) {
	t.Parallel()
	h := open(t, &gate{answer: state})
	client := h.client(t, "")
	const next11, role12 = "http://schemas.xmlsoap.org/soap/actor/next", envelope.Namespace12 + "/role/"
	for _, c := range []struct {
		v          envelope.Version
		attributes string
		code       string // empty: the request passes
	}{
		{envelope.SOAP11, ``, ""},
		{envelope.SOAP11, `s:mustUnderstand="0"`, ""},
		{envelope.SOAP11, `s:mustUnderstand="1"`, "MustUnderstand"},
		{envelope.SOAP11, `s:mustUnderstand="true"`, "Client"},
		{envelope.SOAP11, `s:mustUnderstand=""`, "Client"},
		{envelope.SOAP11, `mustUnderstand="1"`, ""}, // no attribute of SOAP
		{envelope.SOAP11, `s:mustUnderstand="1" s:actor=""`, "MustUnderstand"},
		{envelope.SOAP11, `s:mustUnderstand="1" s:actor="` + next11 + `"`, "MustUnderstand"},
		{envelope.SOAP11, `s:mustUnderstand="1" s:actor="urn:other"`, ""},
		{envelope.SOAP11, `s:mustUnderstand="1" s:actor="` + role12 + `next"`, ""},
		{envelope.SOAP11, `s:mustUnderstand="1" s:role="urn:other"`, "MustUnderstand"}, // SOAP 1.1 has actors
		{envelope.SOAP12, `s:mustUnderstand="false"`, ""},
		{envelope.SOAP12, `s:mustUnderstand="0"`, ""},
		{envelope.SOAP12, `s:mustUnderstand="true"`, "MustUnderstand"},
		{envelope.SOAP12, `s:mustUnderstand="1"`, "MustUnderstand"},
		{envelope.SOAP12, `s:mustUnderstand="TRUE"`, "Sender"},
		{envelope.SOAP12, `s:mustUnderstand="1" s:role="` + role12 + `next"`, "MustUnderstand"},
		{envelope.SOAP12, `s:mustUnderstand="1" s:role="` + role12 + `ultimateReceiver"`, "MustUnderstand"},
		{envelope.SOAP12, `s:mustUnderstand="1" s:role="` + role12 + `none"`, ""},
		{envelope.SOAP12, `s:mustUnderstand="1" s:role="` + next11 + `"`, ""},
		{envelope.SOAP12, `s:mustUnderstand="1" s:actor="urn:other"`, "MustUnderstand"}, // SOAP 1.2 has roles
	} {
		got := post(t, client, h.url, asked(c.v, `<x:h xmlns:x="urn:x" `+c.attributes+`/>`, `<b:GetPowerState/>`), "Content-Type", c.v.MediaType())
		var found hostile.Answer
		if got.status != http.StatusOK {
			var err error
			if found, err = readFault(got.body, c.v); err != nil {
				t.Fatal(err)
			}
		}
		if found.Code != c.code {
			t.Errorf("SOAP %s, %s: %q; want %q\n%s", c.v, c.attributes, found.Code, c.code, got.body)
		}
	}
}

func TestTheContractIsServed(t *testing.T) {
	t.Parallel()
	h := open(t, new(gate))
	public := open(t, new(gate), func(c *soap.Config) { c.PublicURL = "https://bios.example:9443/bios" })
	get := func(h *house, method, url string, header ...string) answer {
		t.Helper()
		request, err := http.NewRequest(method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			request.Header.Set(header[i], header[i+1])
		}
		if host := request.Header.Get("Host"); host != "" {
			request.Host = host
		}
		res, err := h.client(t, "").Do(request)
		if err != nil {
			t.Fatal(err)
		}
		got, err := readAnswer(res)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	at := func(address string) wsdl.Document {
		d, err := wsdl.At(address)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	for _, c := range []struct {
		name   string
		house  *house
		query  string
		header []string
		want   []byte
	}{
		{"the WSDL", h, "?wsdl", nil, at(h.url).WSDL},
		{"the WSDL, in capitals", h, "?WSDL", nil, at(h.url).WSDL},
		{"the WSDL, with a value", h, "?wsdl=1&x", nil, at(h.url).WSDL},
		{"the WSDL with a slash before", h, "/?wsdl", nil, at(h.url).WSDL},
		{"the WSDL at a domain's address", h, "/demo?wsdl", nil, at(h.url + "/demo").WSDL},
		{"the WSDL by another name of the host", h, "?wsdl", []string{"Host", "bios.example:1234"}, at("https://bios.example:1234/bios").WSDL},
		{"the WSDL behind a proxy that says so", h, "?wsdl", []string{"X-Forwarded-Host", "evil.invalid", "X-Forwarded-Proto", "http", "Forwarded", "host=evil.invalid"}, at(h.url).WSDL},
		{"the WSDL with a public address", public, "?wsdl", nil, at("https://bios.example:9443/bios").WSDL},
		{"the WSDL with a public address, at a domain's", public, "/demo?wsdl", []string{"Host", "other.example"}, at("https://bios.example:9443/bios/demo").WSDL},
		{"the schema", h, "?xsd=" + wsdl.SchemaName, nil, at(h.url).Schema},
		{"the schema at a domain's address", h, "/demo?xsd=" + wsdl.SchemaName, nil, at(h.url).Schema},
	} {
		got := get(c.house, http.MethodGet, c.house.url+c.query, c.header...)
		if got.status != http.StatusOK || got.header.Get("Content-Type") != "text/xml; charset=utf-8" || !bytes.Equal(got.body, c.want) {
			t.Errorf("%s: %d, %s, %d bytes; want %d", c.name, got.status, got.header.Get("Content-Type"), len(got.body), len(c.want))
		}
		head := get(c.house, http.MethodHead, c.house.url+c.query, c.header...)
		if head.status != http.StatusOK || len(head.body) > 0 || head.header.Get("Content-Length") != got.header.Get("Content-Length") || head.header.Get("Content-Length") == "" {
			t.Errorf("%s, HEAD: %d, %d bytes, length %q", c.name, head.status, len(head.body), head.header.Get("Content-Length"))
		}
	}
	// Every address in what is served is one that the client can follow.
	served := get(h, http.MethodGet, h.url+"/demo?wsdl")
	for _, m := range regexp.MustCompile(`[lL]ocation="([^"]*)"`).FindAllStringSubmatch(string(served.body), -1) {
		if !strings.HasPrefix(m[1], h.url+"/demo") {
			t.Errorf("the WSDL bears the address %s", m[1])
		}
		if _, query, ok := strings.Cut(m[1], "?"); ok && get(h, http.MethodGet, m[1]).status != http.StatusOK {
			t.Errorf("%s is not there", query)
		}
	}
	for path, status := range map[string]int{
		"": 200, "/demo": 200, "?x": 200, "?xsd=other.xsd": 404, "?xsd": 404, "/Demo?wsdl": 404, "/a/b?wsdl": 404, "/%00?wsdl": 404, "/%22?wsdl": 404, "?a;b": 404, "/demo/?wsdl": 404,
	} {
		got := get(h, http.MethodGet, h.url+path)
		if got.status != status || !strings.HasPrefix(got.header.Get("Content-Type"), "text/plain") {
			t.Errorf("GET %s: %d, %s\n%s", path, got.status, got.header.Get("Content-Type"), got.body)
		}
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, http.MethodTrace, "PROPFIND", "get"} {
		got := get(h, method, h.url+"?wsdl")
		if got.status != http.StatusMethodNotAllowed || got.header.Get("Allow") != "POST, GET, HEAD" {
			t.Errorf("%s: %d, Allow %q", method, got.status, got.header.Get("Allow"))
		}
	}
	if calls, _ := h.reached(); len(calls) > 0 {
		t.Error("reading the contract reached the gate")
	}
}

// How large a body may be is a matter of who sends it, whether it says its length or comes in chunks.
func TestBodiesAreBoundedByWhoSendsThem(t *testing.T) {
	t.Parallel()
	g := &gate{answer: state}
	h := open(t, g)
	// padded is a request of so many bytes; most of them are binary, for only those may be many.
	padded := func(n int) io.Reader {
		before, after, _ := strings.Cut(asked(envelope.SOAP11, "", `<b:RestoreState><b:Archive>@</b:Archive></b:RestoreState>`), "@")
		left := n - len(before) - len(after)
		return io.MultiReader(strings.NewReader(before), strings.NewReader(strings.Repeat(" ", left%4)), &io.LimitedReader{R: letters{}, N: int64(left - left%4)}, strings.NewReader(after))
	}
	for _, c := range []struct {
		id    string
		bytes int
		limit int // 0: it passes
	}{
		{"", soap.MostBytesUnidentified, 0},
		{"", soap.MostBytesUnidentified + 1, soap.MostBytesUnidentified},
		{domain + "web", soap.MostBytes, 0},
		{domain + "web", soap.MostBytes + 1, soap.MostBytes},
		{person + "ada", soap.MostBytes, 0},
		{person + "ada", soap.MostBytes + 1, soap.MostBytes},
		{person + "admin", soap.MostBytes + 1, 0},
		{person + "admin", soap.MostBytesAdmin, 0},
		{person + "admin", soap.MostBytesAdmin + 1, soap.MostBytesAdmin},
	} {
		for _, announced := range []bool{true, false} {
			request, err := http.NewRequest(http.MethodPost, h.url, padded(c.bytes))
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Content-Type", "text/xml")
			if announced {
				request.ContentLength = int64(c.bytes)
			}
			before, _ := g.reached()
			var got answer
			res, err := h.client(t, c.id).Do(request)
			if err == nil {
				got, err = readAnswer(res)
			}
			after, _ := g.reached()
			switch {
			case c.limit == 0 && (err != nil || got.status != http.StatusOK || len(after) == len(before)):
				t.Errorf("%s, %d bytes, announced %t: %v, %d %s", c.id, c.bytes, announced, err, got.status, got.body)
			case c.limit > 0 && len(after) > len(before):
				t.Errorf("%s, %d bytes, announced %t, reached the gate", c.id, c.bytes, announced)
			case c.limit > 0 && err == nil:
				checkAnswer(t, got, envelope.SOAP11, hostile.Answer{Status: 500, Code: "Client", Fault: "LimitExceededFault", Detail: "TooLarge"})
				if !strings.Contains(string(got.body), fmt.Sprintf("<b:LimitName>Bytes</b:LimitName><b:LimitValue>%d</b:LimitValue>", c.limit)) {
					t.Errorf("%s, %d bytes: %s", c.id, c.bytes, got.body)
				}
			}
		}
	}
}

// letters gives As without end.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	return len(p), nil
}

// onebyone gives what it reads a byte at a time.
type onebyone struct{ io.Reader }

func (r onebyone) Read(p []byte) (int, error) { return r.Reader.Read(p[:min(len(p), 1)]) }

func TestABodyMayComeInPieces(t *testing.T) {
	t.Parallel()
	h := open(t, &gate{answer: state})
	body := asked(envelope.SOAP12, "", `<b:GetPowerState/>`)
	for _, announced := range []bool{true, false} {
		request, err := http.NewRequest(http.MethodPost, h.url, onebyone{strings.NewReader(body)})
		if err != nil {
			t.Fatal(err)
		}
		if announced {
			request.ContentLength = int64(len(body))
		}
		request.Header.Set("Content-Type", "application/soap+xml")
		res, err := h.client(t, "").Do(request)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := readAnswer(res); err != nil || got.status != http.StatusOK {
			t.Errorf("announced %t: %v, %d %s", announced, err, got.status, got.body)
		}
	}
}

// A body of unknown length takes room for as much as it may have only until it is read.
func TestManySmallBodiesInChunksHaveRoom(t *testing.T) {
	t.Parallel()
	const many = 16
	var here atomic.Int32
	all := make(chan struct{})
	h := open(t, &gate{answer: func(ctx context.Context, call generated.Call, request generated.Request) (generated.Reply, error) {
		if here.Add(1) == many {
			close(all)
		}
		select {
		case <-all:
			return state(ctx, call, request)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	client := h.client(t, person+"ada")
	var clients sync.WaitGroup
	for range many {
		clients.Go(func() {
			got, err := tryPost(t.Context(), client, h.url, io.MultiReader(strings.NewReader(asked(envelope.SOAP11, "", `<b:GetPowerState/>`))), "Content-Type", "text/xml")
			if err != nil || got.status != http.StatusOK {
				t.Errorf("%v, %d %s", err, got.status, got.body)
			}
		})
	}
	clients.Wait()
}

// A role that cannot be read lets no large body in.
func TestARoleThatCannotBeReadLetsNothingLargeIn(t *testing.T) {
	t.Parallel()
	g := &gate{answer: state}
	h := open(t, g, func(c *soap.Config) {
		c.Role = func(context.Context, string) (security.Role, error) {
			return security.Admin, errors.New("the disk is gone")
		}
	})
	for _, announced := range []bool{true, false} {
		body := io.Reader(strings.NewReader(strings.Repeat(" ", soap.MostBytes+1)))
		if !announced {
			body = io.MultiReader(body)
		}
		got, err := tryPost(t.Context(), h.client(t, person+"admin"), h.url, body, "Content-Type", "text/xml")
		if err != nil {
			t.Fatal(err)
		}
		checkAnswer(t, got, envelope.SOAP11, hostile.Answer{Status: 500, Code: "Server", Fault: "InternalFault", Detail: "Internal"})
	}
	if calls, _ := g.reached(); len(calls) > 0 {
		t.Error("it reached the gate")
	}
}

// A request without TLS is a stranger's.
func TestADoorWithoutTLSKnowsNobody(t *testing.T) {
	t.Parallel()
	g := &gate{answer: state}
	h := open(t, g)
	door := soap.New(settings(g, h.root.Certificate))
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/bios", strings.NewReader(asked(envelope.SOAP11, "", `<b:GetPowerState/>`)))
	r.Header.Set("Content-Type", "text/xml")
	door.ServeHTTP(w, r)
	calls, _ := g.reached()
	if len(calls) != 1 || calls[0].Principal.Kind() != security.Unidentified || calls[0].Channel.LeafSHA256 != "" {
		t.Errorf("%+v, %s", calls, w.Body)
	}
}

func TestARequestHasATime(t *testing.T) {
	t.Parallel()
	h := open(t, &gate{answer: func(ctx context.Context, _ generated.Call, _ generated.Request) (generated.Reply, error) {
		if end, ok := ctx.Deadline(); !ok || time.Until(end) > time.Minute {
			t.Errorf("it ends at %s", end)
		}
		return nil, context.DeadlineExceeded
	}})
	got := post(t, h.client(t, ""), h.url, asked(envelope.SOAP12, "", `<b:GetPowerState/>`), "Content-Type", "application/soap+xml")
	checkAnswer(t, got, envelope.SOAP12, hostile.Answer{Status: 500, Code: "Receiver", Fault: "UnavailableFault", Detail: "TimedOut"})
}
