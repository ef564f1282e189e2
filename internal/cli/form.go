package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"biosv/generated"
)

// form is a command as it is filled in: the elements of the request, and what was given for each.
type form struct {
	spec      *generated.Command
	operation *generated.Operation
	shape     string   // name of the request's type
	entries   []*entry // in the order of the contract
	arguments []*entry // those given without a flag, in their order
	answer    *generated.Field
	file      *entry // the argument that names where the element answer of the answer goes to; nil where that is --file
	save      string // that place
}

// entry is an element of the request and what was given for it. It is the [pflag.Value] of its flag.
type entry struct {
	field    generated.Field
	name     string // as people see it: --request-pem, or NAME for an argument
	argument bool
	set      bool // by the command itself
	given    []string
}

// String is part of [pflag.Value]; it shows no secret.
func (e *entry) String() string {
	if secret(e.field.Name) {
		return ""
	}
	return strings.Join(e.given, " ")
}

// Set is part of [pflag.Value]: where one is wanted, the last counts.
func (e *entry) Set(text string) error {
	if !e.field.Many {
		e.given = nil
	}
	e.given = append(e.given, text)
	return nil
}

// Type is part of [pflag.Value].
func (e *entry) Type() string {
	if secret(e.field.Name) {
		return "secret"
	}
	switch e.field.Kind {
	case generated.Boolean:
		return "bool"
	case generated.Integer:
		return "number"
	case generated.DateTime:
		return "time"
	case generated.Binary:
		return "file"
	case generated.Complex:
		return notation(e.field)
	}
	return "text"
}

func newForm(c *generated.Command) *form {
	f := &form{spec: c}
	for i := range generated.Operations {
		if generated.Operations[i].Name == c.Operation {
			f.operation = &generated.Operations[i]
		}
	}
	f.shape = reflect.TypeOf(f.operation.NewRequest()).Elem().Name()
	for _, field := range generated.Types[reflect.TypeOf(f.operation.NewReply()).Elem().Name()] {
		if field.Kind == generated.Binary || document(field.Name) {
			f.answer = &field
		}
	}
	for _, field := range generated.Types[f.shape] {
		e := &entry{field: field, name: "--" + kebab(field.Name), argument: slices.Contains(c.Arguments, field.Name)}
		switch {
		case e.argument:
			e.name = notation(field)
		case field.Kind == generated.Binary && f.answer == nil:
			e.name = "--file"
		}
		for _, s := range c.Set {
			if s[0] == field.Name {
				e.set, e.given = true, []string{s[1]}
			}
		}
		f.entries = append(f.entries, e)
	}
	for _, name := range c.Arguments {
		i := slices.IndexFunc(f.entries, func(e *entry) bool { return e.field.Name == name })
		if i < 0 { // of the answer
			f.file = &entry{field: *f.answer, name: notation(*f.answer), argument: true}
			f.arguments = append(f.arguments, f.file)
			continue
		}
		f.arguments = append(f.arguments, f.entries[i])
	}
	return f
}

