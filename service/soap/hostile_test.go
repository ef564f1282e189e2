package soap_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/beevik/etree"

	"biosv/envelope"
	"biosv/internal/guest"
	"biosv/service/soap"
	"biosv/testdata/hostile"
	"biosv/wsdl"
)

func corpus(t testing.TB) []hostile.Attack {
	t.Helper()
	all, err := hostile.Corpus()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// mostAnswer bounds the answer to an attack: none is made to answer at length.
const mostAnswer = 32 << 10

// Every attack is answered with the fault that README.md says, or with a closed connection; nothing reaches the
// gate; and what is answered is what the schemas of SOAP and of the contract allow, as libxml2 reads them.
func TestNothingHostileReachesTheGate(t *testing.T) {
	t.Parallel()
	h := open(t, new(gate))
	dir := t.TempDir()
	for _, id := range []string{"", person + "admin"} {
		peer := map[string]string{"": "stranger"}[id]
		if peer == "" {
			peer = "admin"
		}
		client, config := h.client(t, id), h.config(t, id)
		for _, a := range corpus(t) {
			t.Run(peer+"/"+a.Name, func(t *testing.T) {
				request := a.Bytes()
				want := a.Answer
				if id == "" {
					want = a.Stranger(len(request), soap.MostBytesUnidentified)
				}
				answer, err := send(client, config, h.url, a, request)
				if err != nil {
					if len(request) <= soap.MostBytesUnidentified {
						t.Fatalf("the connection was closed: %v", err)
					}
					t.Logf("the connection was closed: %v", err)
					return
				}
				checkAnswer(t, answer, a.As, want)
				if want.Code != "" && !t.Failed() {
					keep(t, filepath.Join(dir, peer+"-"+a.Name+".xml"), answer.body)
				}
			})
		}
	}
	if calls, requests := h.reached(); len(calls) > 0 {
		t.Errorf("%d requests reached the gate; the first is %#v", len(calls), requests[0])
	}
	lint(t, dir)
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

// send sends an attack and reads its answer.
func send(client *http.Client, config *tls.Config, address string, a hostile.Attack, request []byte) (answer, error) {
	if a.HTTP {
		return sendBytes(config, address, request)
	}
	post, err := http.NewRequest(http.MethodPost, address, bytes.NewReader(request))
	if err != nil {
		return answer{}, err
	}
	post.Header.Set("Content-Type", a.As.MediaType()+"; charset=utf-8")
	res, err := client.Do(post)
	if err != nil {
		return answer{}, err
	}
	return readAnswer(res)
}

// sendBytes sends the bytes of an HTTP request as they are.
func sendBytes(config *tls.Config, address string, request []byte) (answer, error) {
	u, err := url.Parse(address)
	if err != nil {
		return answer{}, err
	}
	conn, err := tls.Dial("tcp", u.Host, config)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return answer{}, err
	}
	_, wrote := conn.Write(request)
	if wrote == nil {
		wrote = conn.CloseWrite()
	}
	for in := bufio.NewReader(conn); ; {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return answer{}, fmt.Errorf("%w (written: %v)", err, wrote)
		}
		if res.StatusCode != http.StatusContinue {
			return readAnswer(res)
		}
	}
}

func readAnswer(res *http.Response) (answer, error) {
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, res.Header, body}, err
}

// checkAnswer reads an answer with a reader that is not ours.
func checkAnswer(t *testing.T, got answer, v envelope.Version, want hostile.Answer) {
	t.Helper()
	if got.status != want.Status {
		t.Errorf("status %d; want %d\n%s", got.status, want.Status, got.body)
	}
	if len(got.body) > mostAnswer {
		t.Errorf("the answer has %d bytes", len(got.body))
	}
	media := got.header.Get("Content-Type")
	if want.Code == "" {
		if !strings.HasPrefix(media, "text/plain") {
			t.Errorf("media type %q of an answer that is no envelope", media)
		}
		return
	}
	if media != v.MediaType()+"; charset=utf-8" {
		t.Errorf("media type %q; want that of SOAP %s", media, v)
	}
	if got.header.Get("X-Request-Id") == "" {
		t.Error("the answer has no X-Request-Id")
	}
	found, err := readFault(got.body, v)
	if err != nil {
		t.Fatalf("%v\n%s", err, got.body)
	}
	if want.Rule == "" {
		found.Rule = ""
	}
	found.Status = want.Status
	if found != want {
		t.Errorf("answered %+v; want %+v\n%s", found, want, got.body)
	}
}

