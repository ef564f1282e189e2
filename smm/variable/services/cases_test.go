package services_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
)

// TestCases runs testdata/cases.txt. After a refused call nothing may be otherwise than before, and what is refused
// says why.
func TestCases(t *testing.T) {
	t.Parallel()
	cases := readCases(t)
	if len(cases) < 80 {
		t.Errorf("there are %d cases; at least 80 are wanted", len(cases))
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m := begun(t, c.mode)
			for _, s := range c.steps {
				before := maps.Clone(m.memory)
				got := s.ask(m)
				if got.status != s.want.status || s.valued && got.value != s.want.value {
					t.Fatalf("cases.txt:%d: %s: it gave %s: %v\nby %s", s.line, s.text, got, got.err, c.where)
				}
				var e *efi.Error
				if got.err != nil && (!errors.As(got.err, &e) || e.Reason == "") {
					t.Fatalf("cases.txt:%d: %s: it gave no reason", s.line, s.text)
				}
				if got.err != nil && !maps.EqualFunc(before, m.memory, same) {
					t.Fatalf("cases.txt:%d: %s: it was refused, and changed something", s.line, s.text)
				}
			}
		})
	}
}

// testCase is a case of testdata/cases.txt.
type testCase struct {
	name, mode, where string
	steps             []testStep
}

// testStep is one call.
type testStep struct {
	line       int
	text       string
	call       string
	key        services.Key
	attributes efi.Attributes
	data       []byte
	want       answer
	valued     bool // want says a value
}

// answer is what a call gives: its status, and a value in words.
type answer struct {
	status efi.Status
	value  string
	err    error // whose status it is
}

func (a answer) String() string {
	s := strings.TrimPrefix(a.status.String(), "EFI_")
	if a.value != "" {
		s += " " + a.value
	}
	return s
}

// subject is what is asked.
type subject interface {
	SetVariable(services.Key, efi.Attributes, []byte) error
	GetVariable(services.Key) (services.Variable, error)
	GetNextVariableName(services.Key) (services.Key, error)
	QueryVariableInfo(efi.Attributes) (services.Info, error)
	runtime()
	start() error
}

// ask makes the call of a step.
func (s testStep) ask(x subject) (a answer) {
	switch s.call {
	case "set":
		a.err = x.SetVariable(s.key, s.attributes, s.data)
	case "get":
		var v services.Variable
		if v, a.err = x.GetVariable(s.key); a.err == nil {
			a.value = inWords(v.Data)
		}
	case "next":
		var k services.Key
		if k, a.err = x.GetNextVariableName(s.key); a.err == nil {
			a.value = k.String()
		}
	case "query":
		_, a.err = x.QueryVariableInfo(s.attributes)
	case "runtime":
		x.runtime()
	case "start":
		a.err = x.start()
	}
	a.status = efi.StatusOf(a.err)
	return a
}

// inWords is a value, short.
func inWords(b []byte) string {
	if len(b) <= 16 {
		return fmt.Sprintf("hex:%x", b)
	}
	return fmt.Sprintf("%d bytes, SHA-256 %.8x", len(b), sha256.Sum256(b))
}

func readCases(t *testing.T) (cases []testCase) {
	t.Helper()
	b, err := os.ReadFile("testdata/cases.txt")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	for i, line := range strings.Split(string(b), "\n") {
		switch head, ok := strings.CutPrefix(line, "case "); {
		case ok:
			parts := strings.SplitN(head, " | ", 3)
			if len(parts) != 3 || names[parts[0]] {
				t.Fatalf("cases.txt:%d: a case has a name of its own, a mode and a citation", i+1)
			}
			names[parts[0]] = true
			cases = append(cases, testCase{name: parts[0], mode: parts[1], where: parts[2]})
		case strings.HasPrefix(line, "  "):
			c := &cases[len(cases)-1]
			s, err := readStep(strings.TrimSpace(line))
			if err != nil {
				t.Fatalf("cases.txt:%d: %v", i+1, err)
			}
			s.line = i + 1
			c.steps = append(c.steps, s)
		case line != "" && line[0] != '#':
			t.Fatalf("cases.txt:%d: %q is nothing", i+1, line)
		}
	}
	return cases
}

func readStep(text string) (s testStep, err error) {
	f := strings.Fields(text)
	s.text, s.call = text, f[0]
	var status string
	switch {
	case s.call == "set" && len(f) == 5:
		s.key, status = key(f[1]), f[4]
		if s.attributes, err = attributes(f[2]); err == nil {
			s.data, err = value(f[3])
		}
	case s.call == "get" && (len(f) == 3 || len(f) == 4):
		s.key, status = key(f[1]), f[2]
		if s.valued = len(f) == 4; s.valued {
			var b []byte
			b, err = value(f[3])
			s.want.value = inWords(b)
		}
	case s.call == "next" && (len(f) == 3 || len(f) == 4):
		s.key, status = key(f[1]), f[2]
		if s.valued = len(f) == 4; s.valued {
			s.want.value = key(f[3]).String()
		}
	case s.call == "query" && len(f) == 3:
		status = f[2]
		s.attributes, err = attributes(f[1])
	case (s.call == "runtime" || s.call == "start") && len(f) == 1:
		return s, nil
	default:
		return s, fmt.Errorf("%q is no step", text)
	}
	var ok bool
	if s.want.status, ok = efi.ParseStatus("EFI_" + status); !ok {
		return s, fmt.Errorf("%q is no status", status)
	}
	return s, err
}

