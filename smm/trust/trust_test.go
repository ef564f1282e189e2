package trust_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"

	"biosv/fault"
	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/internal/testca"
	"biosv/smm"
	"biosv/smm/trust"
)

// authority knows one chain and remembers what it was asked.
type authority struct {
	chain     []*x509.Certificate
	leaf      string
	installed string
	fail      error
}

func (a *authority) State(_ context.Context, leaf string) (*generated.TrustState, error) {
	a.leaf = leaf
	return &generated.TrustState{LeafSha256: leaf}, a.fail
}

func (a *authority) Chain(leaf string) ([]*x509.Certificate, error) {
	a.leaf = leaf
	return a.chain, a.fail
}

func (a *authority) CertificateRequest(context.Context) ([]byte, error) {
	return []byte("a request"), a.fail
}

func (a *authority) InstallChain(_ context.Context, pem []byte) ([]*x509.Certificate, error) {
	a.installed = string(pem)
	return a.chain, a.fail
}

func bench(t *testing.T) (*testbios.BIOS, *trust.Function, *authority, generated.Call) {
	t.Helper()
	b := testbios.New(t, testbios.Options{})
	root := testca.NewRoot(t, "root")
	leaf := root.Issue(t, testca.Key(t).Public(), testca.Named("spiffe://biosv.test/service/biosv"), func(c *x509.Certificate) { c.Subject.CommonName = "" })
	a := &authority{chain: []*x509.Certificate{leaf, root.Certificate}}
	call := b.Call(testca.Principal(t, "spiffe://biosv.test/person/ada"), smm.PrivilegedDomain)
	call.Channel.LeafSHA256 = "the channel's"
	return b, trust.New(b.BIOS, a), a, call
}

// What speaks of the channel speaks of the certificate that this very connection was shown.
func TestTheAnswerIsOfTheCallersChannel(t *testing.T) {
	t.Parallel()
	_, f, a, call := bench(t)
	state, err := f.GetTrustState(t.Context(), call, &generated.GetTrustStateRequest{})
	if err != nil || a.leaf != "the channel's" || state.Trust.LeafSha256 != a.leaf {
		t.Errorf("%+v, %v, asked for %q", state, err, a.leaf)
	}
	a.leaf = ""
	chain, err := f.GetCertificateChain(t.Context(), call, &generated.GetCertificateChainRequest{})
	if err != nil || a.leaf != "the channel's" || len(chain.Certificate) != 2 {
		t.Fatalf("%+v, %v, asked for %q", chain, err, a.leaf)
	}
	for i, e := range chain.Certificate {
		c := a.chain[i]
		subject := []string{"spiffe://biosv.test/service/biosv", "CN=root"}[i] // the leaf has a name only
		if e.Subject != subject || e.Issuer != "CN=root" || !bytes.Equal(e.Der, c.Raw) || e.Sha256 != fmt.Sprintf("%x", sha256.Sum256(c.Raw)) ||
			!e.NotBefore.ToGoTime().Equal(c.NotBefore) || !e.NotAfter.ToGoTime().Equal(c.NotAfter) {
			t.Errorf("entry %d is %+v", i, e)
		}
	}
}

func TestAChainThatIsInstalledIsToldOf(t *testing.T) {
	t.Parallel()
	b, f, a, call := bench(t)
	reply, err := f.InstallCertificateChain(t.Context(), call, &generated.InstallCertificateChainRequest{ChainPem: "a chain"})
	if err != nil || a.installed != "a chain" || len(reply.Certificate) != 2 {
		t.Fatalf("%+v, %v, installed was %q", reply, err, a.installed)
	}
	events := b.Events(smm.PrivilegedDomain)
	root := fmt.Sprintf("%x", sha256.Sum256(a.chain[1].Raw))
	if len(events) != 1 || events[0].MessageId != "BiosV.1.0.CertificateChainInstalled" || *events[0].EventSeverity != generated.EventSeverityWarning || events[0].Change[0].NewValue != root {
		t.Errorf("the events are %+v", events)
	}
	rows := b.Rows()
	if last := rows[len(rows)-1]; last.Operation != "InstallCertificateChain" || last.Outcome != "Done" || last.Principal != call.Principal.String() {
		t.Errorf("the last audit row is %+v", last)
	}
}

func TestWhatTheAuthorityRefusesIsRefused(t *testing.T) {
	t.Parallel()
	b, f, a, call := bench(t)
	a.fail = fault.Integrity(fault.WrongKey, "/x", "no")
	_, state := f.GetTrustState(t.Context(), call, &generated.GetTrustStateRequest{})
	_, chain := f.GetCertificateChain(t.Context(), call, &generated.GetCertificateChainRequest{})
	_, request := f.CreateCertificateRequest(t.Context(), call, &generated.CreateCertificateRequestRequest{})
	_, install := f.InstallCertificateChain(t.Context(), call, &generated.InstallCertificateChainRequest{})
	for name, err := range map[string]error{"GetTrustState": state, "GetCertificateChain": chain, "CreateCertificateRequest": request, "InstallCertificateChain": install} {
		if !errors.Is(err, a.fail) {
			t.Errorf("%s: %v", name, err)
		}
	}
	rows := b.Rows()
	if last := rows[len(rows)-1]; last.Operation != "InstallCertificateChain" || last.Outcome != "Failed" {
		t.Errorf("the last audit row is %+v", last)
	}
	a.fail = nil
	if reply, err := f.CreateCertificateRequest(t.Context(), call, &generated.CreateCertificateRequestRequest{}); err != nil || reply.RequestPem != "a request" {
		t.Errorf("%+v, %v", reply, err)
	}
}
