package uefi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"go.uber.org/goleak"

	"biosv/service/uefi/frame"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var vendor = uuid.MustParse("5e0ad1f4-7c52-4b3c-9d0c-2f6a1f7b8c11")

// services answer from a map, and remember what they were asked.
type services struct {
	mu     sync.Mutex
	values map[string][]byte
	calls  []string
	err    error // of every call
}

func (s *services) call(format string, a ...any) error {
	s.calls = append(s.calls, fmt.Sprintf(format, a...))
	return s.err
}

func (s *services) GetVariable(_ context.Context, phase frame.Phase, v Variable) (uint32, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call("get %s in %s", v.Name, phase); err != nil {
		return 0, nil, err
	}
	data, ok := s.values[v.Name]
	if !ok {
		return 0, nil, fmt.Errorf("look for it: %w", frame.NotFound)
	}
	return 7, data, nil
}

func (s *services) GetNextVariableName(_ context.Context, phase frame.Phase, v Variable) (Variable, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call("next %s in %s", v.Name, phase); err != nil {
		return Variable{}, err
	}
	return Variable{vendor, v.Name + "x"}, nil
}

func (s *services) SetVariable(_ context.Context, phase frame.Phase, v Variable, attributes uint32, data []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.call("set %s to %s, %x in %s", v.Name, data, attributes, phase); err != nil {
		return err
	}
	s.values[v.Name] = append(s.values[v.Name], data...) // as appending does
	return nil
}

func (s *services) QueryVariableInfo(_ context.Context, phase frame.Phase, attributes uint32) (Info, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Info{3, 2, 1}, s.call("query %x in %s", attributes, phase)
}

func (s *services) ExitBootServices(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.call("exit")
}

func (s *services) ResetSystem(_ context.Context, phase frame.Phase, r Reset) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.call("reset %d, %v, %q in %s", r.Type, r.Status, r.Data, phase)
}

func (s *services) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// heard gives the calls since it was last asked.
func (s *services) heard() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// driver is the guest's side.
type driver struct {
	conn     net.Conn
	decoder  *frame.Decoder
	session  uint32
	sequence uint32
	phase    frame.Phase
}

type setup struct {
	server   *Server
	services *services
	log      *bytes.Buffer // read it when no connection is served
}

func newSetup() *setup {
	s := &setup{services: &services{values: map[string][]byte{"Known": []byte("value")}}, log: &bytes.Buffer{}}
	s.restart(frame.BootServices)
	return s
}

// restart is what a new process does.
func (s *setup) restart(phase frame.Phase) {
	s.server = New(Config{Services: s.services, Phase: phase, Log: slog.New(slog.NewTextHandler(s.log, nil))})
}

// dial opens a connection; hang ends it and waits until it is served no more.
func (s *setup) dial(t testing.TB) (d *driver, hang func()) {
	t.Helper()
	ours, theirs := net.Pipe()
	served := make(chan error)
	go func() { served <- s.server.Serve(context.Background(), theirs) }()
	hang = sync.OnceFunc(func() {
		ours.Close()
		if err := <-served; err != nil {
			t.Errorf("serving ended with %v", err)
		}
	})
	t.Cleanup(hang)
	return &driver{conn: ours, decoder: frame.NewDecoder(ours)}, hang
}

// connected is a driver that has said Hello.
func (s *setup) connected(t testing.TB) *driver {
	t.Helper()
	d, _ := s.dial(t)
	d.hello(t)
	return d
}

func (d *driver) hello(t testing.TB) {
	t.Helper()
	a, ok := d.ask(t, &frame.HelloRequest{Lowest: 1, Highest: 1}).(*frame.HelloAnswer)
	if !ok || a.Status != frame.Success || a.Version != frame.Version || a.Session == 0 {
		t.Fatalf("Hello was answered by %+v", a)
	}
	d.session = a.Session
}

// ask sends a request under the next number.
func (d *driver) ask(t testing.TB, r frame.Request) frame.Answer {
	t.Helper()
	d.sequence++
	return d.send(t, r)
}

