package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"biosv/generated"
)

func attribute(name string, values ...string) *generated.AttributeValue {
	return &generated.AttributeValue{Name: name, NewValue: values}
}

func TestNamesWithValues(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "tag", "rack-9\n")
	write(t, "profile.json", ` [{"Name":"A","NewValue":["1"]},{"Name":"B","NewValue":["x","y"]}]`)
	write(t, "one.json", `{"Name":"A","NewValue":["1"]}`)
	for _, test := range []struct {
		args []string
		want []*generated.AttributeValue
	}{
		{[]string{"AssetTag=rack-7"}, []*generated.AttributeValue{attribute("AssetTag", "rack-7")}},
		{[]string{"AssetTag=rack 7, shelf 2=left"}, []*generated.AttributeValue{attribute("AssetTag", "rack 7, shelf 2=left")}},
		{[]string{"AssetTag="}, []*generated.AttributeValue{attribute("AssetTag", "")}},
		{[]string{"BootOrder:=Boot0001,Boot0000"}, []*generated.AttributeValue{attribute("BootOrder", "Boot0001", "Boot0000")}},
		{[]string{"BootOrder:="}, []*generated.AttributeValue{attribute("BootOrder")}},
		{[]string{"BootOrder:=One"}, []*generated.AttributeValue{attribute("BootOrder", "One")}},
		{[]string{"L:=a,,@b"}, []*generated.AttributeValue{attribute("L", "a", "", "@b")}},
		{[]string{"L=a,b", "Other=1", "L=c"}, []*generated.AttributeValue{attribute("L", "a,b", "c"), attribute("Other", "1")}},
		{[]string{"L:=a,b", "L=c,d"}, []*generated.AttributeValue{attribute("L", "a", "b", "c,d")}},
		{[]string{"Minus=-", "Signed=-5"}, []*generated.AttributeValue{attribute("Minus", "-"), attribute("Signed", "-5")}},
		{[]string{"AssetTag=@tag"}, []*generated.AttributeValue{attribute("AssetTag", "rack-9")}},
		{[]string{"AssetTag=@@tag"}, []*generated.AttributeValue{attribute("AssetTag", "@tag")}},
		{[]string{"AssetTag=@-"}, []*generated.AttributeValue{attribute("AssetTag", "from standard input")}},
		{[]string{`{"Name":"A=B","NewValue":["1"]}`}, []*generated.AttributeValue{attribute("A=B", "1")}},
		{[]string{`[{"Name":"A"},{"Name":"B"}]`, "C=1"}, []*generated.AttributeValue{attribute("A"), attribute("B"), attribute("C", "1")}},
		{[]string{"@profile.json"}, []*generated.AttributeValue{attribute("A", "1"), attribute("B", "x", "y")}},
		{[]string{"@one.json"}, []*generated.AttributeValue{attribute("A", "1")}},
	} {
		s := &service{}
		args := append(append([]string{"attributes", "set"}, asked...), "--")
		if o := s.run(t, "from standard input\n", append(args, test.args...)...); o.code != 0 {
			t.Errorf("%q: exit code %d: %s", test.args, o.code, o.err)
			continue
		}
		if diff := cmp.Diff(test.want, s.request.(*generated.SetAttributesRequest).Attribute, same); diff != "" {
			t.Errorf("%q asks for something else (-want +got):\n%s", test.args, diff)
		}
	}
}