// readFault reads a fault in an envelope of a version.
func readFault(body []byte, v envelope.Version) (hostile.Answer, error) {
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(body); err != nil {
		return hostile.Answer{}, err
	}
	if space := doc.Root().NamespaceURI(); space != v.Namespace() {
		return hostile.Answer{}, fmt.Errorf("an envelope of %q; want SOAP %s", space, v)
	}
	code, reason, details := "/Envelope/Body/Fault/faultcode", "/Envelope/Body/Fault/faultstring", "/Envelope/Body/Fault/detail/*"
	if v == envelope.SOAP12 {
		code, reason, details = "/Envelope/Body/Fault/Code/Value", "/Envelope/Body/Fault/Reason/Text", "/Envelope/Body/Fault/Detail/*"
	}
	text := func(e *etree.Element) string {
		if e == nil {
			return ""
		}
		return e.Text()
	}
	if text(doc.FindElement(reason)) == "" {
		return hostile.Answer{}, fmt.Errorf("there is no %s", reason)
	}
	var a hostile.Answer
	a.Code = strings.TrimPrefix(text(doc.FindElement(code)), "s:")
	if detail := doc.FindElement(details); detail != nil {
		a.Fault, a.Detail = detail.Tag, text(detail.SelectElement("Code"))
		a.Rule = text(detail.SelectElement("Rule")) + text(detail.SelectElement("LimitName"))
	}
	return a, nil
}

func keep(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// lint has libxml2 read the answers in a folder against the schemas of SOAP and of the contract.
func lint(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.xml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no answers (%v)", err)
	}
	d, err := wsdl.Published()
	if err != nil {
		t.Fatal(err)
	}
	keep(t, filepath.Join(dir, wsdl.SchemaName), d.Schema)
	// The schemas are those that answers to other makers' clients are judged by, of which every fault has a detail. Here
	// are faults about headers too, which have none, and the header blocks of SOAP 1.2 that go with them.
	more := strings.NewReplacer(
		`<xs:element name="detail" form="unqualified">`, `<xs:element name="detail" form="unqualified" minOccurs="0">`,
		`<xs:element name="Detail">`, `<xs:element name="Detail" minOccurs="0">`,
		`<xs:any namespace="##other"`, `<xs:any namespace="##any"`,
	)
	for _, name := range []string{"answers.xsd", "soap11.xsd", "soap12.xsd"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "interop", "xsd", name))
		if err != nil {
			t.Fatal(err)
		}
		keep(t, filepath.Join(dir, name), []byte(more.Replace(string(text))))
	}
	out, err := exec.Command(guest.Tool(t, "xmllint"), append([]string{"--noout", "--nonet", "--schema", filepath.Join(dir, "answers.xsd")}, files...)...).CombinedOutput()
	if err == nil {
		return
	}
	var wrong []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasSuffix(strings.TrimSpace(line), "validates") {
			wrong = append(wrong, line)
		}
	}
	t.Errorf("xmllint: %v\n%s", err, strings.Join(wrong[:min(len(wrong), 20)], ""))
}

// A request that is cut at any of its bytes is told to be cut.
func TestARequestCutAnywhereIsRefused(t *testing.T) {
	t.Parallel()
	h := open(t, new(gate))
	client := h.client(t, person+"admin")
	const request = `<?xml version="1.0" encoding="UTF-8"?><!-- a --><s:Envelope xmlns:s='http://schemas.xmlsoap.org/soap/envelope/'><s:Header><x:a xmlns:x="urn:x">b<x:c/></x:a></s:Header>` +
		`<s:Body><b:GetAttributes xmlns:b="urn:biosv:bios:v1"><b:Name>A<![CDATA[<B>]]><!-- c --></b:Name ></b:GetAttributes></s:Body></s:Envelope>`
	a := hostile.Attack{As: envelope.SOAP11}
	want := hostile.Answer{Status: http.StatusInternalServerError, Code: "Client", Fault: "InvalidRequestFault", Detail: "MalformedXml", Rule: "Truncated"}
	for i := range len(request) {
		answer, err := send(client, nil, h.url, a, []byte(request[:i]))
		if err != nil {
			t.Fatal(err)
		}
		want := want
		if declaration := len("<?xml "); i >= len("<?") && i < declaration {
			want.Rule = "ProcessingInstruction" // it may still become one
		}
		checkAnswer(t, answer, a.As, want)
		if t.Failed() {
			t.Fatalf("cut at byte %d: %s", i, request[:i])
		}
	}
	if calls, _ := h.reached(); len(calls) > 0 {
		t.Error("a request that was cut reached the gate")
	}
}
