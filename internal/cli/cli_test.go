package cli

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

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
					write(t, name, pemText)
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

// What the documentation tells people to type is understood.
func TestCommandsInTheDocumentationAreUnderstood(t *testing.T) {
	var lines []string
	for _, name := range []string{"README.md", "docs/guide.md"} {
		text, err := os.ReadFile("../../" + name)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			line, indented := strings.CutPrefix(line, "    ")
			if command, ok := strings.CutPrefix(strings.TrimPrefix(line, "bin/"), "biosv "); ok && indented {
				command, _, _ = strings.Cut(command, " #")
				command, _, _ = strings.Cut(command, " > ")
				lines = append(lines, strings.TrimSpace(command))
			}
		}
	}
	t.Chdir(t.TempDir())
	tried := 0
	for _, line := range lines {
		args := shellWords(line)
		if !slices.ContainsFunc(generated.Commands[:], func(c generated.Command) bool { return c.Words[0] == args[0] }) {
			continue // it is about the service
		}
		for i, a := range args {
			if name, ok := strings.CutPrefix(a, "@"); ok {
				write(t, name, pemText)
			} else if a == "--file" {
				write(t, args[i+1], "")
			}
		}
		(&service{}).ask(t, args...)
		tried++
	}
	if tried < 10 {
		t.Errorf("%d commands were found in the documentation: %q", tried, lines)
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEveryOperationIsACommand(t *testing.T) {
	t.Parallel()
	for _, op := range generated.Operations {
		if !slices.ContainsFunc(generated.Commands[:], func(c generated.Command) bool { return c.Operation == op.Name }) {
			t.Errorf("%s is no command", op.Name)
		}
	}
}

// What the contract says of a command names elements that its messages have.
func TestCommandsNameElementsThatTheMessagesHave(t *testing.T) {
	t.Parallel()
	for _, c := range generated.Commands {
		f := newForm(&c)
		elements := func(name string) (names []string) {
			for _, field := range generated.Types[name] {
				names = append(names, field.Name)
			}
			return names
		}
		for _, a := range c.Arguments {
			if !slices.Contains(elements(f.shape), a) && (f.answer == nil || a != f.answer.Name) {
				t.Errorf("%s: the argument %s is no element of %s, nor the document of the answer", c.Words, a, f.shape)
			}
		}
		for i, a := range f.arguments {
			if a.field.Many && i < len(f.arguments)-1 {
				t.Errorf("%s: %s is repeated and not the last argument", c.Words, a.field.Name)
			}
			if i > 0 && f.arguments[i-1].field.Optional && !a.field.Optional {
				t.Errorf("%s: %s must be there and stands behind one that need not", c.Words, a.field.Name)
			}
		}
		for _, s := range c.Set {
			if !slices.Contains(elements(f.shape), s[0]) {
				t.Errorf("%s: %s, which is set, is no element of %s", c.Words, s[0], f.shape)
			}
		}
		reply := reflect.TypeOf(f.operation.NewReply()).Elem().Name()
		known := func(name, path string) (last generated.Field) {
			for step := range strings.SplitSeq(path, ".") {
				i := slices.Index(elements(name), step)
				if i < 0 {
					t.Errorf("%s: the table %q names %s, and %s has %q", c.Words, c.Table, step, name, elements(name))
					return last
				}
				last = generated.Types[name][i]
				name = last.Type
			}
			return last
		}
		if c.Table == "" {
			t.Errorf("%s shows nothing of the answer", c.Words)
		}
		for part := range strings.SplitSeq(c.Table, ";") {
			path, columns, tabular := strings.Cut(part, ":")
			for _, p := range strings.Fields(path) {
				f := known(reply, p)
				if tabular && f.Kind != generated.Complex {
					t.Errorf("%s: %s has no columns", c.Words, p)
				}
				for _, column := range strings.Fields(columns) {
					known(f.Type, column)
				}
			}
		}
	}
}

// every calls do with every command of the contract's.
func every(t *testing.T, do func(*cobra.Command)) {
	t.Helper()
	root := &cobra.Command{Use: "biosv"}
	root.AddCommand(Commands((&service{}).connect)...)
	var walk func(*cobra.Command)
	walk = func(c *cobra.Command) {
		for _, sub := range c.Commands() {
			if c != root || sub.GroupID == Operations.ID {
				do(sub)
				walk(sub)
			}
		}
	}
	walk(root)
}

func TestFlagsOfElementsAreNotThoseOfTheConnection(t *testing.T) {
	t.Parallel()
	var connection []string
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	(&connectionFlags{}).bind(set)
	set.VisitAll(func(f *pflag.Flag) { connection = append(connection, f.Name) })
	connection = append(connection, "json", "timeout", "help")
	for _, name := range []string{"data", "url", "domain", "timeout", "json", "soap", "ca", "cert", "key"} {
		if !slices.Contains(connection, name) {
			t.Errorf("there is no flag --%s", name)
		}
	}
	for name, fields := range generated.Types {
		if !strings.HasSuffix(name, "Request") {
			continue
		}
		seen := map[string]bool{}
		for _, f := range fields {
			flag := kebab(f.Name)
			if slices.Contains(connection, flag) || seen[flag] || flag == "file" {
				t.Errorf("%s.%s would be --%s, which is another flag", name, f.Name, flag)
			}
			seen[flag] = true
		}
	}
}

func TestEveryCommandHasHelpWithAnExample(t *testing.T) {
	t.Parallel()
	every(t, func(c *cobra.Command) {
		if c.Annotations["group"] != "" {
			return
		}
		s := &service{}
		o := s.run(t, "", append(strings.Fields(c.CommandPath())[1:], "--help")...)
		if o.code != 0 || s.request != nil {
			t.Errorf("%s --help: exit code %d, request %v", c.CommandPath(), o.code, s.request)
		}
		for _, want := range []string{"Usage:\n  " + c.CommandPath(), "Example:\n  " + c.CommandPath(), "--domain name", "--json", c.Long} {
			if !strings.Contains(strings.Join(strings.Fields(o.out), " "), strings.Join(strings.Fields(want), " ")) {
				t.Errorf("%s --help does not say %q:\n%s", c.CommandPath(), want, o.out)
			}
		}
		c.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) {
			if f.Usage == "" {
				t.Errorf("%s: --%s does not say what it is for", c.CommandPath(), f.Name)
			}
		})
	})
}

