package fault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"biosv/envelope/xmltext"
	"biosv/generated"
	"biosv/store"
)

// constants gives the string constants of a file whose type has a name, by their names; an empty type means those
// without one that begin with a prefix.
func constants(t *testing.T, path, typeName, prefix string) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		for _, s := range g.Specs {
			v := s.(*ast.ValueSpec)
			kind, _ := v.Type.(*ast.Ident)
			if (kind == nil) != (typeName == "") || kind != nil && kind.Name != typeName || !strings.HasPrefix(v.Names[0].Name, prefix) {
				continue
			}
			value, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			found[v.Names[0].Name] = value
		}
	}
	if len(found) == 0 {
		t.Fatalf("%s has none of the constants", path)
	}
	return found
}

// Every code has a message id, no code is there twice, and no message id is there for nothing.
func TestTheTableIsTotal(t *testing.T) {
	t.Parallel()
	names := map[Code]string{}
	for _, list := range []map[string]string{constants(t, "fault.go", "Code", ""), constants(t, "../security/principal.go", "", "Certificate")} {
		for name, code := range list {
			if other, twice := names[Code(code)]; twice {
				t.Errorf("%s and %s are both %q", name, other, code)
			}
			names[Code(code)] = name
			if Code(code).MessageID() == "" {
				t.Errorf("%s has no message id", name)
			}
		}
	}
	for code, id := range messageIDs {
		if names[code] == "" {
			t.Errorf("%q has the message id %s, and there is no such code", code, id)
		}
	}
}

// goFiles gives the tree's own code.
func goFiles(t *testing.T, fn func(path, text string)) {
	t.Helper()
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2:
			return fs.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		text, err := os.ReadFile(path)
		fn(path, string(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestEveryCodeIsUsed(t *testing.T) {
	t.Parallel()
	unused := constants(t, "fault.go", "Code", "")
	words := regexp.MustCompile(`\b(fault\.)?([A-Z]\w+)\(?`)
	goFiles(t, func(path, text string) {
		for _, m := range words.FindAllStringSubmatch(text, -1) {
			if m[1] != "" || path == filepath.Join("..", "fault", "fault.go") && strings.Contains(text, "("+m[2]+",") || strings.Contains(text, "Code: string("+m[2]+")") {
				delete(unused, m[2])
			}
		}
	})
	for name := range unused {
		t.Errorf("nothing uses %s", name)
	}
}

// Message ids, of faults and of events, are the DMTF's where they say so, and else our own.
func TestMessageIDsAreOfTheirRegistries(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/messages.txt")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, id := range strings.Fields(string(text)) {
		part := strings.Split(id, ".")
		known[part[0]+"."+part[3]] = true
	}
	id := regexp.MustCompile(`"([A-Z]\w+)\.(\d+\.\d+)\.([A-Z]\w+)"`)
	versions := map[string]string{"Base": "1.19", "ResourceEvent": "1.3", "BiosV": "1.0"}
	seen := 0
	goFiles(t, func(path, text string) {
		for _, m := range id.FindAllStringSubmatch(text, -1) {
			seen++
			switch {
			case versions[m[1]] != m[2]:
				t.Errorf("%s: %s is of a registry that is not used here; used are %v", path, m[0], versions)
			case m[1] != "BiosV" && !known[m[1]+"."+m[3]]:
				t.Errorf("%s: the registry %s has no message %s", path, m[1], m[3])
			case m[1] == "BiosV" && known["Base."+m[3]] && m[3] != "OperationFailed": // Base's is of an operation within a request
				t.Errorf("%s: %s stands in the registry Base too", path, m[0])
			}
		}
	})
	if seen < len(messageIDs) {
		t.Errorf("%d message ids were found", seen)
	}
}

func TestFaultsBearWhatTheyWereMadeOf(t *testing.T) {
	t.Parallel()
	until := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600))
	for _, row := range []struct {
		fault generated.Fault
		name  string
		want  string // a part of it as JSON
	}{
		{InvalidRequest(InvalidValue, "/a/b", "v", "bad %s", "x"), "InvalidRequestFault", `"Code":"InvalidValue","MessageId":"Base.1.19.PropertyValueFormatError","Message":"bad x","ElementPath":"/a/b","RefusedValue":"v"`},
		{NotFound(UnknownDomain, "/a", "v", "no %d", 1), "NotFoundFault", `"Code":"UnknownDomain","MessageId":"Base.1.19.ResourceNotFound","Message":"no 1","ElementPath":"/a","RefusedValue":"v"`},
		{Conflict(LastAdmin, "x"), "ConflictFault", `"Code":"LastAdmin","MessageId":"Base.1.19.ResourceCannotBeDeleted","Message":"x"`},
		{AccessDenied(RoleTooSmall, "s", "o", "r", "x"), "AccessDeniedFault", `"Message":"x","Subject":"s","Operation":"o","Rule":"r"`},
		{AuthenticationRequired("CertificateMissing", "x"), "AuthenticationRequiredFault", `"Code":"CertificateMissing","MessageId":"Base.1.19.NoValidSession","Message":"x"`},
		{Locked(PasswordLockout, until, "x"), "LockedFault", `"Code":"PasswordLockout","MessageId":"BiosV.1.0.PasswordLockout","Message":"x"`},
		{Integrity(WrongKey, "/a", "x"), "IntegrityFault", `"Code":"WrongKey","MessageId":"BiosV.1.0.WrongKey","Message":"x","ElementPath":"/a"`},
		{Uefi(EfiWriteProtected, "EFI_WRITE_PROTECTED", "/a", "x"), "UefiFault", `"MessageId":"Base.1.19.PropertyNotWritable","Message":"x","ElementPath":"/a","EfiStatus":"EFI_WRITE_PROTECTED"`},
		{LimitExceeded(TooMany, "things", 7, "x"), "LimitExceededFault", `"Message":"x","LimitName":"things","LimitValue":7`},
		{Unavailable(StorageFull, 1500*time.Millisecond, "x"), "UnavailableFault", `"Message":"x","RetryAfterSeconds":2`},
		{Unavailable(NotOnThisHost, 0, "x"), "UnavailableFault", `"Code":"NotOnThisHost","MessageId":"Base.1.19.ResourceNotFound","Message":"x"}`},
		{Internal("id-7"), "InternalFault", `"Code":"Internal","MessageId":"Base.1.19.InternalError"`},
	} {
		text, err := json.Marshal(row.fault)
		if err != nil || row.fault.Info().Name != row.name || !strings.Contains(string(text), row.want) {
			t.Errorf("%s is %s; want %s with %s (%v)", row.fault.Info().Name, text, row.name, row.want, err)
		}
	}
	if got := Locked(PasswordLockout, until, "x").LockedUntil; !got.ToGoTime().Equal(until) {
		t.Errorf("it is locked until %v", got)
	}
}

