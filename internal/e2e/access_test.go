//go:build e2e

package e2e

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"biosv/envelope"
	"biosv/generated"
	"biosv/internal/testbed"
	"biosv/internal/testca"
)

// port asks a service over an HTTP client of one's own.
func port(s *testbed.Service, client *http.Client) generated.Port {
	return generated.HandlerPort(&generated.Client{URL: s.URL, HTTP: client})
}

// traced tells of each request whether it went over a connection that was there already.
func traced(ctx context.Context, fn func(reused bool)) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { fn(i.Reused) }})
}

// from makes a client's connections come from another address of the loopback interface: refusals of peers without
// identity are counted by address, and each is to be told from the others.
func from(client *http.Client, address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	client.Transport.(*http.Transport).DialContext = dialer.DialContext
	return client
}

// issuing is the service's own issuing key, of a service that has it in a file: with it a test issues what the
// service never would.
func issuing(t *testing.T, s *testbed.Service) *testca.Authority {
	t.Helper()
	block, _ := pem.Decode([]byte(read(t, filepath.Join(s.Data, "tpm", "issuing.key"))))
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return testca.FromPair(tls.Certificate{Leaf: certificate(t, s.RootFile()), PrivateKey: key})
}

// add adds an operator and gives the identity that the service issues to it.
func add(t *testing.T, admin generated.Port, name string, role generated.OperatorRole, key crypto.Signer) tls.Certificate {
	t.Helper()
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := admin.AddOperator(t.Context(), testbed.At(""), &generated.AddOperatorRequest{
		Name: new(generated.OperatorName(name)), OperatorRole: &role,
		RequestPem: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})),
	})
	if err != nil {
		t.Fatal(err)
	}
	pair := tls.Certificate{PrivateKey: key}
	for block, rest := pem.Decode([]byte(reply.CertificatePem)); block != nil; block, rest = pem.Decode(rest) {
		pair.Certificate = append(pair.Certificate, block.Bytes)
	}
	return pair
}

func remove(t *testing.T, admin generated.Port, name string) {
	t.Helper()
	if _, err := admin.RemoveOperator(t.Context(), testbed.At(""), &generated.RemoveOperatorRequest{Name: new(generated.OperatorName(name))}); err != nil {
		t.Fatal(err)
	}
}

// code is the kind and the code of a fault.
func code(err error) string {
	var f generated.Fault
	if !errors.As(err, &f) {
		return fmt.Sprint(err)
	}
	switch f := f.(type) {
	case *generated.AuthenticationRequiredFault:
		return f.Info().Name + " " + f.Code
	case *generated.AccessDeniedFault:
		return f.Info().Name + " " + f.Code
	case *generated.ConflictFault:
		return f.Info().Name + " " + f.Code
	case *generated.UnavailableFault:
		return f.Info().Name + " " + f.Code
	}
	return f.Info().Name
}

