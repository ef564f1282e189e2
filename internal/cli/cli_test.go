package cli

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"biosv/generated"
)

// shellWords splits an example as a shell would: at spaces, but not within double quotes.
func shellWords(line string) (list []string) {
	quoted, word := false, ""
	for _, r := range line + " " {
		switch {
		case r == '"':
			quoted = !quoted
		case r == ' ' && !quoted:
			if word != "" {
				list = append(list, word)
			}
			word = ""
		default:
			word += string(r)
		}
	}
	return list
}

func TestEveryExampleOfTheContractAsksForItsOperation(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, c := range generated.Commands {
		t.Run(strings.Join(c.Words, " "), func(t *testing.T) {
			args := shellWords(c.Example)
			if args[0] != "biosv" || !slices.Equal(args[1:1+len(c.Words)], c.Words) {
				t.Fatalf("the example %q is of another command", c.Example)
			}
			for i, a := range args {
				if name, ok := strings.CutPrefix(a, "@"); ok {
					write(t, name, "-----BEGIN IT-----\nAAAA\n-----END IT-----\n")
				} else if a == "--file" {
					write(t, args[i+1], "\x00\xff")
				}
			}
			s := &service{}
			s.ask(t, args[1:]...)
			if got := s.request.Operation().Name; got != c.Operation {
				t.Errorf("%q asked for %s, want %s", c.Example, got, c.Operation)
			}
			if i := slices.Index(args, "--domain"); i >= 0 && s.call.Domain != args[i+1] {
				t.Errorf("%q asked the domain %q", c.Example, s.call.Domain)
			}
			v := reflect.ValueOf(s.request).Elem()
			for _, set := range c.Set {
				if got := v.FieldByName(set[0]).Elem().String(); got != set[1] {
					t.Errorf("%q: %s is %q, want %q", c.Example, set[0], got, set[1])
				}
			}
		})
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
