package xmltext_test

import (
	"bytes"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"biosv/envelope/xmltext"
)

// Each text is in the lexical space of its type and stands for the value, or is not (XML Schema Part 2, second
// edition, the section named).
func TestDateTime(t *testing.T) { // 3.2.7
	t.Parallel()
	at := func(text string) time.Time {
		v, err := time.Parse(time.RFC3339Nano, text)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	for _, c := range []struct {
		text, want string // in UTC; empty: none
		zoned      bool
	}{
		{"2006-01-02T15:04:05Z", "2006-01-02T15:04:05Z", true},
		{" \t\r\n2006-01-02T15:04:05Z \t", "2006-01-02T15:04:05Z", true},
		{"2006-01-02T15:04:05", "2006-01-02T15:04:05Z", false},
		{"2006-01-02T15:04:05+00:00", "2006-01-02T15:04:05Z", true},
		{"2006-01-02T15:04:05-00:00", "2006-01-02T15:04:05Z", true},
		{"2006-01-02T15:04:05+01:30", "2006-01-02T13:34:05Z", true},
		{"2006-01-02T15:04:05-14:00", "2006-01-03T05:04:05Z", true},
		{"2006-01-02T05:04:05+14:00", "2006-01-01T15:04:05Z", true},
		{"2006-01-02T15:04:05.5Z", "2006-01-02T15:04:05.5Z", true},
		{"2006-01-02T15:04:05.000Z", "2006-01-02T15:04:05Z", true},
		{"2006-01-02T15:04:05.123456789Z", "2006-01-02T15:04:05.123456789Z", true},
		{"2006-01-02T15:04:05.1234567899999Z", "2006-01-02T15:04:05.123456789Z", true},
		{"2006-01-02T15:04:05.000000000000000000000000000001Z", "2006-01-02T15:04:05Z", true},
		{"2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z", true},
		{"2000-02-29T00:00:00Z", "2000-02-29T00:00:00Z", true},
		{"2006-01-31T24:00:00Z", "2006-02-01T00:00:00Z", true},
		{"2006-12-31T24:00:00.000Z", "2007-01-01T00:00:00Z", true},
		{"2024-02-28T24:00:00+01:00", "2024-02-28T23:00:00Z", true},
		{"0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z", true},
		{"9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z", true},

		{text: "2023-02-29T00:00:00Z"}, {text: "1900-02-29T00:00:00Z"}, {text: "2006-04-31T00:00:00Z"}, {text: "2006-00-01T00:00:00Z"},
		{text: "2006-13-01T00:00:00Z"}, {text: "2006-01-00T00:00:00Z"}, {text: "2006-01-32T00:00:00Z"},
		{text: "2006-01-02T24:00:01Z"}, {text: "2006-01-02T24:01:00Z"}, {text: "2006-01-02T24:00:00.1Z"}, {text: "2006-01-02T24:00:00.0000000001Z"},
		{text: "2006-01-02T25:00:00Z"}, {text: "2006-01-02T15:60:05Z"}, {text: "2006-01-02T15:04:60Z"},
		{text: "2006-01-02T15:04:05+14:01"}, {text: "2006-01-02T15:04:05+15:00"}, {text: "2006-01-02T15:04:05+01:60"}, {text: "2006-01-02T15:04:05+1:00"},
		{text: "2006-01-02T15:04:05+0100"}, {text: "2006-01-02T15:04:05+01"}, {text: "2006-01-02T15:04:05z"}, {text: "2006-01-02T15:04:05ZZ"}, {text: "2006-01-02T15:04:05++1:00"},
		{text: "2006-01-02t15:04:05Z"}, {text: "2006-01-02 15:04:05Z"}, {text: "2006-01-02"}, {text: "15:04:05Z"}, {text: ""}, {text: "now"},
		{text: "2006-1-2T15:04:05Z"}, {text: "06-01-02T15:04:05Z"}, {text: "2006-01-02T15:04Z"}, {text: "2006-01-02T15:04:05.Z"}, {text: "2006-01-02T15:04:05,5Z"},
		{text: "2006-01-02T15:04:05. 5Z"}, {text: "٢٠٠٦-01-02T15:04:05Z"}, {text: "2006-01-02T15:04:0xZ"},
		// Years beyond the four digits are valid, and no time that is told of here.
		{text: "0000-01-01T00:00:00Z"}, {text: "-0001-01-01T00:00:00Z"}, {text: "12006-01-02T15:04:05Z"}, {text: "0001-01-01T00:00:00+01:00"}, {text: "9999-12-31T24:00:00Z"},
	} {
		zoned := false
		got, err := value(c.text, func(r *xmltext.Reader) (v time.Time) { v, zoned = r.DateTime("dateTime"); return v })
		switch {
		case c.want == "":
			lexical(t, c.text, err)
		case err != nil || !got.Equal(at(c.want)) || zoned != c.zoned || got.Location() != time.UTC:
			t.Errorf("%q is %s, zoned %t, %v; want %s", c.text, got, zoned, err, c.want)
		}
	}
}

// lexical asserts that a text was refused as none of its type.
func lexical(t *testing.T, text string, err error) {
	t.Helper()
	var e *xmltext.SchemaError
	if !errors.As(err, &e) || e.Rule != "cvc-datatype-valid.1.2.1" || e.Path != "/v" || e.Expected == "" {
		t.Errorf("%q: %v", text, err)
	}
}

func TestBoolean(t *testing.T) { // 3.2.2
	t.Parallel()
	for text, want := range map[string]bool{"true": true, "1": true, "false": false, "0": false, " \n1\t": true, "&#116;rue": true, "t<!-- -->rue": true, "<![CDATA[false]]>": false} {
		if got, err := value(text, func(r *xmltext.Reader) bool { return r.Bool("boolean") }); err != nil || got != want {
			t.Errorf("%q is %t, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "TRUE", "True", "yes", "2", "00", "t", "tr ue", "+1", "\u00a0true"} {
		_, err := value(text, func(r *xmltext.Reader) bool { return r.Bool("boolean") })
		lexical(t, text, err)
	}
}

func TestIntegers(t *testing.T) { // 3.3.13 to 3.3.24
	t.Parallel()
	for _, c := range []struct {
		text string
		bits int
		want int64
	}{
		{"0", 32, 0}, {"-0", 32, 0}, {"+0", 32, 0}, {"+5", 32, 5}, {"-5", 32, -5}, {"0005", 32, 5}, {" 5\n", 32, 5}, {"&#53;", 32, 5},
		{"2147483647", 32, math.MaxInt32}, {"-2147483648", 32, math.MinInt32}, {"32767", 16, math.MaxInt16}, {"-32768", 16, math.MinInt16},
		{"9223372036854775807", 64, math.MaxInt64}, {"-9223372036854775808", 64, math.MinInt64}, {strings.Repeat("0", 1000) + "7", 64, 7},
	} {
		if got, err := value(c.text, func(r *xmltext.Reader) int64 { return r.Int64("int", c.bits) }); err != nil || got != c.want {
			t.Errorf("%q is %d, %v", c.text, got, err)
		}
	}
	for text, bits := range map[string]int{
		"": 32, " ": 32, "+": 32, "-": 32, "--5": 32, "+-5": 32, "5.0": 32, "5.": 32, "1e3": 32, "0x5": 32, "0b1": 32, "1_000": 32, "1,000": 32, "5 5": 32, "٥": 32, "５": 32, "INF": 32,
		"2147483648": 32, "-2147483649": 32, "32768": 16, "9223372036854775808": 64, "-9223372036854775809": 64,
	} {
		_, err := value(text, func(r *xmltext.Reader) int64 { return r.Int64("int", bits) })
		lexical(t, text, err)
	}
	for _, c := range []struct {
		text string
		bits int
		want uint64
	}{
		{"0", 32, 0}, {"-0", 32, 0}, {"-000", 32, 0}, {"+7", 32, 7}, {"\t7 ", 32, 7}, {"4294967295", 32, math.MaxUint32}, {"255", 8, 255}, {"18446744073709551615", 64, math.MaxUint64},
	} {
		if got, err := value(c.text, func(r *xmltext.Reader) uint64 { return r.Uint64("unsignedInt", c.bits) }); err != nil || got != c.want {
			t.Errorf("%q is %d, %v", c.text, got, err)
		}
	}
	for text, bits := range map[string]int{
		"": 32, "-": 32, "+": 32, "-1": 32, "+-1": 32, "--0": 32, "-0.0": 32, "0x0": 32, "1_0": 32, "256": 8, "4294967296": 32, "18446744073709551616": 64, "- 0": 32,
	} {
		_, err := value(text, func(r *xmltext.Reader) uint64 { return r.Uint64("unsignedInt", bits) })
		lexical(t, text, err)
	}
}

func TestBase64(t *testing.T) { // 3.2.16
	t.Parallel()
	long := bytes.Repeat([]byte{0, 0xFF, 0x80, '<'}, 5000)
	for _, c := range []struct {
		text string
		want []byte
	}{
		{"", nil}, {" \n", nil}, {"QUJD", []byte("ABC")}, {"QUI=", []byte("AB")}, {"QQ==", []byte("A")}, {"Q U\tJ\r\nD", []byte("ABC")}, {"QQ=\n=", []byte("A")},
		{"+/+/", []byte{0xfb, 0xff, 0xbf}}, {"<![CDATA[QU]]>J<!-- -->&#68;", []byte("ABC")}, {"QUJDQUJ<!-- -->D", []byte("ABCABC")},
		{wrap(base64Of(long), 76, "\r\n"), long}, {wrap(base64Of(long), 1, " "), long}, {wrap(base64Of(long), 64, "<!---->"), long}, {base64Of(long), long},
	} {
		if got, err := value(c.text, func(r *xmltext.Reader) []byte { return r.Base64("base64Binary") }); err != nil || !bytes.Equal(got, c.want) {
			t.Errorf("%.40q is %.40q, %v", c.text, got, err)
		}
	}
	for _, text := range []string{
		"Q", "QQ", "QQQ", "QQ=", "Q===", "====", "=QQQ", "QQ==QQ==", "QUJD=", "QR==", "QUJ=QUJD", "QU-_", "QU*D", "QU\u00a0JD", "QÜJD", "A]B=",
		base64Of(long) + "QQ", base64Of(long) + "*", base64Of([]byte("A")) + base64Of(long), strings.Repeat("QUJD", 256) + "QQ==" + strings.Repeat("QUJD", 300), strings.Repeat("QUJD", 255) + "QQ==" + "QUJD",
	} {
		_, err := value(text, func(r *xmltext.Reader) []byte { return r.Base64("base64Binary") })
		lexical(t, text, err)
	}
}

func base64Of(b []byte) string {
	w := xmltext.NewWriter()
	defer w.Release()
	w.Base64("v", b)
	return strings.TrimSuffix(strings.TrimPrefix(string(w.Bytes()), "<b:v>"), "</b:v>")
}

// wrap puts a text between every n characters.
func wrap(s string, n int, between string) string {
	var b strings.Builder
	for len(s) > n {
		b.WriteString(s[:n] + between)
		s = s[n:]
	}
	return b.String() + s
}

func TestStrings(t *testing.T) { // 3.2.1: white space is preserved
	t.Parallel()
	for text, want := range map[string]string{
		"": "", " a ": " a ", "a\tb\nc": "a\tb\nc", "a\r\nb\rc\r\n\r": "a\nb\nc\n\n", "&#13;\n": "\r\n", "<![CDATA[\r\n&lt;]]>": "\n&lt;", "&lt;&gt;&amp;&quot;&apos;": `<>&"'`,
		"&#x1F600;&#128512;": "😀😀", "&#x00000041;": "A", "a<!-- b -->c<![CDATA[d]]>&#101;": "acde", "]]": "]]", "]>": "]>", "<![CDATA[]]]]><![CDATA[>]]>": "]]>", "a<!---->": "a", "<!---->a": "a",
	} {
		if got, err := value(text, func(r *xmltext.Reader) string { return r.String("string") }); err != nil || got != want {
			t.Errorf("%q is %q, %v", text, got, err)
		}
		if got, err := value(text, func(r *xmltext.Reader) string { return string(r.Text()) }); err != nil || got != want {
			t.Errorf("%q is the text %q, %v", text, got, err)
		}
	}
}

// What a value was made of may be overwritten by what is read next, and what was given must not be.
func TestAValueIsNotOverwrittenByTheNext(t *testing.T) {
	t.Parallel()
	r := xmltext.NewReader([]byte(`<v><a>&#65;A</a><a>&#66;B</a><a>CC</a></v>`), xmltext.DefaultLimits)
	defer r.Release()
	var got []string
	var kept [][]byte
	r.Root()
	r.Open("v")
	for r.More("a") {
		text := r.Text()
		got, kept = append(got, string(text)), append(kept, text)
	}
	r.Close()
	if r.EndDocument(); r.Err() != nil {
		t.Fatal(r.Err())
	}
	for i, want := range []string{"AA", "BB", "CC"} {
		if got[i] != want || string(kept[i]) != want {
			t.Errorf("%q was read as %q and is now %q", want, got[i], kept[i])
		}
	}
}