// audited waits for the row of the audit log that tells of something: refusals may be folded for two seconds.
func audited(t *testing.T, admin generated.Port, what string, tells func(*generated.AuditRecord) bool) {
	t.Helper()
	var after generated.LogPosition
	for deadline := time.Now().Add(10 * time.Second); ; {
		reply, err := admin.GetAuditLog(t.Context(), testbed.At(""), &generated.GetAuditLogRequest{After: &after, MostRecords: new(generated.RecordLimit(1000))})
		if err != nil {
			t.Fatal(err)
		}
		if !reply.ChainIntact {
			t.Fatal("the audit log's chain is not intact")
		}
		if slices.ContainsFunc(reply.Record, tells) {
			return
		}
		if n := len(reply.Record); n > 0 {
			after = *reply.Record[n-1].Position
			continue
		}
		if time.Now().After(deadline) {
			t.Errorf("the audit log does not tell of it: %s", what)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Who may not is refused with a fault that says why, over SOAP 1.1 and 1.2, and each refusal is in the audit log.
func TestWhoMayNotIsRefusedAndAudited(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "software"}})
	ours := issuing(t, s)
	admin := s.Admin(t)
	now := time.Now()
	person := func(name string) testca.Edit { return testca.Named("spiffe://biosv.local/person/" + name) }
	pair := func(edits ...testca.Edit) *tls.Certificate { return new(ours.Pair(t, edits...)) }
	removed := add(t, admin, "removed", generated.OperatorRoleAdmin, testca.Key(t))
	remove(t, admin, "removed")
	viewer := add(t, admin, "vera", generated.OperatorRoleViewer, testca.Key(t))
	elsewhere := testca.NewRoot(t, "another root").Pair(t, person("admin"))

	list := func(ctx context.Context, p generated.Port) error {
		_, err := p.ListOperators(ctx, testbed.At(""), &generated.ListOperatorsRequest{})
		return err
	}
	tag := func(ctx context.Context, p generated.Port) error {
		_, err := p.SetAttributes(ctx, testbed.At("demo"), &generated.SetAttributesRequest{
			Attribute: []*generated.AttributeValue{{Name: "AssetTag", NewValue: []string{"x"}}},
		})
		return err
	}
	const (
		unidentified = "unidentified"
		needs        = "AuthenticationRequiredFault "
		denied       = "AccessDeniedFault "
	)
	for i, row := range []struct {
		name      string
		pair      *tls.Certificate
		ask       func(context.Context, generated.Port) error
		operation string
		want      string
		actor     string
		reason    string
	}{
		{"no certificate", nil, list, "ListOperators", needs + "CertificateMissing", unidentified, "no client certificate was shown"},
		{"another root", &elsewhere, list, "ListOperators", needs + "CertificateUntrusted", unidentified, "was not issued by this service"},
		{"expired", pair(person("admin"), testca.Valid(now.Add(-2*time.Hour), now.Add(-time.Hour))), list, "ListOperators", needs + "CertificateExpired", unidentified, "expired on"},
		{"not yet valid", pair(person("admin"), testca.Valid(now.Add(time.Hour), now.Add(2*time.Hour))), list, "ListOperators", needs + "CertificateNotYetValid", unidentified, "is valid from"},
		{"for servers", pair(person("admin"), testca.Usage(x509.ExtKeyUsageServerAuth)), list, "ListOperators", needs + "CertificateWrongPurpose", unidentified, "not for client authentication"},
		{"of another trust domain", pair(testca.Named("spiffe://example.org/person/admin")), list, "ListOperators", needs + "CertificateNameless", unidentified, "trust domain"},
		{"no certificate, to change", nil, tag, "SetAttributes", needs + "CertificateMissing", unidentified, "no client certificate was shown"},
		{"a person who is no operator", pair(person("mallory")), list, "ListOperators", denied + "NotAnOperator", "spiffe://biosv.local/person/mallory", "no operator here"},
		{"an operator that was removed", &removed, list, "ListOperators", denied + "NotAnOperator", "spiffe://biosv.local/person/removed", "no operator here"},
		{"a viewer, to change", &viewer, tag, "SetAttributes", denied + "RoleTooSmall", "spiffe://biosv.local/person/vera", "asks for the role operator"},
		{"a viewer, at an admin's", &viewer, list, "ListOperators", denied + "RoleTooSmall", "spiffe://biosv.local/person/vera", "asks for the role admin"},
		{"another domain", pair(testca.Named("spiffe://biosv.local/domain/web1")), tag, "SetAttributes", denied + "OtherDomain", "spiffe://biosv.local/domain/web1", "of the domain demo"},
		{"a domain, at the host's", pair(testca.Named("spiffe://biosv.local/domain/demo")), func(ctx context.Context, p generated.Port) error {
			_, err := p.ListOperators(ctx, testbed.At("dom0"), &generated.ListOperatorsRequest{})
			return err
		}, "ListOperators", denied + "OtherDomain", "spiffe://biosv.local/domain/demo", "of the domain dom0"},
	} {
		for j, version := range []envelope.Version{envelope.SOAP11, envelope.SOAP12} {
			t.Run(fmt.Sprintf("%s, SOAP %s", row.name, version), func(t *testing.T) {
				var pairs []tls.Certificate
				if row.pair != nil {
					pairs = append(pairs, *row.pair)
				}
				address := fmt.Sprintf("127.0.%d.%d", i+1, j+1)
				client := from(s.HTTP(t, pairs...), address)
				p := generated.HandlerPort(&generated.Client{URL: s.URL, HTTP: client, Version: version})
				err := row.ask(t.Context(), p)
				if got := code(err); got != row.want {
					t.Errorf("refused with %s (%v); want %s", got, err, row.want)
				}
				if err == nil || !strings.Contains(err.Error(), row.reason) && row.reason != "" {
					t.Errorf("the fault says %q; want %q", err, row.reason)
				}
				audited(t, admin, row.name, func(r *generated.AuditRecord) bool {
					return strings.HasPrefix(r.Peer, address+":") && r.Operation == row.operation && r.Actor == row.actor && *r.AuditOutcome == generated.AuditOutcomeRefused &&
						strings.Contains(r.Reason, row.reason) && strings.HasPrefix(r.Reason, strings.Fields(row.want)[0]) && r.RequestId != "" && r.Door == "soap"
				})
			})
		}
	}
	for _, attribute := range must(admin.GetAttributes(t.Context(), testbed.At("demo"), &generated.GetAttributesRequest{Name: []string{"AssetTag"}}))(t).Attribute {
		if slices.Contains(attribute.CurrentValue, "x") {
			t.Error("a change that was refused was made")
		}
	}
}