// machine is a machine of ours.
type machine struct {
	services.Services
	memory services.Memory
}

func (m *machine) runtime() { m.Phase = services.Runtime }

func (m *machine) start() error {
	m.Phase = services.Boot
	return m.Start()
}

// begun is a machine in a mode.
func begun(t *testing.T, mode string) *machine {
	t.Helper()
	m := &machine{memory: services.Memory{}}
	m.Services = services.Services{State: m.memory, Phase: services.Boot, Limits: services.TestLimits}
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	for _, s := range beginning(t, mode) {
		if got := s.ask(m); got.status != s.want.status {
			t.Fatalf("%s: %v", s.text, got.err)
		}
	}
	return m
}

// beginning are the steps that lead to a mode; each mode begins with those of user mode, and setup mode has none.
func beginning(t *testing.T, mode string) (steps []testStep) {
	t.Helper()
	user := []string{"set KEK all pk-KEK-keks-2020.auth SUCCESS", "set db all kek-db-db1-2020.auth SUCCESS", "set PK all pk-PK-pk-2020.auth SUCCESS", "start"}
	texts, ok := map[string][]string{
		"setup": nil, "user": user,
		"audit":    append(user[:4:4], "set AuditMode BS,RT hex:01 SUCCESS", "start"),
		"deployed": append(user[:4:4], "set DeployedMode BS,RT hex:01 SUCCESS"),
	}[mode]
	if !ok {
		t.Fatalf("%q is no mode", mode)
	}
	for _, text := range texts {
		s, err := readStep(text)
		if err != nil {
			t.Fatal(err)
		}
		steps = append(steps, s)
	}
	return steps
}

func same(a, b services.Variable) bool {
	return a.Attributes == b.Attributes && a.TimeStamp == b.TimeStamp && bytes.Equal(a.Data, b.Data)
}

func key(s string) services.Key {
	name, vendor, ok := strings.Cut(s, "@")
	k := services.Key{Vendor: efi.GlobalVariable, Name: name}
	switch {
	case vendor == "v":
		k.Vendor = efi.MustGUID("5e3f2d1c-8b7a-4f6e-9d5c-1a2b3c4d5e6f")
	case ok:
		k.Vendor = efi.MustGUID(vendor)
	case name == "db" || name == "dbx" || name == "dbt" || name == "dbr":
		k.Vendor = efi.ImageSecurityDatabase
	}
	return k
}

var attributeBits = map[string]efi.Attributes{
	"-": 0, "NV": efi.NonVolatile, "BS": efi.BootServiceAccess, "RT": efi.RuntimeAccess, "HR": efi.HardwareErrorRecord, "AW": efi.Reserved10,
	"AT": efi.TimeBasedAuthenticated, "AP": efi.AppendWrite, "EA": efi.EnhancedAuthenticated, "all": 0x27, "0x100": 0x100,
}

func attributes(s string) (a efi.Attributes, err error) {
	for _, one := range strings.Split(s, ",") {
		bit, ok := attributeBits[one]
		if !ok {
			return 0, fmt.Errorf("%q is no attribute", one)
		}
		a |= bit
	}
	return a, nil
}

func value(s string) ([]byte, error) {
	if s == "-" {
		return nil, nil
	}
	if h, ok := strings.CutPrefix(s, "hex:"); ok {
		return hex.DecodeString(h)
	}
	if n, ok := strings.CutPrefix(s, "zeros:"); ok {
		n, err := strconv.Atoi(n)
		return make([]byte, n), err
	}
	at := strings.IndexAny(s+"@", "#@")
	b, err := os.ReadFile(filepath.Join("testdata", "vectors", s[:at]))
	for s = s[at:]; err == nil && s != ""; {
		end := 1 + strings.IndexAny(s[1:]+"@", "#@")
		op := s[:end]
		s = s[end:]
		n, with, _ := strings.Cut(op[1:], "=")
		i, err := strconv.Atoi(n)
		if err != nil || i >= len(b) {
			return nil, fmt.Errorf("%q: the file has %d bytes", op, len(b))
		}
		if op[0] == '#' {
			b = b[:i]
			continue
		}
		c, err := strconv.ParseUint(with, 16, 8)
		if err != nil || b[i] == byte(c) {
			return nil, fmt.Errorf("%q: byte %d is %02x", op, i, b[i])
		}
		b[i] = byte(c)
	}
	return b, err
}
