//go:build e2e || interop

package interop

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/beevik/etree"
	"github.com/hooklift/gowsdl/soap"

	"biosv/generated"
)

// TestGowsdlClient uses generated.NewBios, which gowsdl made, and asserts what it can do and what it cannot.
// Go programs do better with generated.Client: the same operations, over the codec of the service.
func TestGowsdlClient(t *testing.T) {
	s := start(t)
	at := func(path string) generated.Bios {
		return generated.NewBios(soap.NewClient(s.url+path, soap.WithHTTPClient(s.client(t))))
	}
	host, bios := at(""), at("/gowsdl")

	// It can: call, where everything that is required is neither false nor 0 nor empty.
	made, err := host.CreateDomain(&generated.CreateDomainRequest{
		Name: new(generated.DomainName("gowsdl")), DomainKind: new(generated.DomainKindSimulated), Description: "gowsdl <&> é",
		SimulationSeed: new(generated.SimulationSeed(0)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if d := made.Domain; *d.Name != "gowsdl" || d.Description != "gowsdl <&> é" || *d.PowerState != generated.PowerStateOff {
		t.Errorf("CreateDomain gave %+v", d)
	}
	if _, err := bios.ResetSystem(&generated.ResetSystemRequest{ResetType: new(generated.ResetTypeOn)}); err != nil {
		t.Fatal(err)
	}
	if _, err := bios.SetAttributes(&generated.SetAttributesRequest{
		Attribute: []*generated.AttributeValue{{Name: "AssetTag", NewValue: []string{"rack 7"}}},
	}); err != nil {
		t.Fatal(err)
	}
	read, err := bios.GetAttributes(&generated.GetAttributesRequest{Name: []string{"AssetTag"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(read.Attribute) != 1 || len(read.Attribute[0].CurrentValue) != 1 || read.Attribute[0].CurrentValue[0] != "rack 7" {
		t.Errorf("GetAttributes gave %+v", read.Attribute)
	}
	// It can: leave out what is optional, and send its zero where the schema names a type for it.
	log, err := bios.GetEventLog(&generated.GetEventLogRequest{After: new(generated.LogPosition(0)), MostRecords: new(generated.RecordLimit(1))})
	if err != nil || len(log.Record) != 1 {
		t.Errorf("GetEventLog after 0 gave %+v, %v", log, err)
	}

	// It cannot: write a required value that is empty. The element vanishes, and the service refuses the request.
	_, err = bios.SetAttributes(&generated.SetAttributesRequest{Attribute: []*generated.AttributeValue{{Name: "", NewValue: []string{"x"}}}})
	wantFault(t, "a required string that is empty", err, "InvalidRequestFault")
	_, err = host.InstallCertificateChain(&generated.InstallCertificateChainRequest{})
	wantFault(t, "a required string that is empty", err, "InvalidRequestFault")

	// It cannot: read or write base64Binary. What a caller gets is the text, and what it gives goes out as it is.
	backup, err := host.BackupState(&generated.BackupStateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	archive, err := base64.StdEncoding.DecodeString(string(backup.Archive))
	if err != nil {
		t.Fatalf("gowsdl decodes base64Binary by now (%v): say so in generated's documentation", err)
	}
	_, err = host.RestoreState(&generated.RestoreStateRequest{Archive: archive})
	if err == nil {
		t.Error("gowsdl encodes base64Binary by now: say so in generated's documentation")
	}
	if _, err := host.RestoreState(&generated.RestoreStateRequest{Archive: backup.Archive}); err != nil {
		t.Errorf("RestoreState with the text of an archive: %v", err)
	}

	// It cannot: give a fault as the type that the contract names. Every fault is an HTTPError with the envelope
	// as bytes, which the caller may take apart.
	_, err = bios.SetAttributes(&generated.SetAttributesRequest{Attribute: []*generated.AttributeValue{{Name: "NoSuchAttribute", NewValue: []string{"x"}}}})
	body := wantFault(t, "an unknown attribute", err, "InvalidAttributeFault")
	doc := etree.NewDocument()
	if err := doc.ReadFromBytes(body); err != nil {
		t.Fatal(err)
	}
	name, code := doc.FindElement("//detail/InvalidAttributeFault/Refusal/Name"), doc.FindElement("//detail/InvalidAttributeFault/Refusal/Code")
	if name == nil || name.Text() != "NoSuchAttribute" || code == nil || code.Text() == "" {
		t.Errorf("the fault is %s", body)
	}
	var typed generated.Fault
	if errors.As(err, &typed) {
		t.Error("gowsdl gives typed faults by now: say so in generated's documentation")
	}
}

// wantFault asserts that gowsdl's client reported a fault in its own way, and gives the answer's body.
func wantFault(t *testing.T, what string, err error, fault string) []byte {
	t.Helper()
	var status *soap.HTTPError
	if !errors.As(err, &status) {
		t.Fatalf("%s: %v, and an HTTPError was to be expected", what, err)
	}
	if status.StatusCode != 500 || !strings.Contains(string(status.ResponseBody), fault) {
		t.Errorf("%s: %d, %s; a %s was to be expected", what, status.StatusCode, status.ResponseBody, fault)
	}
	return status.ResponseBody
}