func TestWrongNamesWithValuesAreRefused(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "binary", "\xff\xfe")
	write(t, "control", "a\x01b")
	write(t, "text", "AssetTag=1")
	write(t, "large", strings.Repeat("x", mostText+1))
	for _, test := range []struct{ arg, want string }{
		{"AssetTag", `NAME=VALUE is expected, and "AssetTag" is something else`},
		{"AssetTag:rack-7", `NAME=VALUE is expected, and "AssetTag" and what follows it is something else`},
		{"=1", "NAME=VALUE is expected, and what was given is something else"},
		{":=1", "NAME=VALUE is expected, and what was given is something else"},
		{"", `NAME=VALUE is expected, and "" is something else`},
		{"AssetTag=@", "AssetTag: the name of a file is expected after the @, or @@ for an @ itself"},
		{"AssetTag=@none", "AssetTag: open none: no such file or directory"},
		{"AssetTag=@binary", "AssetTag: binary is no text in UTF-8"},
		{"AssetTag=@control", "AssetTag: text in UTF-8 without control characters is expected, and byte 1 is none"},
		{"AssetTag=@large", "AssetTag: large is larger than 1048576 bytes"},
		{"AssetTag=\x1b[2J", "AssetTag: text in UTF-8 without control characters is expected, and byte 0 is none"},
		{"{", "NAME=VALUE: a JSON object of the type AttributeValue is expected"},
		{"[", "NAME=VALUE: a JSON array of objects of the type AttributeValue is expected"},
		{"[7]", "NAME=VALUE: a JSON object of the type AttributeValue is expected"},
		{"@text", "NAME=VALUE: a JSON object of the type AttributeValue is expected"},
		{`{"Name":"A","Value":"1"}`, `NAME=VALUE: AttributeValue has no "Value"; it has Name, NewValue`},
	} {
		s := &service{}
		o := s.run(t, "", append([]string{"attributes", "set", test.arg}, asked...)...)
		if o.code == 0 || s.request != nil || !strings.Contains(o.err, test.want) || strings.Contains(o.err, "\x1b") {
			t.Errorf("%q: exit code %d, %q, want %q", test.arg, o.code, o.err, test.want)
		}
	}
}

func TestValuesOfFlags(t *testing.T) {
	t.Parallel()
	s := &service{}
	s.ask(t, "domain", "create", "web1", "--domain-kind", "simulated", "--simulation-seed", "7", "--simulation-seed", "8", "--description", "a, b")
	want := &generated.CreateDomainRequest{Name: new(generated.DomainName("web1")), DomainKind: new(generated.DomainKindSimulated), SimulationSeed: new(generated.SimulationSeed(8)), Description: "a, b"}
	if diff := cmp.Diff(want, s.request, same); diff != "" {
		t.Errorf("something else is asked for (-want +got):\n%s", diff)
	}
	s.ask(t, "attributes", "get", "A", "B", "--domain", "demo")
	if diff := cmp.Diff(&generated.GetAttributesRequest{Name: []string{"A", "B"}}, s.request, same); diff != "" {
		t.Errorf("something else is asked for (-want +got):\n%s", diff)
	}
	s.ask(t, "attributes", "set", "A=1", "--version", "0", "--apply-time", "OnReset")
	got := s.request.(*generated.SetAttributesRequest)
	if got.Version == nil || *got.Version != 0 || got.ApplyTime == nil || *got.ApplyTime != generated.ApplyTimeOnReset {
		t.Errorf("the version and the time asked for are %v and %v", got.Version, got.ApplyTime)
	}
	s.ask(t, "attributes", "set", "A=1")
	if got := s.request.(*generated.SetAttributesRequest); got.Version != nil || got.ApplyTime != nil {
		t.Errorf("a version and a time are asked for that were not given: %v and %v", got.Version, got.ApplyTime)
	}
}

func TestAFileIsSentWhole(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "state.backup", "\x00\xff\n")
	s := &service{}
	for _, name := range []string{"state.backup", "-"} {
		o := s.run(t, "\x00\xff\n", append([]string{"restore", "--file", name}, asked...)...)
		if got := s.request.(*generated.RestoreStateRequest).Archive; o.code != 0 || string(got) != "\x00\xff\n" {
			t.Errorf("--file %s: exit code %d (%s), and %q was sent", name, o.code, o.err, got)
		}
	}
	s = &service{}
	for name, want := range map[string]string{"": "--file: the name of a file is expected", "none": "--file: open none", ".": "--file: read .: "} {
		if o := s.run(t, "", append([]string{"restore", "--file", name}, asked...)...); o.code == 0 || s.request != nil || !strings.Contains(o.err, want) {
			t.Errorf("--file %q: exit code %d, %q", name, o.code, o.err)
		}
	}
}

const hunter = "hunter2 correct horse"

