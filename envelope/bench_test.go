package envelope_test

import (
	"strings"
	"testing"

	"biosv/envelope"
	"biosv/envelope/xmltext"
)

const contract = "urn:biosv:bios:v1"

// small is an ordinary request of about 500 bytes.
const small = `<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:b="urn:biosv:bios:v1">
  <soapenv:Header/>
  <soapenv:Body>
    <b:SetAttributes>
      <b:Attribute><b:Name>BootMode</b:Name><b:NewValue>Uefi</b:NewValue></b:Attribute>
      <b:Attribute><b:Name>NumLock</b:Name><b:NewValue>On</b:NewValue></b:Attribute>
      <b:ApplyTime>OnReset</b:ApplyTime>
    </b:SetAttributes>
  </soapenv:Body>
</soapenv:Envelope>
`

// attributes is a request with n attributes in it.
func attributes(n int) string {
	var b strings.Builder
	b.WriteString(`<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body><b:SetAttributes xmlns:b="urn:biosv:bios:v1">` + "\n")
	for range n {
		b.WriteString(" <b:Attribute><b:Name>ProcessorPowerManagement</b:Name><b:NewValue>Maximum performance &amp; no sleep</b:NewValue></b:Attribute>\n")
	}
	b.WriteString(`</b:SetAttributes></s:Body></s:Envelope>`)
	return b.String()
}

// readSetAttributes does what generated code does.
func readSetAttributes(doc []byte) (int, error) {
	r := xmltext.NewReader(doc, xmltext.DefaultLimits)
	defer r.Release()
	e, err := envelope.Read(r)
	if err != nil {
		return 0, err
	}
	r.SetNamespace(contract)
	n := 0
	r.Open("SetAttributesRequest")
	for r.More("Attribute") {
		r.Open("AttributeValue")
		if r.Need("Name") {
			r.Text()
		}
		if r.Need("NewValue") {
			r.Text()
		}
		r.Close()
		n++
	}
	if r.More("ApplyTime") {
		r.Text()
	}
	r.Close()
	return n, e.Finish(r)
}

func BenchmarkReaderEnvelope(b *testing.B) {
	for _, c := range []struct{ name, doc string }{{"Small", small}, {"Large", attributes(5000)}} {
		b.Run(c.name, func(b *testing.B) {
			doc := []byte(c.doc)
			b.SetBytes(int64(len(doc)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := readSetAttributes(doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