func TestOfTellsErrorsApart(t *testing.T) {
	t.Parallel()
	conflict := Conflict(LastAdmin, "x")
	for _, row := range []struct {
		err  error
		want string
	}{
		{conflict, "ConflictFault LastAdmin"},
		{fmt.Errorf("doing: %w", conflict), "ConflictFault LastAdmin"},
		{errors.Join(errors.New("beside"), conflict), "ConflictFault LastAdmin"},
		{&xmltext.SchemaError{Path: "/a", Line: 3, Rule: "pattern", Value: "v"}, "InvalidRequestFault SchemaViolation 3 pattern"},
		{&xmltext.SyntaxError{Code: "doctype", Line: 4}, "InvalidRequestFault MalformedXml 4 doctype"},
		{&xmltext.SyntaxError{Code: xmltext.LimitExceeded, Limit: "depth", Most: 9}, "LimitExceededFault TooLarge depth 9"},
		{fmt.Errorf("commit: %w", store.ErrFull), "UnavailableFault StorageFull 60"},
		{store.ErrClosed, "UnavailableFault ShuttingDown 5"},
		{context.DeadlineExceeded, "UnavailableFault TimedOut 1"},
		{context.Canceled, "UnavailableFault TimedOut 1"},
		{store.ErrCorrupt, "InternalFault id-7"},
		{errors.New("anything"), "InternalFault id-7"},
	} {
		got := Of(row.err, "id-7")
		text := got.Info().Name
		switch f := got.(type) {
		case *generated.ConflictFault:
			text += " " + f.Code
		case *generated.InvalidRequestFault:
			text += fmt.Sprint(" ", f.Code, " ", f.Line, " ", f.Rule)
		case *generated.LimitExceededFault:
			text += fmt.Sprint(" ", f.Code, " ", f.LimitName, " ", f.LimitValue)
		case *generated.UnavailableFault:
			text += fmt.Sprint(" ", f.Code, " ", f.RetryAfterSeconds)
		case *generated.InternalFault:
			text += " " + f.IncidentId
			if strings.Contains(f.Message, row.err.Error()) {
				t.Errorf("%v: the caller is told %q", row.err, f.Message)
			}
		}
		if text != row.want {
			t.Errorf("%v is %s; want %s", row.err, text, row.want)
		}
	}
}

func TestARefusedValueIsBounded(t *testing.T) {
	t.Parallel()
	for _, value := range []string{"", "x", strings.Repeat("x", 256), strings.Repeat("é", 256), strings.Repeat("x", 257), strings.Repeat("é", 100_000)} {
		got := InvalidRequest(InvalidValue, "", value, "x").RefusedValue
		n := utf8.RuneCountInString(got)
		if n > 256 || !utf8.ValidString(got) || utf8.RuneCountInString(value) <= 256 && got != value || utf8.RuneCountInString(value) > 256 && !strings.HasSuffix(got, "…") {
			t.Errorf("of %d characters %d are given, ending in %q", utf8.RuneCountInString(value), n, got[max(0, len(got)-8):])
		}
	}
}