// secretCommands are commands that take a secret, without it.
func secretCommands() (list [][]string) {
	for _, c := range generated.Commands {
		f := newForm(&c)
		for _, e := range f.entries {
			if secret(e.field.Name) {
				list = append(list, append(shellWords(c.Example)[1:], e.name))
			}
		}
	}
	return list
}

func TestSecretsAreTakenFromElsewhereAndNeverShown(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "password", hunter+"\n")
	commands := secretCommands()
	if len(commands) < 4 {
		t.Fatalf("%d commands take a secret; more are expected", len(commands))
	}
	refuse := func(_ generated.Call, r generated.Request) (generated.Reply, error) {
		return nil, &generated.AccessDeniedFault{Code: "WrongAdministratorPassword", Message: "The administrator password is wrong."}
	}
	for _, args := range commands {
		flag := args[len(args)-1]
		for _, way := range []struct{ word, in, env string }{
			{"@password", "", ""}, {"-", hunter + "\n", ""}, {"-", hunter + "\r\nmore\n", ""}, {"-", hunter, ""}, {"@-", hunter + "\n", ""}, {"", "", hunter},
		} {
			for _, answer := range []func(generated.Call, generated.Request) (generated.Reply, error){nil, refuse} {
				for _, format := range []string{"--json", "--json=false"} {
					given := args[:len(args)-1]
					if way.word != "" {
						given = append(given[:len(given):len(given)], flag, way.word)
					}
					t.Setenv(variable("AdministratorPassword"), way.env)
					s := &service{answer: answer}
					o := s.run(t, way.in, append(append(given[:len(given):len(given)], format), asked...)...)
					if s.request == nil {
						t.Fatalf("%q: nothing was sent: %s", given, o.err)
					}
					if got := fmt.Sprintf("%+v", s.request); !strings.Contains(got, hunter) {
						t.Errorf("%q: the secret was not sent", given)
					}
					if strings.Contains(o.out+o.err, "hunter") {
						t.Errorf("%q shows the secret: %q %q", given, o.out, o.err)
					}
				}
			}
		}
	}
}

func TestSecretsOnTheCommandLineAreRefusedAndNotRepeated(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "bad", "hunter2\x01")
	for _, args := range append(secretCommands(), []string{"attributes", "set", "AdministratorPassword"}) {
		for _, word := range []string{"hunter2", "@@hunter2", "", "@bad", "@nothere"} {
			s := &service{}
			given := append(args[:len(args)-1:len(args)-1], args[len(args)-1]+"="+word)
			o := s.run(t, "", append(given, asked...)...)
			if o.code == 0 || s.request != nil {
				t.Errorf("%q: exit code %d", given, o.code)
			}
			if strings.Contains(o.out+o.err, "hunter2") {
				t.Errorf("%q shows the secret: %q", given, o.err)
			}
			if !strings.HasPrefix(word, "@") && !strings.Contains(o.err, "a secret does not belong on the command line") {
				t.Errorf("%q says %q", given, o.err)
			}
		}
	}
	s := &service{}
	for _, args := range [][]string{
		{"attributes", "set", "AdministratorPassword:=hunter2"}, {"attributes", "set", "AdministratorPassword:hunter2"},
		{"attributes", "reset", "--default-set", "None", "--administrator-password", "hunter2"},
	} {
		if o := s.run(t, "", append(args, asked...)...); o.code != exitUsage || s.request != nil || strings.Contains(o.err, "hunter2") {
			t.Errorf("%q: exit code %d, %q", args, o.code, o.err)
		}
	}
	t.Setenv("BIOSV_ADMINISTRATOR_PASSWORD", "hunter2\x01")
	if o := s.run(t, "", append([]string{"attributes", "set", "A=1"}, asked...)...); o.code != exitUsage || strings.Contains(o.err, "hunter2") || !strings.Contains(o.err, "$BIOSV_ADMINISTRATOR_PASSWORD") {
		t.Errorf("from the environment: exit code %d, %q", o.code, o.err)
	}
	if o := s.run(t, "", "attributes", "set", "--help"); strings.Contains(o.out, "hunter2") {
		t.Errorf("the help shows the secret: %s", o.out)
	}
}

