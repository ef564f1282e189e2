package route_test

import (
	"errors"
	"strings"
	"testing"

	"biosv/generated"
	"biosv/internal/testca"
	"biosv/security"
	"biosv/service/route"
)

const privileged = "dom0"

func TestResolve(t *testing.T) {
	t.Parallel()
	guest := testca.Principal(t, "spiffe://house.test/domain/web")
	person := testca.Principal(t, "spiffe://house.test/person/ada")
	for _, c := range []struct {
		name     string
		who      security.Principal
		path, to string
		want     string // the domain, or the code of the fault
	}{
		{"an operator's own address", person, "/bios", "", privileged},
		{"the same with a slash", person, "/bios/", "", privileged},
		{"a guest's own address", guest, "/bios", "", "web"},
		{"a stranger's", security.Principal{}, "/bios", "", privileged},
		{"a domain's address", person, "/bios/demo", "", "demo"},
		{"a domain's address, asked by another domain", guest, "/bios/demo", "", "demo"},
		{"the privileged domain's address", guest, "/bios/dom0", "", privileged},
		{"To names the domain", person, "/bios", "https://localhost:8443/bios/demo", "demo"},
		{"To names it by another host", guest, "/bios", "https://other.invalid/bios/demo", "demo"},
		{"To names it by a path alone", person, "/bios", "/bios/demo", "demo"},
		{"To agrees with the path", person, "/bios/demo", "https://localhost/bios/demo?x=1#y", "demo"},
		{"To names no domain, the path does", person, "/bios/demo", "https://localhost/bios", "demo"},
		{"To names no domain for a guest", guest, "/bios", "https://localhost/bios", "web"},
		{"To names an escaped domain", person, "/bios", "https://localhost/bios/d%65mo", "demo"},
		{"To disagrees with the path", person, "/bios/demo", "https://localhost/bios/other", "InvalidValue"},
		{"a path elsewhere", person, "/", "", "UnknownAddress"},
		{"no path", person, "", "", "UnknownAddress"},
		{"a path that only begins alike", person, "/biosdemo", "", "UnknownAddress"},
		{"a path in other case", person, "/BIOS/demo", "", "UnknownAddress"},
		{"a deeper path", person, "/bios/demo/x", "", "UnknownAddress"},
		{"a domain's path with a slash", person, "/bios/demo/", "", "UnknownAddress"},
		{"two slashes", person, "/bios//demo", "", "UnknownAddress"},
		{"a path above", person, "/bios/..", "", "UnknownDomain"},
		{"a name in other case", person, "/bios/Demo", "", "UnknownDomain"},
		{"a name with a dot", person, "/bios/demo.example", "", "UnknownDomain"},
		{"a name that is too long", person, "/bios/" + strings.Repeat("a", 64), "", "UnknownDomain"},
		{"a name with NUL", person, "/bios/a\x00", "", "UnknownDomain"},
		{"a name with a line end", person, "/bios/demo\n", "", "UnknownDomain"},
		{"a name that is no UTF-8", person, "/bios/\xff", "", "UnknownDomain"},
		{"To elsewhere", person, "/bios/demo", "https://localhost/other", "UnknownAddress"},
		{"To a URN", person, "/bios", "urn:biosv:demo", "UnknownAddress"},
		{"To nowhere", person, "/bios", "http://www.w3.org/2005/08/addressing/none", "UnknownAddress"},
		{"To no address", person, "/bios", "::", "UnknownAddress"},
		{"To a name that cannot be", person, "/bios", "https://localhost/bios/-", "UnknownDomain"},
		{"To a slash in a name", person, "/bios", "https://localhost/bios/a%2Fb", "UnknownAddress"},
	} {
		got, err := route.Resolve(c.who, privileged, c.path, c.to)
		if err != nil {
			got = code(err)
		}
		if got != c.want {
			t.Errorf("%s: %q, %v; want %s", c.name, got, err, c.want)
		}
	}
}

func code(err error) string {
	var notFound *generated.NotFoundFault
	var invalid *generated.InvalidRequestFault
	switch {
	case errors.As(err, &notFound):
		return notFound.Code
	case errors.As(err, &invalid):
		return invalid.Code
	}
	return ""
}

// Whatever an address says, it names a domain by a name that a domain can have, or is refused with a fault of the contract
// that does not repeat it at length.
func FuzzResolve(f *testing.F) {
	for _, s := range []string{"/bios", "/bios/", "/bios/demo", "/bios/a/b", "/bios/%00", "https://localhost/bios/demo", "urn:x", "mailto:bios@demo", "//bios", "", "\x00"} {
		f.Add("/bios", s)
		f.Add(s, "")
	}
	guest := testca.Principal(f, "spiffe://house.test/domain/web")
	f.Fuzz(func(t *testing.T, path, to string) {
		for _, who := range []security.Principal{{}, guest} {
			name, err := route.Resolve(who, privileged, path, to)
			if err != nil {
				if code(err) == "" || name != "" || len(err.Error()) > 1000 {
					t.Fatalf("%q, %v", name, err)
				}
				continue
			}
			if rule, _ := generated.DomainName(name).Check(); rule != "" {
				t.Fatalf("%q is no name (%s)", name, rule)
			}
			if !strings.HasPrefix(path, route.Base) {
				t.Fatalf("%q is an address", path)
			}
		}
	})
}
