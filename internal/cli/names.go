package cli

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// units are the endings of names that no rule of capital letters splits rightly.
var units = []string{"MiB", "MTs"}

// written is how words are written that are not words of the language.
var written = map[string]string{
	"bios": "BIOS", "der": "DER", "guid": "GUID", "id": "ID", "mac": "MAC", "mib": "MiB", "mts": "MT/s", "pcr": "PCR",
	"pem": "PEM", "sha256": "SHA-256", "tpm": "TPM", "usb": "USB", "uuid": "UUID",
}

// words splits the name of an element: each begins with a capital letter, and is given in small ones.
func words(name string) []string {
	var tail []string
	for _, u := range units {
		if rest, ok := strings.CutSuffix(name, u); ok {
			name, tail = rest, []string{strings.ToLower(u)}
			break
		}
	}
	var list []string
	start := 0
	for i, r := range name {
		if i > start && unicode.IsUpper(r) {
			list = append(list, strings.ToLower(name[start:i]))
			start = i
		}
	}
	if start < len(name) {
		list = append(list, strings.ToLower(name[start:]))
	}
	return append(list, tail...)
}

// kebab is the name of an element as a flag: RequestPem is --request-pem.
func kebab(name string) string { return strings.Join(words(name), "-") }

// label is the name of an element as people read it: CurrentValue is "Current value".
func label(name string) string {
	list := words(name)
	for i, w := range list {
		if known, ok := written[w]; ok {
			list[i] = known
		}
	}
	return sentenceCase(strings.Join(list, " "))
}

// plural is the label of more than one.
func plural(name string) string {
	l := label(name)
	switch {
	case strings.HasSuffix(l, "y"):
		return strings.TrimSuffix(l, "y") + "ies"
	case strings.HasSuffix(l, "s"):
		return l
	}
	return l + "s"
}

// inSentence is a label in the middle of a sentence; what is written in capitals stays so.
func inSentence(l string) string {
	if first, _, _ := strings.Cut(l, " "); first == strings.ToUpper(first) {
		return l
	}
	r, size := utf8.DecodeRuneInString(l)
	return string(unicode.ToLower(r)) + l[size:]
}

// sentenceCase begins with a capital letter.
func sentenceCase(s string) string {
	r, size := utf8.DecodeRuneInString(s)
	if size == 0 {
		return s
	}
	return string(unicode.ToUpper(r)) + s[size:]
}

// variable is the variable of the environment that an element may be given in.
func variable(name string) string { return "BIOSV_" + strings.ToUpper(strings.Join(words(name), "_")) }

// secret tells whether what a name stands for is never shown.
func secret(name string) bool {
	for _, ending := range []string{"Password", "Secret", "Passphrase"} {
		if strings.HasSuffix(name, ending) {
			return true
		}
	}
	return false
}

// document tells whether an element is text that makes a file of its own.
func document(name string) bool {
	return strings.HasSuffix(name, "Pem") || strings.HasSuffix(name, "Difference")
}