func TestHelpNamesCommandsAndTopics(t *testing.T) {
	t.Parallel()
	o := (&service{}).run(t, "", "--help")
	for _, want := range []string{Operations.Title, "\n  attributes ", "\n  power ", "Help topics:", "\n  exit-codes ", "\n  connection ", "\n  values "} {
		if !strings.Contains(o.out, want) {
			t.Errorf("biosv --help does not say %q:\n%s", want, o.out)
		}
	}
	if bare := (&service{}).run(t, ""); bare.code != 0 || bare.out != o.out {
		t.Errorf("biosv alone: exit code %d and %q, want what --help says", bare.code, bare.out)
	}
	for topic, want := range map[string]string{
		"exit-codes": "ConflictFault", "connection": "clients/admin.pem", "values": "NAME:=A,B,C",
		"attributes": "Commands:\n  discard", "attributes set": "biosv attributes set NAME=VALUE... [flags]",
	} {
		if o := (&service{}).run(t, "", append([]string{"help"}, strings.Fields(topic)...)...); o.code != 0 || !strings.Contains(o.out, want) {
			t.Errorf("biosv help %s: exit code %d, and %q is not said:\n%s", topic, o.code, want, o.out)
		}
	}
}

func TestUnknownCommandsAreRefusedWithWhatIsNear(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ args, want string }{
		{"atributes", `biosv has no command "atributes"; it has `},
		{"atributes", "did you mean attributes?"},
		{"attributes lst", "did you mean list?"},
		{"attributes xyzzy", `biosv attributes has no command "xyzzy"; it has discard, get, list, pending, registry, reset, save and set` + "\n"},
		{"trust chian", "did you mean chain?"},
		{"trust chain extra", `biosv trust chain takes no argument, and "extra" is one too many`},
		{"completion xyzzy", `biosv completion has no command "xyzzy"; it has bash, fish, powershell and zsh`},
		{"help xyzzy", `biosv has no command "xyzzy"`},
		{"help power xyzzy", `biosv power has no command "xyzzy"`},
		{"power reset On Off", `biosv power reset takes one argument, and "Off" is one too many`},
		{"power reset", "biosv power reset lacks RESET-TYPE: What to do: On, ForceOff,"},
		{"--bogus", "unknown flag: --bogus"},
		{"domain create x", "--domain-kind is missing: What is to stand under its BIOS; Privileged is refused, there is one: Privileged, Simulated, Qemu or Libvirt"},
		{"domain create X --domain-kind Simulated", `NAME "X": text that matches [a-z]`},
		{"operator add x --operator-role boss", `--operator-role "boss": Viewer, Operator or Admin is expected`},
		{"audit --after -1", `--after "-1": a whole number from 0 to 18446744073709551615 is expected`},
		{"audit --most-records 0", `--most-records "0": at least 1 is expected`},
		{"backup", "--file is missing: the file that Archive of the answer is written to"},
		{"restore", "--file is missing: The copy"},
		{"variable export", "biosv variable export lacks VARIABLE-STORE: The variable store"},
		{"variable export no/such/folder/x", "VARIABLE-STORE no/such/folder/x: there is no folder no/such/folder"},
		{"restore --file no/such/file", "no/such/file"},
		{"backup --file no/such/folder/x", "there is no folder no/such/folder"},
	} {
		s := &service{}
		args := strings.Fields(test.args)
		if args[0] != "help" {
			args = append(args, asked...)
		}
		o := s.run(t, "", args...)
		if o.code != exitUsage && !strings.HasPrefix(test.args, "restore --file") || o.code == 0 || o.out != "" {
			t.Errorf("biosv %s: exit code %d, want %d", test.args, o.code, exitUsage)
		}
		if !strings.Contains(o.err, test.want) {
			t.Errorf("biosv %s says %q, want %q", test.args, o.err, test.want)
		}
		if s.request != nil {
			t.Errorf("biosv %s: something was sent", test.args)
		}
	}
}

func TestCompletionKnowsCommandsValuesAndFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "alice.csr", pemText)
	write(t, ".hidden", "")
	if err := os.Mkdir("folder", 0o700); err != nil {
		t.Fatal(err)
	}
	write(t, "folder/bob.csr", pemText)
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"power", "reset", ""}, []string{"On", "ForceOff", "GracefulShutdown", "GracefulRestart", "ForceRestart", "PowerCycle", "Nmi", "PushPowerButton", ":4"}},
		{[]string{"power", "reset", "On", ""}, []string{":4"}},
		{[]string{"operator", "add", "x", "--operator-role", ""}, []string{"Viewer", "Operator", "Admin", ":4"}},
		{[]string{"trust", "install", ""}, []string{"@", ":6"}},
		{[]string{"trust", "install", "@a"}, []string{"@alice.csr", ":4"}},
		{[]string{"trust", "install", "@"}, []string{"@alice.csr", "@folder/", ":6"}},
		{[]string{"trust", "install", "@folder/"}, []string{"@folder/bob.csr", ":4"}},
		{[]string{"trust", "install", "@none/"}, []string{":4"}},
		{[]string{"restore", "--file", ""}, []string{":0"}},
		{[]string{"backup", "--file", ""}, []string{":0"}},
		{[]string{"power", "status", "--soap", ""}, []string{"1.1", "1.2", ":4"}},
		{[]string{"power", "status", "--data", ""}, []string{":16"}},
		{[]string{"power", "status", "--url", ""}, []string{":4"}},
	} {
		o := (&service{}).run(t, "", append([]string{"__completeNoDesc"}, test.args...)...)
		if got := strings.Fields(o.out); !slices.Equal(got, test.want) {
			t.Errorf("%q is completed by %q, want %q", test.args, got, test.want)
		}
	}
	o := (&service{}).run(t, "", "completion", "bash")
	if o.code != 0 || !strings.Contains(o.out, "__start_biosv") {
		t.Errorf("biosv completion bash: exit code %d, %.80q", o.code, o.out)
	}
}

func TestADocumentOfTheAnswerGoesToAFile(t *testing.T) {
	t.Chdir(t.TempDir())
	s := &service{}
	for _, test := range []struct{ args, content, said string }{
		{"backup --file f", "\x00\xff binary 0", "11 bytes in f"},
		{"variable export f", "\x00\xff binary 0", "11 bytes in f"},
		{"trust csr --file f", pemText, "41 bytes in f"},
		{"operator add x --operator-role Viewer --file f", pemText, "41 bytes in f"},
	} {
		o := s.ask(t, strings.Fields(test.args)...)
		content, err := os.ReadFile("f")
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat("f")
		if err != nil {
			t.Fatal(err)
		}
		if string(content) != test.content || info.Mode() != 0o600 {
			t.Errorf("biosv %s wrote %q with the mode %s, want %q and 0600", test.args, content, info.Mode(), test.content)
		}
		if !strings.Contains(o.out, test.said) || strings.Contains(o.out, "BEGIN") {
			t.Errorf("biosv %s said %q, want %q", test.args, o.out, test.said)
		}
		o = s.ask(t, strings.Fields(strings.TrimSuffix(test.args, "f")+"-")...)
		if o.out != test.content || !strings.Contains(o.err, "on standard output") {
			t.Errorf("biosv %s: standard output is %q and standard error %q", test.args, o.out, o.err)
		}
		if err := os.Remove("f"); err != nil {
			t.Fatal(err)
		}
	}
	s.answer = func(_ generated.Call, r generated.Request) (generated.Reply, error) {
		return filled(r.Operation().NewReply(), minimal).(generated.Reply), nil
	}
	o := s.run(t, "", append([]string{"operator", "add", "x", "--operator-role", "Viewer", "--file", "f"}, asked...)...)
	if o.code != exitFailed || !strings.Contains(o.err, "the answer has no CertificatePem: nothing was written to f") || !strings.Contains(o.out, "Viewer") {
		t.Errorf("without a certificate in the answer: exit code %d, %q, %q", o.code, o.out, o.err)
	}
	if left, err := os.ReadDir("."); err != nil || len(left) != 0 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}
