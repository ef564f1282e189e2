// Package route finds out which domain a request means. Its one function, [Resolve], gives the canonical name
// of a domain from what the request's address says and from who asks; it knows nothing of which domains there
// are, so that it tells a stranger nothing.
package route

import (
	"net/url"
	"strings"

	"biosv/fault"
	"biosv/generated"
	"biosv/security"
)

// Base is the path below which domains have their addresses.
const Base = "/bios"

// Resolve gives the domain that an address names. path is the URL's: /bios is the caller's own domain (for an
// operator the privileged one), /bios/NAME the domain NAME. to is the address of a WS-Addressing header To, or
// empty; where it names a domain, it must be the one that a path which names one names. A name that no domain
// can have is a NotFoundFault.
func Resolve(who security.Principal, privileged, path, to string) (string, error) {
	name, ok := nameIn(path)
	if !ok {
		return "", fault.NotFound(fault.UnknownAddress, "", path, "There is nothing at this address: it is %s, or %s/NAME for the domain NAME.", Base, Base)
	}
	if to != "" {
		u, err := url.Parse(to)
		toName, known := "", false
		if err == nil {
			toName, known = nameIn(u.Path)
		}
		if !known {
			return "", fault.NotFound(fault.UnknownAddress, "/Envelope/Header/To", to, "The header To is no address of a domain: it ends in %s or %s/NAME.", Base, Base)
		}
		if name != "" && toName != "" && name != toName {
			return "", fault.InvalidRequest(fault.InvalidValue, "/Envelope/Header/To", to, "The header To names another domain than the URL does: they must agree.")
		}
		if toName != "" {
			name = toName
		}
	}
	switch {
	case name != "":
		if rule, expected := generated.DomainName(name).Check(); rule != "" {
			return "", fault.NotFound(fault.UnknownDomain, "", name, "This is no name of a domain: %s is expected.", expected)
		}
		return name, nil
	case who.Kind() == security.Domain:
		return who.Name(), nil
	}
	return privileged, nil
}

func nameIn(path string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(path, Base)
	if !ok {
		return "", false
	}
	if rest == "" || rest == "/" {
		return "", true
	}
	name, ok = strings.CutPrefix(rest, "/")
	return name, ok && !strings.Contains(name, "/")
}
