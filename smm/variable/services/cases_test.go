package services

import (
	"bytes"
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
			m := &machine{memory: memory{}, t: t}
			m.Services = Services{State: m.memory, Phase: Boot, Limits: testLimits}
			m.begin(c.mode)
			for _, s := range c.steps {
				if err := m.step(s.fields); err != nil {
					t.Fatalf("cases.txt:%d: %s: %v\nby %s", s.line, strings.Join(s.fields, " "), err, c.where)
				}
			}
		})
	}
}

type testCase struct {
	name, mode, where string
	steps             []testStep
}

type testStep struct {
	line   int
	fields []string
}

func readCases(t *testing.T) (cases []testCase) {
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
			c.steps = append(c.steps, testStep{i + 1, strings.Fields(line)})
		case line != "" && line[0] != '#':
			t.Fatalf("cases.txt:%d: %q is nothing", i+1, line)
		}
	}
	return cases
}

// machine is what a case runs on.
type machine struct {
	Services
	memory memory
	t      *testing.T
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) begin(mode string) {
	m.t.Helper()
	m.must(m.Start())
	if mode != "setup" {
		for _, s := range []string{"KEK pk-KEK-keks-2020.auth", "db kek-db-db1-2020.auth", "PK pk-PK-pk-2020.auth"} {
			f := strings.Fields(s)
			m.must(m.step([]string{"set", f[0], "all", f[1], "SUCCESS"}))
		}
		m.must(m.Start())
	}
	switch mode {
	case "setup", "user":
	case "audit":
		m.must(m.step([]string{"set", "AuditMode", "BS,RT", "hex:01", "SUCCESS"}))
		m.must(m.Start())
	case "deployed":
		m.must(m.step([]string{"set", "DeployedMode", "BS,RT", "hex:01", "SUCCESS"}))
	default:
		m.t.Fatalf("%q is no mode", mode)
	}
}

func (m *machine) step(f []string) error {
	switch {
	case f[0] == "set" && len(f) == 5:
		a, err := attributes(f[2])
		if err != nil {
			return err
		}
		data, err := value(f[3])
		if err != nil {
			return err
		}
		before := maps.Clone(m.memory)
		err = m.SetVariable(key(f[1]), a, data)
		if err != nil && !maps.EqualFunc(before, m.memory, same) {
			return errors.New("it was refused, and changed something")
		}
		return status(err, f[4])
	case f[0] == "get" && len(f) >= 3:
		v, err := m.GetVariable(key(f[1]))
		if err := status(err, f[2]); err != nil || len(f) < 4 {
			return err
		}
		want, err := value(f[3])
		if err == nil && !bytes.Equal(v.Data, want) {
			err = fmt.Errorf("the value is %x", v.Data)
		}
		return err
	case f[0] == "next" && len(f) >= 3:
		k, err := m.GetNextVariableName(key(f[1]))
		if err := status(err, f[2]); err != nil || len(f) < 4 {
			return err
		}
		if k != key(f[3]) {
			return fmt.Errorf("the next is %s", k)
		}
		return nil
	case f[0] == "query" && len(f) == 3:
		a, err := attributes(f[1])
		if err != nil {
			return err
		}
		_, err = m.QueryVariableInfo(a)
		return status(err, f[2])
	case f[0] == "runtime":
		m.Phase = Runtime
		return nil
	case f[0] == "start":
		m.Phase = Boot
		return m.Start()
	}
	return errors.New("it is no step")
}

func same(a, b Variable) bool {
	return a.Attributes == b.Attributes && a.TimeStamp == b.TimeStamp && bytes.Equal(a.Data, b.Data)
}

func status(err error, want string) error {
	got := efi.StatusOf(err)
	if got.String() != "EFI_"+want {
		return fmt.Errorf("it gave %v: %v", got, err)
	}
	var e *efi.Error
	if err != nil && (!errors.As(err, &e) || e.Reason == "") {
		return errors.New("it gave no reason")
	}
	return nil
}

func key(s string) Key {
	name, vendor, ok := strings.Cut(s, "@")
	switch {
	case vendor == "v":
		vendor = "5e3f2d1c-8b7a-4f6e-9d5c-1a2b3c4d5e6f"
	case !ok && databases[name] != rule{}:
		return Key{efi.ImageSecurityDatabase, name}
	case !ok:
		return Key{efi.GlobalVariable, name}
	}
	return Key{efi.MustGUID(vendor), name}
}

var attributeBits = map[string]efi.Attributes{
	"-": 0, "NV": efi.NonVolatile, "BS": efi.BootServiceAccess, "RT": efi.RuntimeAccess, "HR": efi.HardwareErrorRecord, "AW": efi.Reserved10,
	"AT": efi.TimeBasedAuthenticated, "AP": efi.AppendWrite, "EA": efi.EnhancedAuthenticated, "all": nvBSRTAT, "0x100": 0x100,
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
