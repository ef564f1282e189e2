package cli

import (
	"fmt"
	"io"
	"os"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"golang.org/x/term"

	"biosv/generated"
)

// printer makes of messages what people read: tables for lists, labels and values for the rest. What it prints holds
// no control character but line breaks of its own, whatever the message says.
type printer struct {
	width int               // of the terminal; 0 where there is none, and nothing is wrapped then
	saved map[string]string // what stands in the place of an element of the answer that went to a file

	out     strings.Builder
	indent  int
	waiting [][2]string // pairs that are aligned with those that may follow
	below   bool        // what comes now stands below a table, and is set apart from it
}

// terminalWidth is the width of the terminal that w is; 0 where it is none.
func terminalWidth(w io.Writer) int {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return 0
	}
	width, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return width
}

// String is what was printed.
func (p *printer) String() string {
	p.flush()
	return p.out.String()
}

// pairs prints labels and values. Those of consecutive calls are aligned together.
func (p *printer) pairs(list [][2]string) { p.waiting = append(p.waiting, list...) }

// reply prints the parts of an answer that a table names: "Element: Column Column; Element Element". An element
// without columns is printed whole.
func (p *printer) reply(reply generated.Reply, table string) {
	name, v, err := shapeOf(reply)
	if err != nil {
		p.line(err.Error())
		return
	}
	for part := range strings.SplitSeq(table, ";") {
		path, columns, tabular := strings.Cut(part, ":")
		if tabular {
			last, found := follow(name, []reflect.Value{v}, strings.TrimSpace(path))
			p.table(last, strings.Fields(columns), found)
			continue
		}
		paths := strings.Fields(path)
		for _, path := range paths {
			f, found := follow(name, []reflect.Value{v}, path)
			p.element(f, found, path == strings.TrimSpace(table))
		}
	}
}

// follow gives the elements that a path such as Thermal.Sensor leads to, and the last element's field.
func follow(name string, from []reflect.Value, path string) (last generated.Field, found []reflect.Value) {
	found = from
	for step := range strings.SplitSeq(path, ".") {
		last = generated.Field{Name: step}
		for _, f := range generated.Types[name] {
			if f.Name == step {
				last = f
			}
		}
		var next []reflect.Value
		for _, v := range found {
			values, _ := elements(v, last)
			next = append(next, values...)
		}
		name, found = last.Type, next
	}
	return last, found
}

// element prints one element of an answer; alone tells whether there is nothing else to print.
func (p *printer) element(f generated.Field, found []reflect.Value, alone bool) {
	switch {
	case p.saved[f.Name] != "":
		p.pairs([][2]string{{label(f.Name), p.saved[f.Name]}})
	case f.Kind == generated.Complex && f.Many:
		p.section(f, found)
	case f.Kind == generated.Complex && alone && len(found) == 1:
		p.structure(f.Type, found[0])
		if p.String() == "" {
			p.pairs([][2]string{{label(f.Name), "none"}}) // all of it is optional, and absent
		}
	case f.Kind == generated.Complex:
		p.section(f, found)
	case document(f.Name):
		for _, v := range found {
			p.gap()
			p.line(strings.TrimSuffix(plain(v.String(), true), "\n"))
		}
	default:
		p.pairs([][2]string{{label(f.Name), lines(f, found)}})
	}
}

// structure prints the elements of a complex type: first those that have a value, then those that are complex.
func (p *printer) structure(name string, v reflect.Value) {
	for _, f := range generated.Types[name] {
		if values, ok := elements(v, f); ok && f.Kind != generated.Complex && len(values) > 0 {
			p.pairs([][2]string{{label(f.Name), lines(f, values)}})
		}
	}
	for _, f := range generated.Types[name] {
		if values, _ := elements(v, f); f.Kind == generated.Complex && len(values) > 0 {
			p.section(f, values)
		}
	}
}

// section prints a complex element under a heading of its own.
func (p *printer) section(f generated.Field, values []reflect.Value) {
	p.gap()
	if len(values) == 0 {
		p.line("No " + inSentence(plural(f.Name)) + ".")
		return
	}
	if f.Many {
		p.line(plural(f.Name))
	} else {
		p.line(label(f.Name))
	}
	p.indent += 2
	if columns, flat := scalars(f.Type); f.Many && flat {
		p.rows(f.Type, columns, values)
	} else {
		for i, v := range values {
			if i > 0 {
				p.gap()
			}
			p.structure(f.Type, v)
		}
	}
	p.flush()
	p.indent -= 2
}

// scalars are the columns of a type that holds no complex element.
func scalars(name string) (columns []string, flat bool) {
	for _, f := range generated.Types[name] {
		if f.Kind == generated.Complex {
			return nil, false
		}
		columns = append(columns, f.Name)
	}
	return columns, true
}

// table prints a list as a table, or says in words that it is empty.
func (p *printer) table(f generated.Field, columns []string, values []reflect.Value) {
	p.gap()
	if len(values) == 0 {
		p.line("No " + inSentence(plural(f.Name)) + ".")
		return
	}
	p.rows(f.Type, columns, values)
}