// send sends a request under the last number.
func (d *driver) send(t testing.TB, r frame.Request) frame.Answer {
	t.Helper()
	f := frame.Frame{Kind: r.Kind(), Phase: d.phase, Sequence: d.sequence, Body: frame.AppendBody(nil, r)}
	if r.Kind() != frame.Hello {
		f.Session = d.session
	}
	return d.sendFrame(t, f)
}

func (d *driver) sendFrame(t testing.TB, f frame.Frame) frame.Answer {
	t.Helper()
	if err := d.conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.conn.Write(f.AppendTo(nil)); err != nil {
		t.Fatal(err)
	}
	got, err := d.decoder.Next()
	if err != nil {
		t.Fatal(err)
	}
	if got.Kind != f.Kind.Answer() && got.Kind != frame.Refusal || got.Session != f.Session || got.Sequence != f.Sequence || got.Phase != 0 {
		t.Fatalf("%+v was answered by %+v", f, got)
	}
	a, err := frame.ParseAnswer(got.Kind, got.Body)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestEachServiceIsAnswered(t *testing.T) {
	t.Parallel()
	s := newSetup()
	d := s.connected(t)
	for _, c := range []struct {
		request frame.Request
		want    frame.Answer
		call    string
	}{
		{&frame.GetVariableRequest{Vendor: vendor, Room: 5, Name: "Known"}, &frame.GetVariableAnswer{Attributes: 7, Size: 5, Data: []byte("value")}, "get Known in boot services"},
		{&frame.GetVariableRequest{Vendor: vendor, Room: 4, Name: "Known"}, &frame.GetVariableAnswer{Status: frame.BufferTooSmall, Attributes: 7, Size: 5}, "get Known in boot services"},
		{&frame.GetVariableRequest{Vendor: vendor, Room: 9, Name: "Unknown"}, &frame.GetVariableAnswer{Status: frame.NotFound}, "get Unknown in boot services"},
		{&frame.CheckVariableRequest{Vendor: vendor, Room: 5, Name: "Known"}, &frame.CheckVariableAnswer{Attributes: 7, Size: 5, Check: 0x1d775834}, "get Known in boot services"},
		{&frame.CheckVariableRequest{Vendor: vendor, Room: 4, Name: "Known"}, &frame.CheckVariableAnswer{Status: frame.BufferTooSmall, Attributes: 7, Size: 5}, "get Known in boot services"},
		{&frame.CheckVariableRequest{Vendor: vendor, Room: 9, Name: "Unknown"}, &frame.CheckVariableAnswer{Status: frame.NotFound}, "get Unknown in boot services"},
		{&frame.GetNextVariableNameRequest{Room: 6, Name: "a"}, &frame.GetNextVariableNameAnswer{Size: 6, Vendor: vendor, Name: "ax"}, "next a in boot services"},
		{&frame.GetNextVariableNameRequest{Room: 5, Name: "a"}, &frame.GetNextVariableNameAnswer{Status: frame.BufferTooSmall, Size: 6}, "next a in boot services"},
		{&frame.SetVariableRequest{Vendor: vendor, Attributes: 0x27, Name: "New", Data: []byte("data")}, &frame.StatusAnswer{}, "set New to data, 27 in boot services"},
		{&frame.QueryVariableInfoRequest{Attributes: 6}, &frame.QueryVariableInfoAnswer{Maximum: 3, Remaining: 2, Largest: 1}, "query 6 in boot services"},
		{&frame.ResetSystemRequest{Type: 2, Status: frame.DeviceError, Data: []byte("why")}, &frame.StatusAnswer{}, `reset 2, EFI_DEVICE_ERROR, "why" in boot services`},
	} {
		if got := d.ask(t, c.request); !equal(got, c.want) {
			t.Errorf("%+v was answered by %+v; want %+v", c.request, got, c.want)
		}
		if got := s.services.heard(); !slices.Equal(got, []string{c.call}) {
			t.Errorf("%+v became %q; want %q", c.request, got, c.call)
		}
	}
}

// equal compares answers, for which no data and empty data are the same.
func equal(a, b frame.Answer) bool { return fmt.Sprintf("%+v", a) == fmt.Sprintf("%+v", b) }

func refused(a frame.Answer, why frame.Reason) bool {
	return equal(a, &frame.RefusalAnswer{Reason: why})
}

func TestARepeatedRequestIsActedUponOnce(t *testing.T) {
	t.Parallel()
	s := newSetup()
	d, hang := s.dial(t)
	d.hello(t)
	set := &frame.SetVariableRequest{Vendor: vendor, Attributes: 0x47, Name: "Log", Data: []byte("line")}
	for range 3 {
		if got := d.ask(t, set); !equal(got, &frame.StatusAnswer{}) {
			t.Fatalf("%+v", got)
		}
		for range 3 {
			if got := d.send(t, set); !equal(got, &frame.StatusAnswer{}) {
				t.Fatalf("the same again was answered by %+v", got)
			}
		}
	}
	hang() // the answer may get lost with the connection
	next, _ := s.dial(t)
	next.session, next.sequence = d.session, d.sequence
	if got := next.send(t, set); !equal(got, &frame.StatusAnswer{}) {
		t.Fatalf("the same on another connection was answered by %+v", got)
	}
	if got := string(s.services.values["Log"]); got != "linelineline" {
		t.Errorf("three appends made %q", got)
	}
}

func TestNumbersGoForward(t *testing.T) {
	t.Parallel()
	s := newSetup()
	d := s.connected(t)
	get := func(name string) frame.Request {
		return &frame.GetVariableRequest{Vendor: vendor, Room: 100, Name: name}
	}
	for _, c := range []struct {
		number uint32
		name   string
		taken  bool
	}{
		{10, "a", true}, {10, "b", false}, {9, "a", false}, {11, "b", true}, {11 + 1<<30, "a", true}, {11 + 2<<30, "a", true},
		{11 + 3<<30, "a", true}, {0xffffffff, "a", true}, {0xfffffff0, "a", false}, {0, "a", true}, {0xffffffff, "a", false}, {1, "a", true},
	} {
		d.sequence = c.number
		if got := d.send(t, get(c.name)); refused(got, frame.OldSequence) == c.taken {
			t.Errorf("number %#x was answered by %+v", c.number, got)
		}
	}
	d.sequence = 0 // of a driver that has started anew
	d.hello(t)
	if got := d.ask(t, get("Known")); refused(got, frame.OldSequence) {
		t.Errorf("after Hello, a number was answered by %+v", got)
	}
}

func TestAnotherProcessRefusesWhatItCannotKnowOf(t *testing.T) {
	t.Parallel()
	s := newSetup()
	d, hang := s.dial(t)
	d.hello(t)
	hang()
	s.restart(frame.BootServices)
	next, _ := s.dial(t)
	next.session, next.sequence = d.session, d.sequence
	set := &frame.SetVariableRequest{Vendor: vendor, Name: "Log", Data: []byte("line")}
	if got := next.ask(t, set); !refused(got, frame.UnknownSession) {
		t.Errorf("an old session was answered by %+v", got)
	}
	if calls := s.services.heard(); len(calls) > 0 {
		t.Errorf("and acted upon: %q", calls)
	}
	next.hello(t)
	if next.session == d.session {
		t.Error("two processes have one session")
	}
	if got := next.ask(t, set); !equal(got, &frame.StatusAnswer{}) {
		t.Errorf("after Hello it was answered by %+v", got)
	}
}

func TestThePhaseOnlyGoesToTheOperatingSystem(t *testing.T) {
	t.Parallel()
	for name, first := range map[string]frame.Request{
		"by its message":        &frame.ExitBootServicesRequest{},
		"by another":            &frame.QueryVariableInfoRequest{},
		"by Hello":              &frame.HelloRequest{Lowest: 1, Highest: 1},
		"by a name that is bad": &frame.GetVariableRequest{Name: strings.Repeat("x", frame.NameMost+1)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSetup()
			d, hang := s.dial(t)
			d.hello(t)
			d.ask(t, &frame.GetVariableRequest{Name: "Known"})
			d.phase = frame.OperatingSystem
			d.ask(t, first)
			d.phase = frame.BootServices // what a guest's root could say
			d.ask(t, &frame.GetVariableRequest{Name: "Known"})
			d.hello(t)
			d.ask(t, &frame.GetVariableRequest{Name: "Known"})
			hang()
			next := s.connected(t)
			next.ask(t, &frame.GetVariableRequest{Name: "Known"})
			calls := slices.DeleteFunc(s.services.heard(), func(c string) bool { return strings.HasPrefix(c, "query") })
			inside := "get Known in operating system"
			if want := []string{"get Known in boot services", "exit", inside, inside, inside}; !slices.Equal(calls, want) {
				t.Errorf("the calls were %q; want %q", calls, want)
			}
		})
	}
}

