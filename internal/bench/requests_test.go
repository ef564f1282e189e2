//go:build bench

package bench

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"biosv/envelope"
	"biosv/envelope/xmltext"
	"biosv/generated"
	"biosv/internal/testbed"
)

var (
	rounds  = flag.Int("rounds", 7, "how often each case has its turn")
	turn    = flag.Duration("time", 2*time.Second, "how long a turn lasts")
	only    = flag.String("cases", "", "measure only the cases whose name matches this regular expression")
	program = flag.String("program", "", "measure this biosv instead of one that is built now")
)

const (
	connections = 8
	changed     = 20 // attributes that SetAttributes changes at once
)

func TestMain(m *testing.M) {
	if os.Getenv(peerVariable) != "" {
		if err := servePeer(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// measurement is what one turn of a case showed.
type measurement struct {
	requests int
	cpu      time.Duration // of the server process
	elapsed  time.Duration
	mallocs  uint64 // of the server process; 0 where it does not tell
	bytes    uint64
}

// testCase is a kind of request, of a server.
type testCase struct {
	name    string
	pid     int
	loader  *loader
	metrics string // address of the server's metrics; empty where it has none
	turns   []measurement
}

func TestRequests(t *testing.T) {
	if *program == "" {
		*program = testbed.Program(t) // built on all cores
	}
	serverCore, loaderCore := cores(t)
	var service *testbed.Service
	on(t, serverCore, func() { service = testbed.Start(t, testbed.Options{Program: *program}) })

	port := service.Admin(t)
	registry, err := port.GetAttributeRegistry(t.Context(), testbed.At("demo"), &generated.GetAttributeRegistryRequest{})
	if err != nil {
		t.Fatal(err)
	}
	one := post(service.URL, "demo", &generated.GetAttributesRequest{Name: []string{registry.Definition[0].Name}})
	all := post(service.URL, "demo", &generated.GetAttributesRequest{})
	oneAnswer, oneSize := answer(t, service, one)
	allAnswer, allSize := answer(t, service, all)
	if oneSize != 1 || allSize < 2 {
		t.Fatalf("GetAttributes gave %d attributes where one was asked for, and %d where all were", oneSize, allSize)
	}
	var machines []machine
	for c := range connections {
		machines = append(machines, newMachine(t, port, service.URL, fmt.Sprintf("bench%d", c)))
	}
	var peer *peerServer
	on(t, serverCore, func() { peer = startPeer(t, oneAnswer, allAnswer) })

	pinSelf(t, loaderCore)
	metrics := metricsAddress(t, service)
	identity := service.Identity(t)
	load := func(url, root string, requests func(connection int) [][]byte) *loader {
		return newLoader(t, url, root, identity, requests)
	}
	same := func(request []byte) func(int) [][]byte { return func(int) [][]byte { return [][]byte{request} } }
	set := load(service.URL, service.RootFile(), func(c int) [][]byte { return machines[c].requests[:] })
	cases := []*testCase{
		{name: "GetAttributes, 1", pid: service.PID, metrics: metrics, loader: load(service.URL, service.RootFile(), same(one))},
		{name: "  net/http, the same bytes", pid: peer.pid, loader: load(peer.url, peer.root, same(get(peer.url, "/one", one)))},
		{name: fmt.Sprintf("GetAttributes, all %d", allSize), pid: service.PID, metrics: metrics, loader: load(service.URL, service.RootFile(), same(all))},
		{name: "  net/http, the same bytes", pid: peer.pid, loader: load(peer.url, peer.root, same(get(peer.url, "/all", all)))},
		{name: fmt.Sprintf("SetAttributes, %d", changed), pid: service.PID, metrics: metrics, loader: set},
	}
	wanted, err := regexp.Compile(*only)
	if err != nil {
		t.Fatal(err)
	}
	cases = slices.DeleteFunc(cases, func(c *testCase) bool { return !wanted.MatchString(c.name) })
	for round := range *rounds + 1 {
		for _, c := range cases {
			m := c.measure(t)
			if round > 0 { // the first one warms up
				c.turns = append(c.turns, m)
			}
		}
	}

	// Every SetAttributes was a change of state: each raised its domain's version.
	for i, d := range machines {
		sent := set.connections[i].sent
		if got := version(t, port, d.name); got != d.version+generated.StateVersion(sent) {
			t.Errorf("%s: %d requests raised the version from %d to %d", d.name, sent, d.version, got)
		}
	}
	report(t, cases, service.PID, peer.pid, machines[0].immediate)
}

// measure lets a case have its turn.
func (c *testCase) measure(t *testing.T) measurement {
	t.Helper()
	mallocs, bytes := c.allocations(t)
	cpu, start := cpuTime(t, c.pid), time.Now()
	n, err := c.loader.run(*turn)
	m := measurement{requests: n, elapsed: time.Since(start), cpu: cpuTime(t, c.pid) - cpu}
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	afterMallocs, afterBytes := c.allocations(t)
	m.mallocs, m.bytes = afterMallocs-mallocs, afterBytes-bytes
	return m
}

var gauge = regexp.MustCompile(`(?m)^(go_memstats_mallocs_total|go_memstats_alloc_bytes_total) (\S+)$`)

func (c *testCase) allocations(t *testing.T) (mallocs, bytes uint64) {
	t.Helper()
	if c.metrics == "" {
		return 0, 0
	}
	answer, err := http.Get(c.metrics + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range gauge.FindAllSubmatch(text, -1) {
		v, err := strconv.ParseFloat(string(m[2]), 64)
		if err != nil {
			t.Fatal(err)
		}
		if string(m[1]) == "go_memstats_mallocs_total" {
			mallocs = uint64(v)
		} else {
			bytes = uint64(v)
		}
	}
	return mallocs, bytes
}

func metricsAddress(t *testing.T, s *testbed.Service) string {
	t.Helper()
	m := regexp.MustCompile(`address=(http://\S+)`).FindStringSubmatch(s.Log())
	if m == nil {
		t.Fatal("the service does not log where its metrics are")
	}
	return m[1]
}

// post is a whole HTTP request over SOAP 1.2.
func post(url, domain string, request generated.Request) []byte {
	w := xmltext.NewWriter()
	defer w.Release()
	envelope.Begin(w, envelope.SOAP12, nil)
	generated.Encode(w, request)
	envelope.End(w)
	host, path, _ := strings.Cut(strings.TrimPrefix(url, "https://"), "/")
	return fmt.Appendf(nil, "POST /%s/%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/soap+xml; charset=utf-8; action=%q\r\nContent-Length: %d\r\n\r\n%s",
		path, domain, host, request.Operation().Action, len(w.Bytes()), w.Bytes())
}

// get is a request as another one, to another server and path.
func get(url, path string, request []byte) []byte {
	_, rest, _ := bytes.Cut(request, []byte("\r\n"))
	_, rest, _ = bytes.Cut(rest, []byte("\r\n"))
	return append(fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\n", path, strings.TrimPrefix(url, "https://")), rest...)
}

// answer sends a request once, and gives the answer's body and how many attributes are in it.
func answer(t *testing.T, s *testbed.Service, request []byte) (body []byte, attributes int) {
	t.Helper()
	l := newLoader(t, s.URL, s.RootFile(), s.Identity(t), func(int) [][]byte { return [][]byte{request} })
	body, err := l.connections[0].once()
	if err != nil {
		t.Fatal(err)
	}
	r := xmltext.NewReader(body, xmltext.DefaultLimits)
	defer r.Release()
	e, err := envelope.Read(r)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := generated.DecodeReply(r, (*generated.GetAttributesRequest)(nil).Operation())
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Finish(r); err != nil {
		t.Fatal(err)
	}
	return body, len(reply.(*generated.GetAttributesReply).Attribute)
}

// machine is a simulated domain whose settings are changed to and fro.
type machine struct {
	name      string
	requests  [2][]byte // differ in every value: in turn, each changes all attributes that it names
	immediate int       // how many of them are changed at once; the others become pending
	version   generated.StateVersion
}

// newMachine makes a domain whose state is what the second request asks for.
func newMachine(t *testing.T, port generated.Port, url, name string) machine {
	t.Helper()
	if _, err := port.CreateDomain(t.Context(), testbed.At(""), &generated.CreateDomainRequest{
		Name: new(generated.DomainName(name)), DomainKind: new(generated.DomainKindSimulated),
	}); err != nil {
		t.Fatal(err)
	}
	registry, err := port.GetAttributeRegistry(t.Context(), testbed.At(name), &generated.GetAttributeRegistryRequest{})
	if err != nil {
		t.Fatal(err)
	}
	slices.SortStableFunc(registry.Definition, func(a, b *generated.AttributeDefinition) int { return order(a) - order(b) })
	unfit := map[string]bool{} // what depends on another attribute of the request
	for {
		d := machine{name: name}
		var requests [2]generated.SetAttributesRequest
		for _, definition := range registry.Definition {
			values, ok := twoValues(definition)
			if !ok || unfit[definition.Name] || len(requests[0].Attribute) == changed {
				continue
			}
			if !definition.ResetRequired {
				d.immediate++
			}
			for i := range requests {
				requests[i].Attribute = append(requests[i].Attribute, &generated.AttributeValue{Name: definition.Name, NewValue: values[i]})
			}
		}
		if n := len(requests[0].Attribute); n < changed {
			t.Fatalf("of the attributes of %s only %d can be changed to and fro", name, n)
		}
		var refused *generated.InvalidAttributeFault
		for i := range requests {
			d.requests[i] = post(url, name, &requests[i])
			_, err := port.SetAttributes(t.Context(), testbed.At(name), &requests[i])
			if errors.As(err, &refused) {
				for _, r := range refused.Refusal {
					unfit[r.Name] = true
				}
				break
			} else if err != nil {
				t.Fatal(err)
			}
		}
		if refused == nil {
			d.version = version(t, port, name)
			return d
		}
	}
}

func version(t *testing.T, port generated.Port, domain string) generated.StateVersion {
	t.Helper()
	reply, err := port.GetAttributes(t.Context(), testbed.At(domain), &generated.GetAttributesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return *reply.Version
}

// order puts what is changed at once first.
func order(d *generated.AttributeDefinition) int {
	if d.ResetRequired {
		return 1
	}
	return 0
}

// twoValues gives two values that an attribute may have.
func twoValues(d *generated.AttributeDefinition) (pair [2][]string, ok bool) {
	if d.ReadOnly || d.Immutable {
		return pair, false
	}
	var values [][]string
	switch *d.AttributeKind {
	case generated.AttributeKindBoolean:
		values = [][]string{{"true"}, {"false"}}
	case generated.AttributeKindEnumeration:
		if n := len(d.PossibleValue); n > 1 {
			values = [][]string{{d.PossibleValue[0].ValueName}, {d.PossibleValue[n-1].ValueName}}
		}
	case generated.AttributeKindInteger:
		step := int64(1)
		if d.ScalarIncrement != nil {
			step = int64(*d.ScalarIncrement)
		}
		for i := range int64(3) {
			values = append(values, []string{strconv.FormatInt(int64(*d.LowerBound)+i*step, 10)})
		}
	case generated.AttributeKindString:
		values = [][]string{{"rack-7"}, {"rack-8"}}
		if d.ValueExpression != "" && !regexp.MustCompile(`^(`+d.ValueExpression+`)$`).MatchString("rack-7") {
			return pair, false
		}
	case generated.AttributeKindOrderedList:
		turned := slices.Clone(d.DefaultValue)
		slices.Reverse(turned)
		values = [][]string{turned, append(slices.Clone(turned[1:]), turned[0])}
	default:
		return pair, false
	}
	n := copy(pair[:], values)
	return pair, n == 2
}
