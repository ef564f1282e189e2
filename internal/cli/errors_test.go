package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"biosv/generated"
)

func TestEveryFaultHasAnExitCodeOfItsOwnKind(t *testing.T) {
	t.Parallel()
	known := map[string]int{}
	for _, row := range exits {
		for _, name := range row.faults {
			if _, twice := known[name]; twice {
				t.Errorf("%s has two exit codes", name)
			}
			known[name] = row.code
		}
	}
	for _, f := range faults() {
		name := f.Info().Name
		code, ok := known[name]
		if !ok {
			t.Errorf("%s has no exit code", name)
		}
		delete(known, name)
		s := &service{answer: func(generated.Call, generated.Request) (generated.Reply, error) {
			return nil, fmt.Errorf("wrapped: %w", filled(f, maximal).(generated.Fault))
		}}
		for _, format := range []string{"--json", "--json=false"} {
			o := s.run(t, "", append([]string{"power", "on", format}, asked...)...)
			if o.code != code || o.out != "" {
				t.Errorf("%s: exit code %d, want %d; standard output %q", name, o.code, code, o.out)
			}
			if format == "--json" {
				var got map[string]map[string]any
				if err := json.Unmarshal([]byte(o.err), &got); err != nil || got[name]["Message"] == nil {
					t.Errorf("%s as JSON is %s: %v", name, o.err, err)
				}
			}
		}
	}
	for name := range known {
		t.Errorf("the fault %s, which has an exit code, is none of the contract's", name)
	}
}

func TestExitCodesAreToldApart(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for _, row := range exits {
		if seen[row.code] || row.meaning == "" {
			t.Errorf("the exit code %d stands in the table twice, or means nothing", row.code)
		}
		seen[row.code] = true
		if !strings.Contains(exitCodes(), fmt.Sprintf("%3d  %s", row.code, row.meaning)) {
			t.Errorf("the help does not tell of %d", row.code)
		}
	}
}

func TestAuthenticationRequiredSaysWhichCertificateWasShown(t *testing.T) {
	t.Parallel()
	s := &service{answer: func(generated.Call, generated.Request) (generated.Reply, error) {
		return nil, &generated.AuthenticationRequiredFault{Message: "A certificate is needed."}
	}}
	if o := s.run(t, "", append([]string{"audit"}, asked...)...); o.code != exitAccess || !strings.Contains(o.err, "Show a certificate that the service issued, with --cert and --key") {
		t.Errorf("exit code %d, %q", o.code, o.err)
	}
	if o := s.run(t, "", append([]string{"audit", "--cert", "me.pem", "--key", "me.key"}, asked...)...); o.code != exitAccess || !strings.Contains(o.err, "The certificate shown was me.pem") {
		t.Errorf("exit code %d, %q", o.code, o.err)
	}
}

func TestWhatTheServiceCannotBeSentIsAnErrorOfTheCommandLine(t *testing.T) {
	t.Parallel()
	for _, err := range []error{&generated.MissingError{Type: "T", Element: "E"}, &generated.ValueError{Type: "T", Element: "E", Value: "\x1b[2J"}} {
		s := &service{answer: func(generated.Call, generated.Request) (generated.Reply, error) { return nil, err }}
		o := s.run(t, "", append([]string{"power", "on"}, asked...)...)
		if o.code != exitUsage || strings.Contains(o.err, "\x1b") {
			t.Errorf("%v: exit code %d, %q", err, o.code, o.err)
		}
	}
}

func TestAnAnswerThatDoesNotComeInTimeIsNoAnswer(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"power", "status"}, "biosv: no answer from https://bios.example:8443/bios within 1ms; --timeout gives it more\n"},
		{[]string{"power", "on"}, "within 1ms; --timeout gives it more\nWhether the service carried out ResetSystem is not known: look before you try again.\n"},
	} {
		o := waiting{}.run(t.Context(), append(append(test.args, "--timeout", "1ms"), asked...)...)
		if o.code != exitConnection || !strings.HasSuffix(o.err, test.want) {
			t.Errorf("%q: exit code %d, %q, want %q", test.args, o.code, o.err, test.want)
		}
	}
}

func TestAnInterruptionSaysWhatIsNotKnown(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want string }{
		{"power status", "biosv: interrupted.\n"},
		{"power on", "biosv: interrupted. Whether the service carried out ResetSystem is not known: look before you try again.\n"},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Millisecond, cancel)
		o := waiting{}.run(ctx, append(strings.Fields(test.args), asked...)...)
		if o.code != exitInterrupted || o.err != test.want {
			t.Errorf("biosv %s: exit code %d, %q, want %q", test.args, o.code, o.err, test.want)
		}
	}
}

// waiting is a service that answers only when it is asked no more.
type waiting struct{}

func (waiting) Handle(ctx context.Context, _ generated.Call, _ generated.Request) (generated.Reply, error) {
	<-ctx.Done()
	return nil, fmt.Errorf("post: %w", ctx.Err())
}

func (h waiting) run(ctx context.Context, args ...string) outcome {
	return runWith(ctx, func(context.Context, Connection) (generated.Handler, error) { return h, nil }, strings.NewReader(""), args)
}

func TestErrorsAreJSONWhereThatIsAskedFor(t *testing.T) {
	t.Parallel()
	s := &service{answer: func(generated.Call, generated.Request) (generated.Reply, error) {
		return nil, errors.New("broken \x1b\u009b")
	}}
	for _, test := range []struct {
		args []string
		code int
	}{
		{append([]string{"power", "on", "--json"}, asked...), exitConnection},
		{[]string{"power", "on", "--bogus", "--json"}, exitUsage},
		{[]string{"power", "reset", "--json"}, exitUsage},
		{[]string{"bogus", "--json"}, exitUsage},
		{[]string{"audit", "--json", "--cert", "x"}, exitUsage},
	} {
		o := s.run(t, "", test.args...)
		var got struct {
			Error struct {
				ExitCode int
				Message  string
			}
		}
		if err := json.Unmarshal([]byte(o.err), &got); err != nil {
			t.Errorf("%q: %v in %q", test.args, err, o.err)
		}
		if o.code != test.code || got.Error.ExitCode != test.code || got.Error.Message == "" || strings.ContainsAny(o.err, "\x1b\u009b") {
			t.Errorf("%q: exit code %d, %q, want %d", test.args, o.code, o.err, test.code)
		}
	}
}