func TestThePhaseIsAcknowledgedWhenItIsKept(t *testing.T) {
	t.Parallel()
	s := newSetup()
	d := s.connected(t)
	d.phase = frame.OperatingSystem
	s.services.fail(errors.New("the disk is full"))
	if got := d.ask(t, &frame.ExitBootServicesRequest{}); !equal(got, &frame.StatusAnswer{Status: frame.DeviceError}) {
		t.Errorf("it was acknowledged by %+v", got)
	}
	s.services.fail(nil)
	if got := d.send(t, &frame.ExitBootServicesRequest{}); !equal(got, &frame.StatusAnswer{}) {
		t.Errorf("the same again was answered by %+v", got)
	}
	if got := s.services.heard(); !slices.Equal(got, []string{"exit", "exit"}) {
		t.Errorf("the calls were %q", got)
	}
}

func TestWhatIsNotUnderstoodIsRefused(t *testing.T) {
	t.Parallel()
	s := newSetup()
	d := s.connected(t)
	for _, f := range []frame.Frame{
		{Kind: 0}, {Kind: 0x42}, {Kind: frame.GetVariable.Answer()}, {Kind: frame.GetVariable, Body: []byte("short")},
		{Kind: frame.QueryVariableInfo, Phase: 2, Body: make([]byte, 4)},
	} {
		d.sequence++
		f.Session, f.Sequence = d.session, d.sequence
		if got := d.sendFrame(t, f); !refused(got, frame.NotUnderstood) {
			t.Errorf("%+v was answered by %+v", f, got)
		}
	}
	if got := d.ask(t, &frame.HelloRequest{Lowest: 2, Highest: 3}); !equal(got, &frame.HelloAnswer{Status: frame.Unsupported}) {
		t.Errorf("a driver of later versions was answered by %+v", got)
	}
	if calls := s.services.heard(); len(calls) > 0 {
		t.Errorf("there were calls: %q", calls)
	}
}