func (p *printer) rows(name string, columns []string, values []reflect.Value) {
	g := &grid{}
	for _, c := range columns {
		f, _ := follow(name, nil, c)
		g.head = append(g.head, label(strings.ReplaceAll(c, ".", "")))
		if strings.Contains(c, ".") {
			g.head[len(g.head)-1] = label(c[:strings.Index(c, ".")])
		}
		g.right = append(g.right, f.Kind == generated.Integer && !f.Many)
	}
	for _, v := range values {
		var row []string
		for _, c := range columns {
			f, found := follow(name, []reflect.Value{v}, c)
			row = append(row, cell(f, found))
		}
		g.rows = append(g.rows, row)
	}
	for _, line := range g.lines(p.room()) {
		p.line(line)
	}
	p.below = true
}

// cell is the text of an element's values. An empty text is shown as "", to tell it from none.
func cell(f generated.Field, values []reflect.Value) string {
	var list []string
	for _, v := range values {
		list = append(list, show(f, v))
	}
	return strings.Join(list, ", ")
}

func show(f generated.Field, v reflect.Value) string {
	if secret(f.Name) {
		return "(not shown)"
	}
	switch f.Kind {
	case generated.Boolean:
		if v.Bool() {
			return "yes"
		}
		return "no"
	case generated.Integer:
		return integer(v)
	case generated.Binary:
		return fmt.Sprintf("%d bytes", v.Len())
	case generated.DateTime:
		return moment(v).UTC().Format(time.RFC3339) // the fractions of a second are for --json
	case generated.Complex:
		var parts []string
		for _, inner := range generated.Types[f.Type] {
			if values, ok := elements(v, inner); ok && len(values) > 0 {
				parts = append(parts, label(inner.Name)+" "+cell(inner, values))
			}
		}
		return strings.Join(parts, "; ")
	}
	if v.String() == "" {
		return `""`
	}
	return plain(v.String(), false)
}

// lines is like [cell], but gives sentences a line each, and says in words that there is no value.
func lines(f generated.Field, values []reflect.Value) string {
	var list []string
	separator := ", "
	for _, v := range values {
		text := show(f, v)
		if strings.Contains(text, " ") {
			separator = "\n"
		}
		list = append(list, text)
	}
	if len(list) == 0 {
		return "none"
	}
	return strings.Join(list, separator)
}

// fault prints a fault: its sentence, then what else it says.
func (p *printer) fault(f generated.Fault) {
	name, v, err := shapeOf(f)
	if err != nil {
		p.line("biosv: " + plain(f.Error(), false))
		return
	}
	for _, line := range wrap("biosv: "+plain(f.Error(), false), p.room()) {
		p.line(line)
	}
	p.indent += 2
	p.pairs([][2]string{{"Fault", f.Info().Name}})
	for _, field := range generated.Types[name] {
		values, _ := elements(v, field)
		switch {
		case len(values) == 0 || field.Name == "Message" || field.Name == "MessageId":
		case field.Kind == generated.Complex:
			var columns []string
			for _, inner := range generated.Types[field.Type] {
				if inner.Name != "MessageId" {
					columns = append(columns, inner.Name)
				}
			}
			p.gap()
			p.rows(field.Type, columns, values)
		default:
			p.pairs([][2]string{{label(field.Name), lines(field, values)}})
		}
	}
	p.flush()
	p.indent -= 2
}

// room is the width that is left; 0 means that it has no bound.
func (p *printer) room() int {
	if p.width == 0 {
		return 0
	}
	return max(p.width-p.indent, 20)
}

func (p *printer) line(text string) {
	p.flush()
	for l := range strings.SplitSeq(text, "\n") {
		if l = strings.TrimRight(l, " "); l != "" {
			p.out.WriteString(strings.Repeat(" ", p.indent) + l)
		}
		p.out.WriteByte('\n')
	}
}

// gap leaves a line free, where something stands above.
func (p *printer) gap() {
	p.flush()
	p.below = false
	if p.out.Len() > 0 && !strings.HasSuffix(p.out.String(), "\n\n") {
		p.out.WriteByte('\n')
	}
}

// flush prints the pairs that wait.
func (p *printer) flush() {
	list := p.waiting
	p.waiting = nil
	if len(list) > 0 && p.below {
		p.gap()
	}
	labels := 0
	for _, pair := range list {
		labels = max(labels, utf8.RuneCountInString(pair[0]))
	}
	room := 0
	if p.room() > 0 {
		room = max(p.room()-labels-2, 10)
	}
	for _, pair := range list {
		for i, text := range wrap(pair[1], room) {
			head := pair[0]
			if i > 0 {
				head = ""
			}
			p.line(pad(head, labels, false) + "  " + text)
		}
	}
}

// plain makes text from outside fit to be shown: what is no printable character is written as Go writes it, so that
// nothing reaches the terminal that it would obey. multiline lets line breaks stand.
func plain(text string, multiline bool) string {
	var b strings.Builder
	for i, r := range text {
		_, size := utf8.DecodeRuneInString(text[i:])
		switch {
		case r == '\n' && multiline, unicode.IsPrint(r) && !(r == utf8.RuneError && size == 1):
			b.WriteRune(r)
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, text[i])
		case r == '\r' && multiline && strings.HasPrefix(text[i:], "\r\n"):
		case unicode.IsSpace(r) && r != '\n' && r != '\r' && r != '\u2028' && r != '\u2029' && r != '\u0085' && r != '\v' && r != '\f':
			b.WriteByte(' ')
		default:
			quoted := strconv.QuoteRune(r)
			b.WriteString(quoted[1 : len(quoted)-1])
		}
	}
	return b.String()
}