// terminal opens a pseudo-terminal: what is written to its first end is typed, what is read from it is shown.
func terminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	fd := int(keyboard.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	return keyboard, screen
}

// silent tells whether a terminal shows nothing of what is typed.
func silent(screen *os.File) bool {
	mode, err := unix.IoctlGetTermios(int(screen.Fd()), unix.TCGETS)
	return err == nil && mode.Lflag&unix.ECHO == 0
}

// untilSilent waits for it.
func untilSilent(t *testing.T, screen *os.File) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !silent(screen); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the terminal never waits without echo")
		}
	}
}

// typed types once the terminal shows nothing of it, and gives what was shown all the same.
func typed(t *testing.T, keyboard, screen *os.File, done <-chan outcome, text string) (outcome, string) {
	t.Helper()
	untilSilent(t, screen)
	if _, err := io.WriteString(keyboard, text); err != nil {
		t.Fatal(err)
	}
	select {
	case o := <-done:
		if silent(screen) {
			t.Error("the terminal is left without echo")
		}
		var shown [4096]byte
		fd := int(keyboard.Fd())
		if err := unix.SetNonblock(fd, true); err != nil {
			t.Fatal(err)
		}
		n, err := unix.Read(fd, shown[:])
		if err != nil && err != unix.EAGAIN { // EAGAIN: nothing was shown
			t.Fatal(err)
		}
		return o, string(shown[:max(n, 0)])
	case <-time.After(10 * time.Second):
		t.Fatal("the command does not end")
	}
	panic("unreachable")
}

func TestASecretIsTypedWithoutEcho(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		args  []string
		typed string
		code  int
		want  string
	}{
		{"known", []string{"attributes", "save", "--administrator-password", "-"}, hunter + "\n", 0, "--administrator-password: \n"},
		{"new", []string{"attributes", "set", "AdministratorPassword=-"}, hunter + "\n" + hunter + "\n", 0, "AdministratorPassword: \nAdministratorPassword, again: \n"},
		{"mistyped", []string{"attributes", "set", "AdministratorPassword=-"}, hunter + "\nother\n", exitUsage, "AdministratorPassword: the two are not the same"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			keyboard, screen := terminal(t)
			s := &service{}
			done := make(chan outcome, 1)
			go func() { done <- runWith(t.Context(), s.connect, screen, append(test.args, asked...)) }()
			o, echo := typed(t, keyboard, screen, done, test.typed)
			if o.code != test.code || !strings.Contains(o.err, test.want) {
				t.Errorf("exit code %d, %q, want %d and %q", o.code, o.err, test.code, test.want)
			}
			if strings.Contains(o.out+o.err+echo, "hunter") {
				t.Errorf("the secret is shown: %q %q %q", o.out, o.err, echo)
			}
			if test.code != 0 {
				return
			}
			if sent, err := MarshalJSON(s.request); err != nil || !strings.Contains(string(sent), hunter) {
				t.Errorf("the secret is not sent: %s, %v", sent, err)
			}
		})
	}
}

// leftBehind are the terminals of readers that were left behind: when its terminal goes, a reader puts it back as it was
// by its number, which must not be another's by then.
var leftBehind []*os.File

func TestATerminalIsLeftAsItWasWhereAPromptIsInterrupted(t *testing.T) {
	t.Parallel()
	_, screen := terminal(t)
	number, err := unix.Dup(int(screen.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	screen = os.NewFile(uintptr(number), screen.Name())
	leftBehind = append(leftBehind, screen)
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	s := &service{}
	done := make(chan outcome, 1)
	go func() {
		done <- runWith(ctx, s.connect, screen, append([]string{"attributes", "save", "--administrator-password", "-"}, asked...))
	}()
	untilSilent(t, screen)
	interrupt()
	select {
	case o := <-done:
		if o.code != exitInterrupted || !strings.HasSuffix(o.err, "biosv: interrupted.\n") || s.request != nil {
			t.Errorf("exit code %d, %q, request %v", o.code, o.err, s.request)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the command does not end")
	}
	if silent(screen) {
		t.Error("the terminal is left without echo")
	}
}
