package frame

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

var (
	global  = uuid.MustParse("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	images  = uuid.MustParse("d719b2cb-3d3a-4596-a3bc-dad00e67656f") // EFI_IMAGE_SECURITY_DATABASE_GUID
	session = uint32(0xe210c0de)
)

// examples are those of docs/vbios.md, section 10, by their names there.
var examples = []struct {
	name    string
	frame   Frame // without its body
	message interface{ body(*fields) }
}{
	{"Hello", Frame{Kind: Hello, Sequence: 1}, &HelloRequest{1, 1}},
	{"its answer", Frame{Kind: Hello.Answer(), Sequence: 1}, &HelloAnswer{Version: 1, Session: session}},
	{"GetVariable of Boot0000, with 16 bytes of room", Frame{Kind: GetVariable, Session: session, Sequence: 2}, &GetVariableRequest{global, 16, "Boot0000"}},
	{"EFI_BUFFER_TOO_SMALL: it has 62", Frame{Kind: GetVariable.Answer(), Session: session, Sequence: 2}, &GetVariableAnswer{Status: BufferTooSmall, Attributes: 7, Size: 62}},
	{"GetVariable of Timeout", Frame{Kind: GetVariable, Session: session, Sequence: 3}, &GetVariableRequest{global, 2, "Timeout"}},
	{"it is 5", Frame{Kind: GetVariable.Answer(), Session: session, Sequence: 3}, &GetVariableAnswer{Attributes: 7, Size: 2, Data: []byte{5, 0}}},
	{"GetNextVariableName of the first, with 1,024 bytes of room", Frame{Kind: GetNextVariableName, Phase: OperatingSystem, Session: session, Sequence: 4}, &GetNextVariableNameRequest{Room: 1024}},
	{"it is BootOrder", Frame{Kind: GetNextVariableName.Answer(), Session: session, Sequence: 4}, &GetNextVariableNameAnswer{Size: 20, Vendor: global, Name: "BootOrder"}},
	{"SetVariable of BootOrder to 1, 0", Frame{Kind: SetVariable, Phase: OperatingSystem, Session: session, Sequence: 5}, &SetVariableRequest{global, 7, "BootOrder", []byte{1, 0, 0, 0}}},
	{"EFI_SUCCESS", Frame{Kind: SetVariable.Answer(), Session: session, Sequence: 5}, &StatusAnswer{}},
	{"CheckVariable of dbx, with 21,480 bytes of room", Frame{Kind: CheckVariable, Session: session, Sequence: 10}, &CheckVariableRequest{images, 21480, "dbx"}},
	{"it has as many, and their CRC-32 is 0x1D775834", Frame{Kind: CheckVariable.Answer(), Session: session, Sequence: 10}, &CheckVariableAnswer{Attributes: 0x27, Size: 21480, Check: 0x1d775834}},
	{"QueryVariableInfo", Frame{Kind: QueryVariableInfo, Phase: OperatingSystem, Session: session, Sequence: 6}, &QueryVariableInfoRequest{7}},
	{"262,144 in all, 200,000 left, 32,768 for one", Frame{Kind: QueryVariableInfo.Answer(), Session: session, Sequence: 6}, &QueryVariableInfoAnswer{0, 262144, 200000, 32768}},
	{"ExitBootServices", Frame{Kind: ExitBootServices, Phase: OperatingSystem, Session: session, Sequence: 7}, &ExitBootServicesRequest{}},
	{"ResetSystem, cold", Frame{Kind: ResetSystem, Phase: OperatingSystem, Session: session, Sequence: 8}, &ResetSystemRequest{}},
	{"Refusal of an unknown session", Frame{Kind: Refusal, Session: session, Sequence: 8}, &RefusalAnswer{UnknownSession}},
}

// documented gives the examples that the specification has.
func documented(t *testing.T) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("../../../docs/vbios.md")
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]byte{}
	for _, m := range regexp.MustCompile(`(?m)^    ([A-Za-z0-9][^\n]*):\n((?:      (?:[0-9a-f]{2} ?)+\n)+)`).FindAllStringSubmatch(string(text), -1) {
		b, err := hex.DecodeString(strings.Join(strings.Fields(m[2]), ""))
		if err != nil {
			t.Fatal(err)
		}
		found[m[1]] = b
	}
	return found
}