// command makes a command of the form.
func (f *form) command(s *session, c *cobra.Command) {
	use := []string{f.spec.Words[len(f.spec.Words)-1]}
	for _, a := range f.arguments {
		word := a.name
		if a.field.Many {
			word += "..."
		}
		if a.field.Optional {
			word = "[" + word + "]"
		}
		use = append(use, word)
	}
	c.Use = strings.Join(append(use, "[flags]"), " ")
	c.DisableFlagsInUseLine = true
	c.Short, c.Long, c.Example = f.short(), f.long(), "  "+f.spec.Example
	c.Args = f.count
	c.RunE = func(c *cobra.Command, args []string) error { return s.ask(c, f, args) }
	c.ValidArgsFunction = func(_ *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		if a := f.argument(len(args)); a != nil {
			return a.complete(word)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	c.Flags().SortFlags = false
	for _, e := range f.entries {
		if e.argument || e.set {
			continue
		}
		text := e.usage()
		if !e.field.Optional {
			text += " (required)"
		}
		flag := c.Flags().VarPF(e, strings.TrimPrefix(e.name, "--"), "", text)
		if e.field.Kind == generated.Boolean {
			flag.NoOptDefVal = "true"
		}
		_ = c.RegisterFlagCompletionFunc(flag.Name, func(_ *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
			return e.complete(word)
		})
	}
	if f.answer != nil && f.file == nil {
		c.Flags().StringVar(&f.save, "file", "", fmt.Sprintf("`file` that %s of the answer is written to; - is standard output", f.answer.Name))
	}
}

// short is what a list of commands says of this one.
func (f *form) short() string {
	text, _, _ := strings.Cut(f.spec.Doc, ". ")
	text = strings.TrimSuffix(text, ".")
	for _, s := range f.spec.Set {
		text += ", " + inSentence(label(s[0])) + " " + s[1]
	}
	return text
}

func (f *form) long() string {
	b := strings.Builder{}
	for _, line := range wrap(f.spec.Doc, helpWidth) {
		b.WriteString(line + "\n")
	}
	for _, s := range f.spec.Set {
		fmt.Fprintf(&b, "\nThis command sets %s to %s.\n", s[0], s[1])
	}
	if len(f.arguments) > 0 {
		b.WriteString("\nArguments:\n")
		for _, a := range f.arguments {
			fmt.Fprintf(&b, "  %s   %s\n", a.name, a.usage())
		}
	}
	where := ""
	switch f.operation.Scope {
	case generated.HostScope:
		where = " It is asked of the privileged domain, at the service's own address."
	case generated.ChannelScope:
		where = " Any address answers it."
	}
	who := "The operation " + f.operation.Name + " is answered to anyone."
	if role := f.operation.Role.String(); role != "anyone" {
		who = "The operation " + f.operation.Name + " asks for the role " + sentenceCase(role) + "."
	}
	fmt.Fprintf(&b, "\n%s%s", who, where)
	return b.String()
}

// usage says what an element is for, and how it is written.
func (e *entry) usage() string {
	text := strings.TrimSuffix(e.field.Doc, ".")
	switch {
	case e.argument && e.field.Kind == generated.Binary:
		text += "; a file, - is standard input or output"
	case secret(e.field.Name):
		text += "; - asks for it, @FILE reads it (default: $" + variable(e.field.Name) + ")"
	case document(e.field.Name):
		text += "; @FILE reads it"
	case e.field.Kind == generated.Enumeration:
		text += ": " + list(e.field.Values, "or")
	case e.field.Kind == generated.Complex:
		text += "; see biosv help values"
	}
	return text
}

// complete proposes values. A word that begins with an @ names a file.
func (e *entry) complete(word string) ([]string, cobra.ShellCompDirective) {
	switch e.field.Kind {
	case generated.Enumeration:
		return e.field.Values, cobra.ShellCompDirectiveNoFileComp
	case generated.Boolean:
		return []string{"true", "false"}, cobra.ShellCompDirectiveNoFileComp
	case generated.Binary:
		return nil, cobra.ShellCompDirectiveDefault
	case generated.String:
		path, ok := strings.CutPrefix(word, "@")
		if !ok && document(e.field.Name) && word == "" {
			return []string{"@"}, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
		if ok {
			return files(path)
		}
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

// files are the files that begin with a path, with an @ before each.
func files(path string) ([]string, cobra.ShellCompDirective) {
	dir, begin := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean("./" + dir))
	if filepath.IsAbs(dir) {
		entries, err = os.ReadDir(dir)
	}
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	directive := cobra.ShellCompDirectiveNoFileComp
	var found []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), begin) || begin == "" && strings.HasPrefix(e.Name(), ".") {
			continue
		}
		name := "@" + dir + e.Name()
		if e.IsDir() {
			name += "/"
			directive |= cobra.ShellCompDirectiveNoSpace
		}
		found = append(found, name)
	}
	return found, directive
}

// argument is what the argument at a place stands for; the last takes all that follow, where it is repeated.
func (f *form) argument(at int) *entry {
	if at < len(f.arguments) {
		return f.arguments[at]
	}
	if n := len(f.arguments); n > 0 && f.arguments[n-1].field.Many {
		return f.arguments[n-1]
	}
	return nil
}

// count checks how many arguments are given.
func (f *form) count(c *cobra.Command, args []string) error {
	for i, a := range f.arguments {
		if i >= len(args) && !a.field.Optional {
			return usage("%s lacks %s: %s", c.CommandPath(), a.name, a.usage())
		}
	}
	for i, arg := range args {
		if f.argument(i) != nil {
			continue
		}
		if c.HasAvailableSubCommands() {
			return unknownCommand(c, arg)
		}
		return usage("%s takes %s, and %q is one too many", c.CommandPath(), arguments(len(f.arguments)), plain(arg, false))
	}
	return nil
}

func arguments(n int) string {
	switch n {
	case 0:
		return "no argument"
	case 1:
		return "one argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// take takes the arguments.
func (f *form) take(args []string) error {
	for i, arg := range args {
		if err := f.argument(i).Set(arg); err != nil {
			return err
		}
	}
	if f.file != nil {
		f.save = f.file.String()
	}
	return nil
}

// request makes the request of what was given.
func (f *form) request(src *source) (generated.Request, error) {
	request := f.operation.NewRequest()
	message := reflect.ValueOf(request).Elem()
	for _, e := range f.entries {
		values, err := e.values(src, elementType(message, e.field))
		if err != nil {
			return nil, err
		}
		if len(values) == 0 && !e.field.Optional {
			return nil, usage("%s is missing: %s", e.name, e.usage())
		}
		for _, v := range values {
			put(message, e.field, v)
		}
	}
	return request, nil
}

// values reads what was given for an element.
func (e *entry) values(src *source, t reflect.Type) ([]reflect.Value, error) {
	given := e.given
	if secret(e.field.Name) && len(given) == 0 {
		name := variable(e.field.Name)
		text := os.Getenv(name)
		if text == "" {
			return nil, nil
		}
		return []reflect.Value{reflect.ValueOf(text).Convert(t)}, sendable("$"+name, text)
	}
	if key, value, ok := pair(e.field); ok {
		return e.pairs(src, t, key, value)
	}
	var values []reflect.Value
	for _, word := range given {
		if e.field.Kind == generated.Complex {
			objects, err := e.objects(src, t, word)
			if err != nil {
				return nil, err
			}
			values = append(values, objects...)
			continue
		}
		v, err := e.value(src, t, word)
		if err != nil {
			return nil, err
		}
		values = append(values, v)
	}
	return values, nil
}

// value reads one word for an element that is no pair.
func (e *entry) value(src *source, t reflect.Type, word string) (reflect.Value, error) {
	none := reflect.Value{}
	switch e.field.Kind {
	case generated.Binary:
		if word == "" {
			return none, usage("%s: the name of a file is expected", e.name)
		}
		content, err := src.file(e.name, word, mostBinary)
		if err != nil {
			return none, err
		}
		return reflect.ValueOf(content).Convert(t), nil
	case generated.String:
		text, err := e.text(src, e.field.Name, word, true)
		if err != nil {
			return none, err
		}
		word = text
	}
	v, err := scalar(e.field, t, word)
	if err != nil && (secret(e.field.Name) || len(word) > 80) {
		return none, usage("%s: %w", e.name, err) // it may be a whole file
	} else if err != nil {
		return none, usage("%s %q: %w", e.name, word, err)
	}
	return v, nil
}

// text reads a text that goes into what is called name; files tells whether @FILE means a file.
func (e *entry) text(src *source, name, word string, files bool) (text string, err error) {
	own := name == e.field.Name // else it is the value of a pair, and a secret would be a new one
	what := name
	if own {
		what = e.name
	}
	switch {
	case secret(name):
		text, err = src.secret(what, word, !own)
	case files:
		text, err = src.text(what, word)
	default:
		text = word
	}
	if err != nil {
		return "", err
	}
	return text, sendable(what, text)
}

// sendable refuses text that XML 1.0 cannot hold (section 2.2), without repeating it.
func sendable(what, text string) error {
	for at, r := range text {
		_, size := utf8.DecodeRuneInString(text[at:])
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0xfffe || r == 0xffff || r == utf8.RuneError && size == 1 {
			return usage("%s: text in UTF-8 without control characters is expected, and byte %d is none", what, at)
		}
	}
	return nil
}

// objects reads a JSON object, or where the element is repeated an array of them.
func (e *entry) objects(src *source, t reflect.Type, word string) (values []reflect.Value, err error) {
	text, err := src.text(e.name, word)
	if err != nil {
		return nil, err
	}
	list := []json.RawMessage{json.RawMessage(text)}
	if e.field.Many && strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "[") {
		if err := json.Unmarshal([]byte(text), &list); err != nil {
			return nil, usage("%s: a JSON array of objects of the type %s is expected: %w", e.name, e.field.Type, err)
		}
	}
	for _, object := range list {
		v := reflect.New(t).Elem()
		if err := unmarshal(object, e.field.Type, v); err != nil {
			return nil, usage("%s: %w", e.name, err)
		}
		values = append(values, v)
	}
	return values, nil
}

// pair tells whether a complex type can be written KEY=VALUE: it is a text that must be there, and then a text or any
// number of them.
func pair(f generated.Field) (key, value generated.Field, ok bool) {
	fields := generated.Types[f.Type]
	if f.Kind != generated.Complex || len(fields) != 2 || fields[0].Many || fields[0].Optional || fields[0].Kind != generated.String || fields[1].Kind != generated.String {
		return key, value, false
	}
	return fields[0], fields[1], true
}

// notation is how an element is written on the command line, for a usage line.
func notation(f generated.Field) string {
	if key, _, ok := pair(f); ok {
		return strings.ToUpper(kebab(key.Name)) + "=VALUE"
	} else if f.Kind == generated.Complex {
		return "JSON"
	}
	return strings.ToUpper(kebab(f.Name))
}

// pairs reads words of the form KEY=VALUE, for one value, and KEY:=VALUE,VALUE for a list, which may be empty. Words of
// the same key make one list. A word that begins as JSON does, or names a file, is read as JSON.
func (e *entry) pairs(src *source, t reflect.Type, key, value generated.Field) (values []reflect.Value, err error) {
	known := map[string]reflect.Value{}
	for _, word := range e.given {
		if word != "" && strings.Contains("{[@", word[:1]) {
			objects, err := e.objects(src, t, word)
			if err != nil {
				return nil, err
			}
			values = append(values, objects...)
			continue
		}
		name, text, ok := strings.Cut(word, "=")
		name, many := strings.CutSuffix(name, ":")
		if !ok || name == "" {
			return nil, usage("%s is expected, and %s is something else; see biosv help values", e.name, beginning(word))
		}
		if many && (!value.Many || secret(name)) {
			return nil, usage("%s: one value is expected, and := gives a list", name)
		}
		v, ok := known[name]
		if !ok || !value.Many {
			v = reflect.New(t).Elem()
			k, err := scalar(key, elementType(v, key), name)
			if err != nil {
				return nil, usage("%q: %w", name, err)
			}
			put(v, key, k)
			known[name] = v
			values = append(values, v)
		}
		items := []string{text}
		if many && text == "" {
			items = nil
		} else if many {
			items = strings.Split(text, ",")
		}
		for _, item := range items {
			if item, err = e.text(src, name, item, !many); err != nil {
				return nil, err
			}
			put(v, value, reflect.ValueOf(item).Convert(elementType(v, value)))
		}
	}
	return values, nil
}

// beginning is how a word begins that is not what it should be: the rest may be secret.
func beginning(word string) string {
	end := strings.IndexFunc(word, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	switch {
	case end < 0:
		return strconv.Quote(word)
	case end == 0:
		return "what was given"
	}
	return strconv.Quote(word[:end]) + " and what follows it"
}

// destination is the file that the answer's document goes to; empty for none.
func (f *form) destination(json bool) (string, error) {
	if f.answer == nil || f.save != "" {
		return f.save, f.writable()
	}
	if f.answer.Kind == generated.Binary && !json {
		return "", usage("%s is missing: the file that %s of the answer is written to; - is standard output", f.place(), f.answer.Name)
	}
	return "", nil
}

// place is what names the file of the answer's document.
func (f *form) place() string {
	if f.file != nil {
		return f.file.name
	}
	return "--file"
}

// writable finds out before anything is asked for whether the answer's document can be kept.
func (f *form) writable() error {
	if f.save == "" || f.save == "-" {
		return nil
	}
	if info, err := os.Stat(filepath.Dir(f.save)); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return usage("%s %s: there is no folder %s", f.place(), f.save, filepath.Dir(f.save))
	}
	if info, err := os.Stat(f.save); err == nil && info.IsDir() {
		return usage("%s %s: that is a folder", f.place(), f.save)
	}
	return nil
}

// document is the answer's document; nil where the answer has none.
func (f *form) document(reply generated.Reply) []byte {
	values, ok := elements(reflect.ValueOf(reply).Elem(), *f.answer)
	switch {
	case !ok:
		return nil
	case f.answer.Kind == generated.Binary:
		return values[0].Bytes()
	}
	return []byte(values[0].String())
}