func TestNamesThatNoVariableHasAreNotFound(t *testing.T) {
	t.Parallel()
	s := newSetup()
	d := s.connected(t)
	long := strings.Repeat("x", frame.NameMost+1)
	for _, c := range []struct {
		request frame.Request
		want    frame.Answer
	}{
		{&frame.GetVariableRequest{Name: long}, &frame.GetVariableAnswer{Status: frame.NotFound}},
		{&frame.CheckVariableRequest{Name: long}, &frame.CheckVariableAnswer{Status: frame.NotFound}},
		{&frame.GetNextVariableNameRequest{Name: long}, &frame.GetNextVariableNameAnswer{Status: frame.InvalidParameter}},
		{&frame.SetVariableRequest{Name: long}, &frame.StatusAnswer{Status: frame.InvalidParameter}},
		{&frame.SetVariableRequest{Name: "a\x00b"}, &frame.StatusAnswer{Status: frame.InvalidParameter}},
	} {
		if got := d.ask(t, c.request); !equal(got, c.want) {
			t.Errorf("%s was answered by %+v; want %+v", c.request.Kind(), got, c.want)
		}
	}
	if calls := s.services.heard(); len(calls) > 0 {
		t.Errorf("there were calls: %q", calls)
	}
}

func TestWhatIsNoStatusIsADeviceErrorAndLogged(t *testing.T) {
	t.Parallel()
	s := newSetup()
	d, hang := s.dial(t)
	d.hello(t)
	s.services.fail(errors.New("the disk is on fire"))
	for _, c := range []struct {
		request frame.Request
		want    frame.Answer
	}{
		{&frame.GetVariableRequest{Name: "Known"}, &frame.GetVariableAnswer{Status: frame.DeviceError}},
		{&frame.CheckVariableRequest{Name: "Known"}, &frame.CheckVariableAnswer{Status: frame.DeviceError}},
		{&frame.GetNextVariableNameRequest{}, &frame.GetNextVariableNameAnswer{Status: frame.DeviceError}},
		{&frame.SetVariableRequest{Name: "x"}, &frame.StatusAnswer{Status: frame.DeviceError}},
		{&frame.QueryVariableInfoRequest{}, &frame.QueryVariableInfoAnswer{Status: frame.DeviceError}},
		{&frame.ResetSystemRequest{}, &frame.StatusAnswer{Status: frame.DeviceError}},
	} {
		if got := d.ask(t, c.request); !equal(got, c.want) {
			t.Errorf("%s was answered by %+v; want %+v", c.request.Kind(), got, c.want)
		}
	}
	s.services.fail(frame.SecurityViolation)
	if got := d.ask(t, &frame.SetVariableRequest{Name: "x"}); !equal(got, &frame.StatusAnswer{Status: frame.SecurityViolation}) {
		t.Errorf("a status became %+v", got)
	}
	s.services.fail(nil)
	s.services.values["Huge"] = make([]byte, frame.DataMost+1)
	if got := d.ask(t, &frame.GetVariableRequest{Name: "Huge", Room: 1 << 30}); !equal(got, &frame.GetVariableAnswer{Status: frame.DeviceError}) {
		t.Errorf("a variable too large for a frame became %.100v", got)
	}
	hang()
	if n := strings.Count(s.log.String(), "the disk is on fire"); n != 6 || !strings.Contains(s.log.String(), "an answer has room for") {
		t.Errorf("it was logged %d times:\n%s", n, s.log)
	}
}