func TestFramesAreAsTheSpecificationShowsThem(t *testing.T) {
	t.Parallel()
	shown := documented(t)
	if len(shown) != len(examples) {
		t.Errorf("the specification has %d examples; %d are known", len(shown), len(examples))
	}
	for _, e := range examples {
		e.frame.Body = AppendBody([]byte{}, e.message)
		got := e.frame.AppendTo(nil)
		if !bytes.Equal(got, shown[e.name]) {
			t.Errorf("%s is\n% x; the specification says\n% x", e.name, got, shown[e.name])
		}
		f, err := NewDecoder(bytes.NewReader(got)).Next()
		if err != nil {
			t.Errorf("%s: %v", e.name, err)
			continue
		}
		if d := cmp.Diff(e.frame, *f); d != "" {
			t.Errorf("%s: the frame reads otherwise (-want +got):\n%s", e.name, d)
		}
		var message any
		if e.frame.Kind&answer != 0 {
			message, err = ParseAnswer(f.Kind, f.Body)
		} else {
			message, err = ParseRequest(f.Kind, f.Body)
		}
		if err != nil {
			t.Errorf("%s: %v", e.name, err)
		} else if fmt.Sprintf("%+v", message) != fmt.Sprintf("%+v", e.message) {
			t.Errorf("%s reads %+v; it was %+v", e.name, message, e.message)
		}
	}
}

// stream makes a stream of frames and what is given as text.
func stream(parts ...any) []byte {
	var b []byte
	for _, p := range parts {
		switch p := p.(type) {
		case string:
			b = append(b, p...)
		case []byte:
			b = append(b, p...)
		case Frame:
			b = p.AppendTo(b)
		}
	}
	return b
}

func TestADecoderFindsFramesInNoise(t *testing.T) {
	t.Parallel()
	one, two := Frame{Kind: GetVariable, Sequence: 1, Body: []byte("~one}\xe1\xe2\x9c")}, Frame{Kind: SetVariable, Sequence: 2, Body: []byte("two")}
	whole := one.AppendTo(nil)
	damaged := bytes.Clone(whole)
	damaged[5] ^= 1
	older := one
	version := older.AppendTo(nil)
	version[1] = 2
	long := Frame{Kind: SetVariable, Body: make([]byte, BodyMost+1)}
	for name, c := range map[string]struct {
		stream []byte
		want   []uint32
		noise  uint64 // pieces
	}{
		"nothing between":         {stream(one, two), []uint32{1, 2}, 0},
		"one flag between":        {stream(whole[:len(whole)-1], two), []uint32{1, 2}, 0},
		"many flags":              {stream("~~~", one, "~~", two, "~"), []uint32{1, 2}, 0},
		"noise before":            {stream("login: ", one), []uint32{1}, 1},
		"noise between":           {stream(one, "\x00\xff}", two), []uint32{1, 2}, 1},
		"zeros anywhere":          {bytes.ReplaceAll(stream(one, "\x00", two), []byte{1}, []byte{0, 1, 0}), []uint32{1, 2}, 0},
		"cut off":                 {stream(whole[:9], one), []uint32{1}, 1},
		"cut off after an escape": {stream("~abc}", one), []uint32{1}, 1},
		"its beginning lost":      {stream(whole[7:], one), []uint32{1}, 1},
		"one byte lost":           {stream(whole[:9], whole[10:], one), []uint32{1}, 1},
		"damaged":                 {stream(damaged, two), []uint32{2}, 1},
		"of another version":      {stream(version, two), []uint32{2}, 1},
		"too long":                {stream(long, two), []uint32{2}, 1},
		"never ends":              {stream("~", strings.Repeat("x", 2*BodyMost)), nil, 1},
		"a frame within another":  {stream(Frame{Kind: SetVariable, Sequence: 9, Body: whole}), []uint32{9}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := NewDecoder(iotest.HalfReader(bytes.NewReader(c.stream)))
			var got []uint32
			for {
				f, err := d.Next()
				if err == io.EOF {
					break
				} else if err != nil {
					t.Fatal(err)
				}
				got = append(got, f.Sequence)
			}
			if !cmp.Equal(got, c.want) || d.Noise().Pieces != c.noise {
				t.Errorf("found %v with %d pieces of noise; there are %v, with %d", got, d.Noise().Pieces, c.want, c.noise)
			}
		})
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	t.Parallel()
	variable := AppendBody(nil, &GetVariableRequest{global, 1, "x"})
	set := AppendBody(nil, &SetVariableRequest{global, 7, "ab", []byte("data")})
	with := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], v)
		return b
	}
	for name, c := range map[string]struct {
		kind Kind
		body []byte
		want error
	}{
		"no request":                       {99, nil, ErrMessage},
		"an answer":                        {GetVariable.Answer(), variable, ErrMessage},
		"too short":                        {GetVariable, variable[:19], ErrMessage},
		"empty":                            {QueryVariableInfo, nil, ErrMessage},
		"something behind the last field":  {QueryVariableInfo, make([]byte, 5), ErrMessage},
		"something where nothing is":       {ExitBootServices, []byte{0}, ErrMessage},
		"half a character":                 {GetVariable, append(bytes.Clone(variable), 1), ErrMessage},
		"a name larger than the body":      {SetVariable, with(set, 20, 0xff, 0xff, 0xff, 0xff), ErrMessage},
		"a name one byte larger than that": {SetVariable, with(set, 20, 9), ErrMessage},
		"too much data of a reset":         {ResetSystem, make([]byte, 8+ResetDataMost+1), ErrMessage},
		"a zero in the name":               {GetVariable, append(bytes.Clone(variable), 0, 0), ErrName},
		"half a surrogate pair":            {GetVariable, append(bytes.Clone(variable), 0x00, 0xd8), ErrName},
		"too long a name":                  {GetVariable, append(bytes.Clone(variable), bytes.Repeat([]byte{'x', 0}, NameMost)...), ErrName},
		"the longest name":                 {GetVariable, append(bytes.Clone(variable), bytes.Repeat([]byte{'x', 0}, NameMost-1)...), nil},
		"a surrogate pair":                 {GetVariable, append(bytes.Clone(variable), 0x3d, 0xd8, 0x00, 0xde), nil},
	} {
		if _, err := ParseRequest(c.kind, c.body); !errors.Is(err, c.want) {
			t.Errorf("%s: %v; want %v", name, err, c.want)
		}
	}
}

