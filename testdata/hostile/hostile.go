// Package hostile is requests that mean harm, for tests: those in the files beside this one, and large ones that
// made.go makes. README.md says of each what it is and what must happen; [Corpus] reads it.
package hostile

import (
	"bytes"
	"embed"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"biosv/envelope"
	"biosv/testdata/table"
)

//go:embed README.md *.xml *.http
var files embed.FS

// Attack is one request that must be refused.
type Attack struct {
	Name string
	HTTP bool             // it is a whole HTTP request, and else the body of a POST
	As   envelope.Version // version that it is sent as and answered in
	Answer
}

// Bytes are the request's.
func (a Attack) Bytes() []byte {
	if do, ok := made[a.Name]; ok {
		var b bytes.Buffer
		do(&b)
		return b.Bytes()
	}
	text, err := files.ReadFile(a.Name)
	if err != nil {
		panic(err) // Corpus gives no attack without its file
	}
	return text
}

// Answer is what an attack is answered with.
type Answer struct {
	Status int
	Code   string // the fault's code; empty for an answer of HTTP itself
	Fault  string // name of the contract's fault that is the detail; empty for none
	Detail string // its code
	Rule   string // the rule that it names, or the limit
}

// Stranger is how an attack of so many bytes is answered that a peer without identity sends, whose body has its bound.
func (a Attack) Stranger(bytes, most int) Answer {
	if a.Code == "" || bytes <= most {
		return a.Answer
	}
	return Answer{Status: a.Status, Code: a.Code, Fault: "LimitExceededFault", Detail: "TooLarge", Rule: "Bytes"}
}

// Corpus gives all attacks, those of the files and those that are made, in the order of README.md.
var Corpus = sync.OnceValues(func() (all []Attack, err error) {
	rows, err := table.Read(files, slices.Collect(maps.Keys(made)), 3)
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		a := Attack{Name: r.File, HTTP: strings.HasSuffix(r.File, ".http")}
		if err := a.read(r.Cells[1], r.Cells[2]); err != nil {
			return nil, fmt.Errorf("README.md: %s: %w", a.Name, err)
		}
		all = append(all, a)
	}
	return all, nil
})

// read reads the cells that say what is to happen.
func (a *Attack) read(as, answer string) (err error) {
	if a.As, err = table.Version(as); err != nil {
		return err
	}
	a.Status = http.StatusInternalServerError
	words := strings.Fields(answer)
	if a.As == envelope.SOAP12 && words[0] == "Sender" {
		a.Status = http.StatusBadRequest
	}
	if status, err := strconv.Atoi(words[0]); err == nil {
		a.Status, words = status, words[1:]
	}
	if len(words) == 0 {
		return errors.New("it is not said what is answered")
	}
	if words[0] == "plain" {
		return nil
	}
	for i, into := range []*string{&a.Code, &a.Fault, &a.Detail, &a.Rule} {
		if i < len(words) {
			*into = words[i]
		}
	}
	return nil
}