func TestNoiseIsPassedOver(t *testing.T) {
	t.Parallel()
	s := newSetup()
	d := s.connected(t)
	if _, err := d.conn.Write([]byte("\r\nlogin: ~~}~\x00\xff")); err != nil {
		t.Fatal(err)
	}
	if got := d.ask(t, &frame.GetVariableRequest{Name: "Known", Room: 9}); !equal(got, &frame.GetVariableAnswer{Attributes: 7, Size: 5, Data: []byte("value")}) {
		t.Errorf("%+v", got)
	}
}

func TestNoiseIsToldOnceAMinute(t *testing.T) {
	t.Parallel()
	var told []Noise
	now := time.Unix(1, 0)
	v := &vain{tell: func(_ context.Context, _ frame.Phase, n Noise) { told = append(told, n) }, now: func() time.Time { return now }}
	hear := func(pieces, bytes uint64) {
		v.hear(t.Context(), frame.OperatingSystem, frame.Noise{Pieces: pieces, Bytes: bytes})
	}
	hear(0, 0)
	hear(1, 6)
	for i := range uint64(9) {
		hear(1+i, 6+3*i)
	}
	v.refused()
	now = now.Add(noiseTime)
	hear(10, 33)
	hear(10, 33)
	v.end(t.Context(), frame.OperatingSystem, frame.Noise{Pieces: 11, Bytes: 41}) // and then another connection
	hear(0, 0)
	now = now.Add(noiseTime)
	hear(1, 5)
	noise := func(pieces, bytes uint64) frame.Noise { return frame.Noise{Pieces: pieces, Bytes: bytes} }
	if want := []Noise{{noise(1, 6), 0}, {noise(9, 27), 1}, {noise(1, 8), 0}, {noise(1, 5), 0}}; !cmp.Equal(told, want) {
		t.Errorf("it is told %+v; want %+v", told, want)
	}
}

