//go:build guest

package vbios_test

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"biosv/internal/guest"
	"biosv/internal/testbed"
	"biosv/service/uefi/frame"
)

// conversations is how many the driver has with a service that says anything: $CONVERSATIONS, or 20,000.
func conversations(t *testing.T) int {
	t.Helper()
	text := os.Getenv("CONVERSATIONS")
	if text == "" {
		return 20_000
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CONVERSATIONS=%s: a number from 1 on is needed", text)
	}
	return n
}

// driver is the driver's code as a program of this host (testdata/driver).
type driver struct {
	in  io.Writer
	out *bufio.Reader
}

func buildDriver(t *testing.T) *driver {
	t.Helper()
	dir := t.TempDir()
	for _, from := range []string{"vbios/driver", "vbios/testdata/driver"} { // whose port.h comes last
		files, err := filepath.Glob(filepath.Join(testbed.Root, from, "*.[ch]"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			content, err := os.ReadFile(f)
			if err == nil {
				err = os.WriteFile(filepath.Join(dir, filepath.Base(f)), content, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	program := filepath.Join(dir, "driver")
	args := []string{"-std=c2x", "-fshort-wchar", "-fno-builtin", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas", "-fstack-protector-all",
		"-fsanitize=undefined", "-fsanitize-trap=undefined", "-o", program}
	for _, source := range []string{"main", "exchange", "frame", "memory", "timer", "uart", "variable"} {
		args = append(args, filepath.Join(dir, source+".c"))
	}
	if out, err := exec.Command(guest.Tool(t, "clang-14"), args...).CombinedOutput(); err != nil {
		t.Fatalf("clang-14: %v\n%s", err, out)
	}
	cmd := exec.Command(program)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the driver: %v", err)
		}
	})
	return &driver{in, bufio.NewReader(out)}
}

// Who calls (testdata/driver).
const (
	bySystem   = "o"
	byFirmware = "f"
	byTheLast  = "a"
)

const second = 3_579_545 // ticks of the PM timer

// outcome is that of a call of the driver.
type outcome struct {
	status uint64
	size   int // that the caller is told
	took   time.Duration
	data   []byte
}

// call has a caller ask, with so much room, while something comes, with a pause after each byte.
func (d *driver) call(service string, room int, caller string, comes []byte, pause time.Duration) (o outcome, err error) {
	if _, err := fmt.Fprintf(d.in, "%s %d %s %d %d\n%s", service, room, caller, len(comes), int64(pause)*second/int64(time.Second), comes); err != nil {
		return o, err
	}
	line, err := d.out.ReadString('\n')
	if err != nil {
		return o, err
	}
	words := strings.Split(strings.TrimSuffix(line, "\n"), " ")
	if len(words) != 4 {
		return o, fmt.Errorf("it said %q", line)
	}
	if o.status, err = strconv.ParseUint(words[0], 16, 64); err != nil {
		return o, err
	}
	if o.size, err = strconv.Atoi(words[1]); err != nil {
		return o, err
	}
	ticks, err := strconv.ParseInt(words[2], 10, 64)
	if err != nil {
		return o, err
	}
	o.took = time.Duration(ticks) * time.Second / second
	o.data, err = hex.DecodeString(words[3])
	return o, err
}

// What a driver asks when it asks for the first time.
const (
	helloNumber   = 1
	requestNumber = 2
)

func encoded(kind frame.Kind, sequence uint32, a frame.Answer) []byte {
	f := frame.Frame{Kind: kind, Session: 7, Sequence: sequence, Body: frame.AppendBody(nil, a)}
	return f.AppendTo(nil)
}

// The program that stands for the guest is right about what a driver is to do with true answers.
func TestTheDriverTakesTrueAnswers(t *testing.T) {
	t.Parallel()
	d := buildDriver(t)
	hello := encoded(frame.Hello.Answer(), helloNumber, &frame.HelloAnswer{Version: 1, Session: 7})
	get := encoded(frame.GetVariable.Answer(), requestNumber, &frame.GetVariableAnswer{Attributes: 7, Size: 5, Data: []byte("value")})
	next := encoded(frame.GetNextVariableName.Answer(), requestNumber, &frame.GetNextVariableNameAnswer{Size: 6, Vendor: own, Name: "ab"})
	const success, tooSmall, invalid, deviceError = 0, 1<<63 | 5, 1<<63 | 2, 1<<63 | 7
	for name, c := range map[string]struct {
		service string
		room    int
		comes   []byte
		status  uint64
		data    string
	}{
		"a variable":         {"g", 5, slices.Concat(hello, get), success, "value"},
		"after noise":        {"g", 9, slices.Concat([]byte("login: }"), hello, []byte("\x00~abc"), get), success, "value"},
		"to another request": {"g", 9, slices.Concat(hello, encoded(frame.GetVariable.Answer(), 9, &frame.GetVariableAnswer{Size: 5, Data: []byte("wrong")}), get), success, "value"},
		"of another kind":    {"g", 9, slices.Concat(hello, next, get), success, "value"},
		"more than asked":    {"g", 4, slices.Concat(hello, get), deviceError, ""},
		"nothing":            {"g", 9, nil, deviceError, ""},
		"a name":             {"n", 6, slices.Concat(hello, next), success, "a\x00b\x00\x00\x00"},
		"a name too long":    {"n", 4, slices.Concat(hello, next), deviceError, ""},
		"no room for a name": {"n", 0, nil, invalid, ""},
		"it is too small":    {"g", 4, slices.Concat(hello, encoded(frame.GetVariable.Answer(), requestNumber, &frame.GetVariableAnswer{Status: frame.BufferTooSmall, Size: 5})), tooSmall, ""},
		"it is written":      {"s", 4, slices.Concat(hello, encoded(frame.SetVariable.Answer(), requestNumber, &frame.StatusAnswer{})), success, ""},
	} {
		got, err := d.call(c.service, c.room, bySystem, c.comes, 0)
		if err != nil || got.status != c.status || string(got.data) != c.data {
			t.Errorf("%s: %#x, %q, %v; want %#x, %q", name, got.status, got.data, err, c.status, c.data)
		}
	}
}

// The times of docs/vbios.md, section 5, by the PM timer.
func TestACallEndsInTime(t *testing.T) {
	t.Parallel()
	const (
		pause  = time.Millisecond
		wait   = 2 * time.Second
		whole  = 5 * time.Second
		silent = 10 * time.Millisecond
	)
	d := buildDriver(t)
	hello := encoded(frame.Hello.Answer(), helloNumber, &frame.HelloAnswer{Version: 1, Session: 7})
	differs := encoded(frame.CheckVariable.Answer(), requestNumber, &frame.CheckVariableAnswer{Attributes: 7, Size: 600, Check: 1})
	long := encoded(frame.GetVariable.Answer(), requestNumber, &frame.GetVariableAnswer{Attributes: 7, Size: 600, Data: bytes.Repeat([]byte{'x'}, 600)})
	nothing := make([]byte, 1600) // a zero is nobody's byte
	for name, c := range map[string]struct {
		service    string
		caller     string
		comes      []byte
		pause      time.Duration
		from, most time.Duration
		answered   bool
	}{
		"nobody is there":                           {"g", bySystem, nil, 0, 1800 * time.Millisecond, wait, false},
		"nobody is there, for the firmware":         {"g", byFirmware, nil, 0, 1800 * time.Millisecond, wait, false},
		"nobody answers the request":                {"s", bySystem, hello, 0, 1800 * time.Millisecond, wait, false},
		"nobody answers the second request":         {"g", byFirmware, slices.Concat(hello, nothing, differs), pause, 1800 * time.Millisecond, wait, false},
		"a long answer comes slowly":                {"g", bySystem, slices.Concat(hello, long), 5 * time.Millisecond, wait, whole, true},
		"an answer stops in its middle":             {"g", bySystem, slices.Concat(hello, long[:300]), pause, wait, 300*time.Millisecond + wait, false},
		"an answer comes too slowly":                {"g", bySystem, slices.Concat(hello, long), 20 * time.Millisecond, 4800 * time.Millisecond, whole, false},
		"something comes all the time":              {"g", bySystem, slices.Concat(hello, bytes.Repeat([]byte{'~'}, 1<<19)), 10 * time.Microsecond, 1800 * time.Millisecond, wait, false},
		"the first answer is late and neither ends": {"g", byFirmware, slices.Concat(hello, nothing, differs[:30]), pause, 1800 * time.Millisecond, 1700*time.Millisecond + wait, false},
	} {
		got, err := d.call(c.service, 600, c.caller, c.comes, c.pause)
		if err != nil || (got.status == 0) != c.answered || got.took < c.from || got.took > c.most {
			t.Errorf("%s: %#x after %s, %v; want an answer: %t, after %s to %s", name, got.status, got.took, err, c.answered, c.from, c.most)
		}
		if c.answered {
			continue
		}
		for i := range 40 { // in silence
			if got, err = d.call(c.service, 600, byTheLast, nil, 0); err != nil || got.status == 0 || got.took > silent {
				t.Errorf("%s: call %d in silence: %#x after %s, %v", name, i, got.status, got.took, err)
			}
		}
	}
}

// A service may say anything: the driver writes only where its caller said, comes back, and believes no data but that of
// a whole answer to its own request.
func TestNoAnswerMakesTheDriverWriteWhereItMayNot(t *testing.T) {
	t.Parallel()
	d := buildDriver(t)
	random := rand.New(rand.NewPCG(1, 2))
	services := []struct {
		name string
		kind frame.Kind
	}{{"g", frame.GetVariable}, {"n", frame.GetNextVariableName}, {"s", frame.SetVariable}, {"q", frame.QueryVariableInfo}}
	believed := 0
	for i := range conversations(t) {
		asked := services[random.IntN(len(services))]
		room := []int{0, 1, 2, 7, 64, 1022, 5000}[random.IntN(7)]
		if asked.name == "n" {
			room &^= 1 // what points to UTF-16 is aligned
		}
		comes, possible := say(random, asked.kind, room)
		got, err := d.call(asked.name, room, bySystem, comes, 0)
		if err != nil {
			t.Fatalf("conversation %d: after %s with %d bytes of room came %x: %v", i, asked.name, room, comes, err)
		}
		if got.took > 5*time.Second {
			t.Fatalf("conversation %d: after %s with %d bytes of room came %x, and it took %s", i, asked.name, room, comes, got.took)
		}
		if got.status != 0 || asked.name != "g" && asked.name != "n" {
			continue
		}
		if believed++; got.size > room || !slices.ContainsFunc(possible, func(p []byte) bool { return string(p) == string(got.data) }) {
			t.Fatalf("conversation %d: after %s with %d bytes of room came %x, and %x is believed", i, asked.name, room, comes, got.data)
		}
	}
	t.Logf("of %d conversations, %d gave data", conversations(t), believed)
	if believed == 0 {
		t.Error("none did")
	}
}

// say makes up what a service says, and which data it may be believed to have given.
func say(random *rand.Rand, kind frame.Kind, room int) (comes []byte, possible [][]byte) {
	noise := func(most int) {
		for range random.IntN(most) {
			comes = append(comes, byte(random.Uint32()))
		}
	}
	if random.IntN(20) > 0 {
		comes = append(comes, encoded(frame.Hello.Answer(), uint32(random.IntN(3)), &frame.HelloAnswer{Version: 1, Session: uint32(random.IntN(9))})...)
	}
	for range random.IntN(5) {
		if random.IntN(3) == 0 {
			noise(40)
		}
		bytes := make([]byte, random.IntN(2*room+20))
		for i := range bytes {
			bytes[i] = byte(random.Uint32())
		}
		sequence := uint32(requestNumber)
		if random.IntN(4) == 0 {
			sequence = uint32(random.IntN(5))
		}
		var a frame.Answer = &frame.StatusAnswer{Status: frame.Status(random.IntN(10))}
		switch random.IntN(4) {
		case 0, 1:
			if kind == frame.GetVariable {
				bytes = bytes[:min(len(bytes), room)]
				a = &frame.GetVariableAnswer{Attributes: 7, Size: uint32(len(bytes)), Data: bytes}
				possible = append(possible, bytes)
			}
			if kind == frame.GetNextVariableName {
				name := strings.Repeat("n", random.IntN(max(room/2, 1)))
				a = &frame.GetNextVariableNameAnswer{Size: frame.NameSize(name), Vendor: own, Name: name}
				possible = append(possible, []byte(strings.Repeat("n\x00", len(name))+"\x00\x00"))
			}
		case 2:
			a = &frame.RefusalAnswer{Reason: frame.Reason(random.IntN(4))}
		}
		f := frame.Frame{Kind: kind.Answer(), Session: 7, Sequence: sequence, Body: frame.AppendBody(nil, a)}
		if _, refusal := a.(*frame.RefusalAnswer); refusal {
			f.Kind = frame.Refusal
		} else if random.IntN(6) == 0 {
			f.Body = append(f.Body, bytes...)
		}
		text := f.AppendTo(nil)
		switch random.IntN(6) {
		case 0: // of the header, above all
			text[1+random.IntN(20)] = byte(random.Uint32())
		case 1:
			text[random.IntN(len(text))] ^= 1 << random.IntN(8)
		case 2:
			text = text[:random.IntN(len(text))]
		}
		comes = append(comes, text...)
	}
	return comes, possible
}