func must[T any](v T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// What TLS itself refuses is in the audit log too.
func TestHandshakesThatFailAreAudited(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "software"}})
	admin := s.Admin(t)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	damaged := testca.NewRoot(t, "another root").Pair(t)
	damaged.Certificate[0] = append(damaged.Certificate[0], 0)
	for i, row := range []struct {
		name   string
		config *tls.Config
		reason string
	}{
		{"a client certificate that is none", &tls.Config{InsecureSkipVerify: true, GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &damaged, nil }}, "failed to parse client certificate"},
		{"TLS 1.1", &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "version"},
	} {
		address := fmt.Sprintf("127.1.1.%d", i+1)
		dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
		conn, err := tls.DialWithDialer(dialer, "tcp", u.Host, row.config)
		if err == nil { // with TLS 1.3 the client is ready before the server has judged its certificate
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "remote error: tls: ") {
			t.Errorf("%s: the client gets %v; want an alert", row.name, err)
		}
		audited(t, admin, row.name, func(r *generated.AuditRecord) bool {
			return strings.HasPrefix(r.Peer, address+":") && r.Operation == "TLS handshake" && strings.Contains(r.Reason, row.reason) && *r.AuditOutcome == generated.AuditOutcomeRefused
		})
	}
}

// A role that is taken away is gone on a connection that is open, and one that is given is there.
func TestARoleTakenAwayIsGoneOnAnOpenConnection(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "software"}})
	admin := s.Admin(t)
	otto := port(s, s.HTTP(t, add(t, admin, "otto", generated.OperatorRoleOperator, testca.Key(t))))
	connections := 0
	ctx := traced(t.Context(), func(reused bool) {
		if !reused {
			connections++
		}
	})
	tag := func() string {
		_, err := otto.SetAttributes(ctx, testbed.At("demo"), &generated.SetAttributesRequest{
			Attribute: []*generated.AttributeValue{{Name: "AssetTag", NewValue: []string{"x"}}},
		})
		return code(err)
	}
	give := func(role generated.OperatorRole) {
		t.Helper()
		if _, err := admin.AddOperator(t.Context(), testbed.At(""), &generated.AddOperatorRequest{Name: new(generated.OperatorName("otto")), OperatorRole: &role}); err != nil {
			t.Fatal(err)
		}
	}
	if got := tag(); got != "<nil>" {
		t.Fatalf("as an operator: %s", got)
	}
	give(generated.OperatorRoleViewer)
	if got := tag(); got != "AccessDeniedFault RoleTooSmall" {
		t.Errorf("as a viewer: %s", got)
	}
	give(generated.OperatorRoleOperator)
	if got := tag(); got != "<nil>" {
		t.Errorf("as an operator again: %s", got)
	}
	remove(t, admin, "otto")
	if got := tag(); got != "AccessDeniedFault NotAnOperator" {
		t.Errorf("when it was removed: %s", got)
	}
	if connections != 1 {
		t.Errorf("it took %d connections", connections)
	}
	_, err := admin.RemoveOperator(t.Context(), testbed.At(""), &generated.RemoveOperatorRequest{Name: new(generated.OperatorName("admin"))})
	if got := code(err); got != "ConflictFault LastAdmin" {
		t.Errorf("the last admin removes itself: %s", got)
	}
}

func TestAnRSAKeyWorks(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "software"}})
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pair := add(t, s.Admin(t), "rosa", generated.OperatorRoleViewer, key)
	if _, err := s.Port(t, pair).GetDomain(t.Context(), testbed.At("demo"), &generated.GetDomainRequest{}); err != nil {
		t.Error(err)
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if leaf.URIs[0].String() != "spiffe://biosv.local/person/rosa" || leaf.IsCA {
		t.Errorf("it is a certificate of %v, and an authority's: %v", leaf.URIs, leaf.IsCA)
	}
}