// FuzzDecoder lets a stream have frames anywhere: what is found reads the same when it is sent again.
func FuzzDecoder(f *testing.F) {
	for _, e := range examples {
		e.frame.Body = AppendBody(nil, e.message)
		f.Add(stream("noise", e.frame, "~", e.frame))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := NewDecoder(bytes.NewReader(data))
		for {
			found, err := d.Next()
			if err != nil {
				return
			}
			again, err := NewDecoder(bytes.NewReader(found.AppendTo(nil))).Next()
			if err != nil || !cmp.Equal(found, again) {
				t.Fatalf("%+v reads %+v, %v", found, again, err)
			}
		}
	})
}

// FuzzParseRequest lets a body have anything: what is understood is written as it was.
func FuzzParseRequest(f *testing.F) {
	for _, e := range examples {
		f.Add(byte(e.frame.Kind), AppendBody(nil, e.message))
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		r, err := ParseRequest(Kind(kind), body)
		if err != nil {
			return
		}
		if again := AppendBody(nil, r); r.Kind() != Kind(kind) || !bytes.Equal(again, body) {
			t.Fatalf("kind %d, % x reads %+v, which is % x", kind, body, r, again)
		}
	})
}

// FuzzParseAnswer does the same for the other side.
func FuzzParseAnswer(f *testing.F) {
	for _, e := range examples {
		f.Add(byte(e.frame.Kind), AppendBody(nil, e.message))
	}
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		a, err := ParseAnswer(Kind(kind), body)
		if err != nil {
			return
		}
		if again := AppendBody(nil, a); !bytes.Equal(again, body) {
			t.Fatalf("kind %d, % x reads %+v, which is % x", kind, body, a, again)
		}
	})
}

func TestBytesOfNoiseAreCounted(t *testing.T) {
	t.Parallel()
	frame := (&Frame{Kind: Hello}).AppendTo(nil)
	for stream, want := range map[string]Noise{
		string(frame) + "~~":                      {},
		"login: " + string(frame) + "}~abc\x00d~": {Pieces: 3, Bytes: 7 + 1 + 4},
		"~" + strings.Repeat("x", 2*BodyMost):     {Pieces: 1, Bytes: 2 * BodyMost}, // it is counted though it goes on
	} {
		d := NewDecoder(strings.NewReader(stream))
		for {
			if _, err := d.Next(); err != nil {
				break
			}
		}
		if d.Noise() != want {
			t.Errorf("of %.40q, %+v was passed over; it is %+v", stream, d.Noise(), want)
		}
	}
}
