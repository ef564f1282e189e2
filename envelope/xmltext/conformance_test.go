package xmltext_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"biosv/envelope/xmltext"
)

// What the reader refuses on purpose, by its code; and names with colons in them, which Namespaces in XML does not allow.
var (
	refusedOnPurpose = map[string]bool{xmltext.ProcessingInstruction: true, xmltext.EncodingNotSupported: true}
	namesWithColons  = map[string]bool{"oasis/p04pass1.xml": true, "oasis/p05pass1.xml": true}
)

// Names with characters that XML 1.0 allows since its fifth edition.
var sinceFifthEdition = map[string]bool{"eduni/xml-1.1/016.xml": true, "eduni/xml-1.1/019.xml": true}

// The reader accepts what the W3C's test suite has as well formed, but for what it refuses on purpose, and nothing else.
func TestW3CConformance(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "testdata", "xmlconf", "cases.txt"))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for line := range strings.Lines(string(text)) {
		fields := strings.SplitN(strings.TrimSpace(line), " ", 4)
		name, kind, recommendation := fields[0], fields[1], fields[2]
		doc, err := strconv.Unquote(fields[3])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err = xmltext.Tree([]byte(doc), xmltext.DefaultLimits)
		var e *xmltext.SyntaxError
		switch {
		case kind == "error": // readers may differ
		case kind == "not-wf":
			if (err == nil) != sinceFifthEdition[name] {
				t.Errorf("%s is accepted (%v): %q", name, err, doc)
			}
			count["refused"]++
		case strings.HasSuffix(recommendation, "1.1"):
			if err == nil && strings.Contains(doc, `version="1.1"`) {
				t.Errorf("%s is of XML 1.1, and accepted", name)
			}
		case err != nil && (!errors.As(err, &e) || !refusedOnPurpose[e.Code] && !namesWithColons[name]):
			t.Errorf("%s is refused: %v: %q", name, err, doc)
		case err == nil:
			count["accepted"]++
		}
	}
	if count["refused"] < 300 || count["accepted"] < 50 {
		t.Errorf("%v", count)
	}
}
