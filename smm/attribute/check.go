package attribute

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"biosv/fault"
	"biosv/generated"
)

// mostCharacters is the length of a String or Password whose definition names no greatest.
const mostCharacters = 4096

// mostListed is how many names or values a sentence for people lists.
const mostListed = 20

// check says what is kept of a value, or why the definition does not allow it. Kept is one spelling of each value:
// of an Integer the decimal digits without leading zeros and plus, of a Boolean true or false. Taken are the
// spellings of XML Schema: of an Integer those of xs:long, of a Boolean true, false, 1 and 0; no space around them.
// All other kinds are taken and kept letter by letter. An empty Password is always allowed: it takes one away.
func (d *definition) check(value []string) ([]string, *generated.AttributeRefusal) {
	if d.kind == generated.AttributeKindOrderedList {
		return d.checkList(value)
	}
	if len(value) != 1 {
		return nil, d.refuse(fault.ValueCount, value, "takes exactly one value, and %d were given", len(value))
	}
	switch d.kind {
	case generated.AttributeKindEnumeration:
		if !d.possible[value[0]] {
			return nil, d.refuse(fault.ValueNotInList, value, "takes one of %s", d.choices())
		}
		return value, nil
	case generated.AttributeKindInteger:
		return d.checkInteger(value)
	case generated.AttributeKindBoolean:
		switch value[0] {
		case "true", "1":
			return []string{"true"}, nil
		case "false", "0":
			return []string{"false"}, nil
		}
		return nil, d.refuse(fault.ValueFormat, value, "takes true or false")
	case generated.AttributeKindString, generated.AttributeKindPassword:
		return d.checkText(value)
	}
	return nil, d.refuse(fault.ValueFormat, value, "is of the kind %s, of which nothing is known here", d.kind)
}

func (d *definition) checkList(value []string) ([]string, *generated.AttributeRefusal) {
	seen := make(map[string]bool, len(value))
	for _, v := range value {
		if !d.possible[v] {
			return nil, d.refuse(fault.ValueNotInList, value, "takes some of %s, in any order", d.choices())
		}
		if seen[v] {
			return nil, d.refuse(fault.DuplicateItem, value, "takes each value at most once, and %s stands there again", v)
		}
		seen[v] = true
	}
	return value, nil
}

func (d *definition) checkInteger(value []string) ([]string, *generated.AttributeRefusal) {
	n, err := strconv.ParseInt(value[0], 10, 64)
	if err != nil {
		return nil, d.refuse(fault.ValueFormat, value, "takes a whole number in decimal digits%s", d.bounds())
	}
	if d.LowerBound != nil && n < int64(*d.LowerBound) || d.UpperBound != nil && n > int64(*d.UpperBound) {
		return nil, d.refuse(fault.ValueOutOfRange, value, "takes a whole number%s", d.bounds())
	}
	if d.ScalarIncrement != nil && *d.ScalarIncrement > 1 {
		step, off := int64(*d.ScalarIncrement), false
		if d.LowerBound != nil { // the difference of two int64 fits into an uint64, and not into an int64
			off = (uint64(n)-uint64(*d.LowerBound))%uint64(step) != 0
		} else {
			off = n%step != 0
		}
		if off {
			return nil, d.refuse(fault.ValueOffStep, value, "takes a whole number%s, in steps of %d", d.bounds(), step)
		}
	}
	return []string{strconv.FormatInt(n, 10)}, nil
}

func (d *definition) bounds() string {
	switch {
	case d.LowerBound != nil && d.UpperBound != nil:
		return fmt.Sprintf(" from %d to %d", *d.LowerBound, *d.UpperBound)
	case d.LowerBound != nil:
		return fmt.Sprintf(" from %d on", *d.LowerBound)
	case d.UpperBound != nil:
		return fmt.Sprintf(" up to %d", *d.UpperBound)
	}
	return ""
}

func (d *definition) checkText(value []string) ([]string, *generated.AttributeRefusal) {
	text := value[0]
	if d.secret() && text == "" {
		return value, nil
	}
	if !isText(text) {
		return nil, d.refuse(fault.ValueFormat, value, "takes characters of XML 1.0 in UTF-8, and others were given")
	}
	least, most := 0, mostCharacters
	if d.MinLength != nil {
		least = int(*d.MinLength)
	}
	if d.MaxLength != nil {
		most = int(*d.MaxLength)
	}
	if n := utf8.RuneCountInString(text); n < least || n > most {
		return nil, d.refuse(fault.ValueLength, value, "takes %d to %d characters, and %d were given", least, most, n)
	}
	if d.pattern != nil && !d.secret() && !d.pattern.MatchString(text) {
		return nil, d.refuse(fault.ValuePattern, value, "takes text of the form %s", d.ValueExpression)
	}
	return value, nil
}

// isText says whether any door could give a text back: it is of production 2 of XML 1.0.
func isText(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, c := range s {
		if c < ' ' && c != '\t' && c != '\n' && c != '\r' || c == 0xFFFE || c == 0xFFFF {
			return false
		}
	}
	return true
}

// refuse makes a refusal; what is refused of a Password is told to nobody.
func (d *definition) refuse(c fault.Code, value []string, format string, args ...any) *generated.AttributeRefusal {
	return fault.Refusal(c, d.Name, d.shown(value), "%s %s.", d.Name, fmt.Sprintf(format, args...))
}

// shown is what may be told of a value.
func (d *definition) shown(value []string) []string {
	if d.secret() {
		return nil
	}
	return value
}

func (d *definition) choices() string {
	names := make([]string, len(d.PossibleValue))
	for i, v := range d.PossibleValue {
		names[i] = v.ValueName
	}
	return listed(names)
}

// listed is a list for people, of bounded length.
func listed(names []string) string {
	switch {
	case len(names) == 0:
		return "nothing"
	case len(names) > mostListed:
		return fmt.Sprintf("%s and %d more", strings.Join(names[:mostListed], ", "), len(names)-mostListed)
	}
	return strings.Join(names, ", ")
}