func TestWhatAGuestSaysInVainIsTold(t *testing.T) {
	t.Parallel()
	s := newSetup()
	var told Noise
	s.server.vain.tell = func(_ context.Context, _ frame.Phase, n Noise) {
		told.Pieces, told.Bytes, told.Refused = told.Pieces+n.Pieces, told.Bytes+n.Bytes, told.Refused+n.Refused
	}
	d, hang := s.dial(t)
	d.hello(t)
	if _, err := d.conn.Write([]byte("~login:~")); err != nil {
		t.Fatal(err)
	}
	d.ask(t, &frame.GetVariableRequest{Name: "Known"})
	if got := d.send(t, &frame.GetVariableRequest{Name: "Unknown"}); !refused(got, frame.OldSequence) {
		t.Errorf("%+v", got)
	}
	d.sequence++
	if got := d.sendFrame(t, frame.Frame{Kind: 0x42, Session: d.session, Sequence: d.sequence}); !refused(got, frame.NotUnderstood) {
		t.Errorf("%+v", got)
	}
	for range repeats + 3 {
		d.sequence++
		if got := d.sendFrame(t, frame.Frame{Kind: frame.ExitBootServices, Session: d.session + 1, Sequence: d.sequence}); !refused(got, frame.UnknownSession) {
			t.Errorf("%+v", got)
		}
	}
	hang()
	if want := (Noise{frame.Noise{Pieces: 1, Bytes: 6}, 5}); told != want {
		t.Errorf("it is told %+v; want %+v", told, want)
	}
}

// A driver that was not told that another process answers makes no noise.
func TestADriverMakesNoNoise(t *testing.T) {
	t.Parallel()
	s := newSetup()
	s.server.vain.tell = func(_ context.Context, _ frame.Phase, n Noise) { t.Errorf("%+v", n) }
	d, hang := s.dial(t)
	for range repeats {
		if got := d.ask(t, &frame.GetVariableRequest{Name: "Known"}); !refused(got, frame.UnknownSession) {
			t.Errorf("%+v", got)
		}
	}
	d.hello(t)
	d.ask(t, &frame.GetVariableRequest{Name: "Known"})
	hang()
}

func TestServingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for name, guest := range map[string]func(net.Conn){
		"silent": func(net.Conn) {},
		"asking, and not reading": func(c net.Conn) {
			f := frame.Frame{Kind: frame.Hello, Body: frame.AppendBody(nil, &frame.HelloRequest{Lowest: 1, Highest: 1})}
			_, _ = c.Write(f.AppendTo(nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ours, theirs := net.Pipe()
			defer ours.Close()
			ctx, stop := context.WithCancel(t.Context())
			served := make(chan error)
			go func() { served <- newSetup().server.Serve(ctx, theirs) }()
			guest(ours)
			stop()
			select {
			case err := <-served:
				if !errors.Is(err, context.Canceled) {
					t.Errorf("it ended with %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Error("it did not end")
			}
		})
	}
}

func TestAGuestThatAsksWithoutAPauseIsSlowedDown(t *testing.T) {
	t.Parallel()
	now := time.Unix(0, 0)
	var slept time.Duration
	p := &pace{left: atOnce, at: now, now: func() time.Time { return now }, sleep: func(_ context.Context, d time.Duration) error {
		slept += d
		now = now.Add(d)
		return nil
	}}
	spend := func(cost int64, times int) time.Duration {
		slept = 0
		for range times {
			if err := p.spend(t.Context(), cost); err != nil {
				t.Fatal(err)
			}
		}
		return slept.Round(time.Millisecond)
	}
	if d := spend(1, atOnce); d != 0 {
		t.Errorf("what may come at once took %s", d)
	}
	if d := spend(requestCost, 2048); d != time.Second {
		t.Errorf("2,048 requests took %s more", d)
	}
	if d := spend(changeCost, 128); d != time.Second {
		t.Errorf("128 changes took %s more", d)
	}
	now = now.Add(time.Hour)
	if d := spend(perSecond/2, 4); d != time.Second {
		t.Errorf("after an hour, two seconds' worth took %s", d)
	}
}

// FuzzServer lets a guest say anything: it is never acted upon in an earlier phase than it was in.
func FuzzServer(f *testing.F) {
	for _, r := range []frame.Request{
		&frame.HelloRequest{Lowest: 1, Highest: 1}, &frame.GetVariableRequest{Name: "Known", Room: 9},
		&frame.SetVariableRequest{Name: "x", Data: []byte("y")}, &frame.ExitBootServicesRequest{},
	} {
		f.Add(byte(r.Kind()), byte(0), uint32(1), frame.AppendBody(nil, r))
		f.Add(byte(r.Kind()), byte(1), uint32(0), frame.AppendBody(nil, r))
	}
	f.Fuzz(func(t *testing.T, kind, phase byte, sequence uint32, body []byte) {
		s := newSetup()
		session := s.server.session
		for _, p := range []frame.Phase{frame.Phase(phase), frame.OperatingSystem, frame.Phase(phase)} {
			sequence++
			raw, err := s.server.answer(t.Context(), &frame.Frame{Kind: frame.Kind(kind), Phase: p, Session: session, Sequence: sequence, Body: body})
			if err != nil {
				t.Fatal(err)
			}
			a, err := frame.NewDecoder(bytes.NewReader(raw)).Next()
			if err != nil {
				t.Fatalf("the answer is no frame: % x", raw)
			}
			if _, err := frame.ParseAnswer(a.Kind, a.Body); err != nil {
				t.Fatal(err)
			}
		}
		exit := slices.Index(s.services.calls, "exit")
		for i, c := range s.services.calls {
			if exit >= 0 && i > exit && strings.HasSuffix(c, " in boot services") {
				t.Fatalf("%q", s.services.calls)
			}
		}
		if d := cmp.Diff(exit >= 0, s.server.phase == frame.OperatingSystem); d != "" {
			t.Fatal(d)
		}
	})
}

// script is a conversation in few bytes, so that fuzzing finds those that matter: each six of them are a frame.
func script(text []byte) (list []frame.Frame) {
	bodies := [][]byte{
		nil, []byte("short"), frame.AppendBody(nil, &frame.HelloRequest{Lowest: 1, Highest: 1}), frame.AppendBody(nil, &frame.HelloRequest{Lowest: 2, Highest: 3}),
		frame.AppendBody(nil, &frame.GetVariableRequest{Vendor: vendor, Name: "Known", Room: 9}), frame.AppendBody(nil, &frame.SetVariableRequest{Vendor: vendor, Name: "Log", Data: []byte("line")}),
		frame.AppendBody(nil, &frame.GetNextVariableNameRequest{Room: 99}), frame.AppendBody(nil, &frame.QueryVariableInfoRequest{Attributes: 7}), frame.AppendBody(nil, &frame.ResetSystemRequest{Type: 1}),
		frame.AppendBody(nil, &frame.SetVariableRequest{Name: strings.Repeat("x", frame.NameMost+1)}),
	}
	sequence := uint32(0)
	for ; len(text) >= 6 && len(list) < 100; text = text[6:] {
		sequence += uint32(int8(text[3])) << (text[4] % 31)
		list = append(list, frame.Frame{
			Kind: frame.Kind(text[0] % 9), Phase: frame.Phase(text[1] % 3), Session: uint32(text[2] % 3), Sequence: sequence, Body: bodies[int(text[5])%len(bodies)],
		})
	}
	return list
}

// heardInVain is a connection of which only the guest's side is there already.
type heardInVain struct {
	net.Conn
	io.Reader
	said bytes.Buffer
}

func (h *heardInVain) Read(b []byte) (int, error)  { return h.Reader.Read(b) }
func (h *heardInVain) Write(b []byte) (int, error) { return h.said.Write(b) }
func (h *heardInVain) Close() error                { return nil }

// FuzzConversation holds a whole conversation, with noise in it, against the rules of docs/vbios.md, sections 3 and 6:
// each frame has one answer, which is the one before if it is the frame before; what is refused is not acted upon; numbers
// go forward; the phase does not go back.
func FuzzConversation(f *testing.F) {
	f.Add([]byte("\x01\x00\x00\x01\x00\x02\x02\x00\x01\x01\x00\x04\x04\x00\x01\x01\x00\x05\x04\x00\x01\x00\x00\x05\x04\x01\x01\x01\x00\x05\x02\x00\x01\x01\x00\x04"), []byte("~login:"))
	f.Add([]byte("\x06\x01\x01\x01\x00\x00\x06\x00\x01\x01\x00\x00\x07\x01\x01\x01\x00\x08\x05\x00\x01\x01\x1e\x07\x05\x00\x01\xff\x00\x07"), []byte{0})
	f.Add([]byte("\x03\x00\x02\x01\x00\x06\x03\x02\x01\x01\x00\x06\x04\x00\x01\x01\x00\x09\x08\x00\x01\x01\x00\x00\x03\x00\x01\x01\x00\x06"), []byte("}"))
	f.Fuzz(func(t *testing.T, text, noise []byte) {
		frames := script(text)
		s := newSetup()
		s.server.session = 1
		s.server.pace.sleep = func(context.Context, time.Duration) error { return nil }
		var stream []byte
		for _, f := range frames {
			stream = f.AppendTo(append(stream, bytes.ReplaceAll(noise, []byte("~"), nil)...))
		}
		conn := &heardInVain{Reader: bytes.NewReader(stream)}
		if err := s.server.Serve(t.Context(), conn); err != nil {
			t.Fatal(err)
		}
		d := frame.NewDecoder(&conn.said)
		var last frame.Frame
		var lastAnswer []byte
		var calls int
		phase := frame.BootServices
		for i, f := range frames {
			got, err := d.Next()
			if err != nil {
				t.Fatalf("frame %d, %+v, has no answer: %v", i, f, err)
			}
			raw := got.AppendTo(nil)
			request, err := frame.ParseRequest(f.Kind, f.Body)
			var refusal frame.Reason
			switch {
			case lastAnswer != nil && f.Kind == last.Kind && f.Phase == last.Phase && f.Session == last.Session && f.Sequence == last.Sequence && bytes.Equal(f.Body, last.Body):
				if !bytes.Equal(raw, lastAnswer) {
					t.Fatalf("frame %d, %+v, came again, and is answered by %+v", i, f, got)
				}
				continue
			case err != nil && !errors.Is(err, frame.ErrName), f.Phase > frame.OperatingSystem:
				refusal = frame.NotUnderstood
			case f.Kind == frame.Hello:
			case f.Session != 1:
				refusal = frame.UnknownSession
			case int32(f.Sequence-last.Sequence) <= 0:
				refusal = frame.OldSequence
			}
			if refusal != 0 {
				if a, err := frame.ParseAnswer(got.Kind, got.Body); err != nil || !refused(a, refusal) {
					t.Fatalf("frame %d, %+v, is answered by %+v, %v; it should be refused by %d", i, f, a, err, refusal)
				}
				continue
			}
			if got.Kind != f.Kind.Answer() || got.Sequence != f.Sequence || got.Session != f.Session {
				t.Fatalf("frame %d, %+v, is answered by %+v", i, f, got)
			}
			if f.Phase > phase {
				if phase = f.Phase; s.services.calls[calls] != "exit" {
					t.Fatalf("frame %d, %+v, is in another phase, and led to %q", i, f, s.services.calls[calls:])
				}
				calls++
			}
			if _, silent := request.(*frame.ExitBootServicesRequest); err == nil && f.Kind != frame.Hello && !silent {
				if !strings.HasSuffix(s.services.calls[calls], " in "+phase.String()) {
					t.Fatalf("frame %d, %+v, led to %q in %s", i, f, s.services.calls[calls], phase)
				}
				calls++
			}
			last, lastAnswer = f, raw
		}
		if got, err := d.Next(); err != io.EOF || calls != len(s.services.calls) {
			t.Fatalf("there is one answer more, %+v, %v; or one call: %q, of which %d are right", got, err, s.services.calls, calls)
		}
	})
}

// poorListener has no file to spare for the first connections.
type poorListener struct {
	net.Listener
	fails int
}

func (l *poorListener) Accept() (net.Conn, error) {
	if l.fails > 0 {
		l.fails--
		return nil, &net.OpError{Op: "accept", Net: "unix", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAGuestIsAnsweredAfterItsConnectionCouldNotBeAccepted(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Services: &services{values: map[string][]byte{}}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	served := make(chan error, 1)
	go func() { served <- s.Listen(t.Context(), &poorListener{l, 3}) }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	d := &driver{conn: conn, decoder: frame.NewDecoder(conn)}
	d.hello(t)
	conn.Close()
	l.Close()
	if err := <-served; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestListenEndsWhileItPauses(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer stop()
	s := New(Config{Log: slog.New(slog.DiscardHandler)})
	if err := s.Listen(ctx, &poorListener{l, 1 << 30}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it ended with %v", err)
	}
}
