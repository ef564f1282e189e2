package xmltext_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"biosv/envelope/xmltext"
)

func TestWriterEscapesSoThatAReaderReadsTheSame(t *testing.T) {
	t.Parallel()
	const text = "<&>\"' \t\r\n]]> é 😀 \u0085\u2028\ufffd"
	w := xmltext.NewWriter()
	defer w.Release()
	w.Start("", "v", "a", text, "b", "")
	w.Text(text)
	w.Close()
	if w.Err() != nil {
		t.Fatal(w.Err())
	}
	n, err := xmltext.Tree(w.Bytes(), xmltext.DefaultLimits)
	if err != nil || n.Children[0].Text != text || n.Attributes[0].Value != text || n.Attributes[1].Value != "" {
		t.Errorf("%+v, %v\n%s", n, err, w.Bytes())
	}
}

func TestWriterWritesValuesInOneForm(t *testing.T) {
	t.Parallel()
	for want, do := range map[string]func(*xmltext.Writer){
		"<b:v>true</b:v>":                 func(w *xmltext.Writer) { w.Bool("v", true) },
		"<b:v>false</b:v>":                func(w *xmltext.Writer) { w.Bool("v", false) },
		"<b:v>-9223372036854775808</b:v>": func(w *xmltext.Writer) { w.Int64("v", -1<<63) },
		"<b:v>18446744073709551615</b:v>": func(w *xmltext.Writer) { w.Uint64("v", 1<<64-1) },
		"<b:v></b:v>":                     func(w *xmltext.Writer) { w.Base64("v", nil) },
		"<b:v>AP+AQQ==</b:v>":             func(w *xmltext.Writer) { w.Base64("v", []byte{0, 0xff, 0x80, 'A'}) },
		"<b:v>0001-01-01T00:00:00Z</b:v>": func(w *xmltext.Writer) { w.DateTime("v", time.Time{}) },
		"<b:v>2006-01-02T14:04:05.5Z</b:v>": func(w *xmltext.Writer) {
			w.DateTime("v", time.Date(2006, 1, 2, 15, 4, 5, 5e8, time.FixedZone("", 3600)))
		},
		"<b:v>9999-12-31T23:59:59.999999999Z</b:v>": func(w *xmltext.Writer) { w.DateTime("v", time.Date(9999, 12, 31, 23, 59, 59, 999999999, time.UTC)) },
		"<b:v>a&amp;b</b:v>":                        func(w *xmltext.Writer) { w.String("v", "a&b") },
		`<b:v xmlns:b="u"><b:w></b:w></b:v>`:        func(w *xmltext.Writer) { w.OpenNamespace("u", "v"); w.Open("w"); w.Close(); w.Close() },
	} {
		w := xmltext.NewWriter()
		if do(w); w.Err() != nil || string(w.Bytes()) != want {
			t.Errorf("%s, %v; want %s", w.Bytes(), w.Err(), want)
		}
		w.Release()
	}
}

// What XML cannot hold, and what a type cannot, is an error that says where; the first stays.
func TestWriterRefusesWhatCannotBeRead(t *testing.T) {
	t.Parallel()
	for text, says := range map[string]string{
		"a\x00b": `byte 1 begins "\x00"`, "\x1b": `"\x1b"`, "a\xffb": `"\xff"`, "\xed\xa0\x80": `"\xed"`, "\ufffe": `\ufffe`, "\uffff": `\uffff`, "é\xc3": `byte 2`, "\x7f\x80": `byte 1`,
	} {
		w := xmltext.NewWriter()
		w.Start("", "outer")
		w.Text(text)
		w.Text("\x01")
		if err := w.Err(); err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "outer") {
			t.Errorf("%q: %v", text, err)
		}
		w.Release()
	}
	for name, do := range map[string]func(*xmltext.Writer){
		"a year of five digits": func(w *xmltext.Writer) { w.DateTime("v", time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)) },
		"a year before the first": func(w *xmltext.Writer) {
			w.DateTime("v", time.Date(1, 1, 1, 0, 0, 0, 0, time.FixedZone("", 3600)))
		},
		"an end too many": func(w *xmltext.Writer) { w.Close() },
		"an attribute":    func(w *xmltext.Writer) { w.Start("", "v", "a", "\x00") },
		"what it is told": func(w *xmltext.Writer) { w.Fail(errors.New("x")); w.Fail(errors.New("y")) },
	} {
		w := xmltext.NewWriter()
		if do(w); w.Err() == nil || w.Err().Error() == "y" {
			t.Errorf("%s: %v", name, w.Err())
		}
		if w.Reset(); w.Err() != nil || len(w.Bytes()) > 0 {
			t.Errorf("%s, after a reset: %v, %q", name, w.Err(), w.Bytes())
		}
		w.Release()
	}
}

func TestWriterReplacesWhereItIsTold(t *testing.T) {
	t.Parallel()
	w := xmltext.NewWriter()
	defer w.Release()
	w.Replace()
	w.Start("", "v", "a", "\x00&\xff")
	w.Text("a\x00b\xff\xfe<é\ufffe\xed\xa0\x80>\x1b")
	w.Close()
	const want = "<v a=\"\ufffd&amp;\ufffd\">a\ufffdb\ufffd\ufffd&lt;é\ufffd\ufffd\ufffd\ufffd&gt;\ufffd</v>"
	if w.Err() != nil || string(w.Bytes()) != want {
		t.Errorf("%v\n%s\n%s", w.Err(), w.Bytes(), want)
	}
	if _, err := xmltext.Tree(w.Bytes(), xmltext.DefaultLimits); err != nil {
		t.Error(err)
	}
	w.Reset()
	if w.Text("\x00"); w.Err() == nil {
		t.Error("it replaces after a reset too")
	}
}
