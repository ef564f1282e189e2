package main

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/hooklift/gowsdl/soap"

	"biosv/fault"
	"biosv/generated"
	"biosv/security"
	"biosv/security/launch"
	"biosv/security/pki"
	"biosv/security/tpm"
)

// authority is what holds the issuing key: it satisfies what the functions trust and operator need.
type authority struct {
	trustDomain   string
	tpm           *tpm.TPM // nil where there is none
	launch        *launch.Launch
	state         launch.State
	policyDigest  []byte
	attestation   *generated.KeyAttestation
	issuer        *pki.Issuer
	leaf          *pki.Leaf
	authenticator *security.Authenticator
}

// openAuthority opens the TPM, measures this start, and opens the issuing key under its policy.
func openAuthority(ctx context.Context, s settings, log *slog.Logger) (_ *authority, err error) {
	source, err := tpm.ParseSource(s.tpm)
	if err != nil {
		return nil, err
	}
	a := &authority{trustDomain: s.trustDomain, authenticator: security.NewAuthenticator(s.trustDomain, time.Now)}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.close())
		}
	}()
	var key crypto.Signer
	if source.Kind == tpm.Software {
		log.Warn("there is no TPM: the issuing key is a file, and whoever reads the data folder owns it", "data", s.data)
		key, err = pki.FileKey(filepath.Join(s.data, "tpm", "issuing.key"))
	} else {
		key, err = a.openKey(ctx, source, s, log)
	}
	if err != nil {
		return nil, err
	}
	if a.issuer, err = pki.Open(key, filepath.Join(s.data, "trust"), s.trustDomain, time.Now); err != nil {
		return nil, err
	}
	if a.leaf, err = pki.NewLeaf(ctx, a.issuer, s.names, s.leafLife, log); err != nil {
		return nil, err
	}
	a.follow()
	return a, nil
}

// openKey opens the issuing key in a TPM.
func (a *authority) openKey(ctx context.Context, source tpm.Source, s settings, log *slog.Logger) (crypto.Signer, error) {
	var err error
	if a.tpm, err = tpm.Open(ctx, source, filepath.Join(s.data, "tpm")); err != nil {
		return nil, err
	}
	about := a.tpm.Describe()
	if about.Software {
		log.Warn("software TPM: whoever reads this folder owns the keys", "data", s.data, "manufacturer", about.Manufacturer)
	}
	if a.launch, err = launch.Open(filepath.Join(s.data, "launch")); err != nil {
		return nil, err
	}
	program, err := launch.Program()
	if err != nil {
		return nil, err
	}
	if a.state, err = a.launch.Measure(ctx, a.tpm, launch.Expected(program, s.measured())); err != nil {
		return nil, fmt.Errorf("measure this start: %w", err)
	}
	if a.launch.Version() == 0 {
		if err := a.launch.Provision(a.state); err != nil {
			return nil, fmt.Errorf("make the first launch policy: %w", err)
		}
	}
	approval, err := a.launch.Approval(a.state)
	if err != nil {
		return nil, err
	}
	key, err := a.tpm.OpenIssuingKey(ctx, a.launch.Signer())
	if err != nil {
		return nil, err
	}
	if a.policyDigest, err = approval.Digest(a.state.CounterName); err != nil {
		return nil, err
	}
	if a.attestation, err = a.attest(ctx, key); err != nil {
		return nil, err
	}
	return key, key.Use(approval, a.state.CounterName)
}

// attest has the TPM say, once a start, that the issuing key is its own.
func (a *authority) attest(ctx context.Context, key *tpm.IssuingKey) (*generated.KeyAttestation, error) {
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(public)
	said, err := a.tpm.CertifyIssuingKey(ctx, key, digest[:])
	if err != nil {
		return nil, err
	}
	return &generated.KeyAttestation{
		AttestationKeyName: hex.EncodeToString(said.KeyName), AttestationKeyPublic: said.KeyPublic, Statement: said.Statement, Signature: said.Signature,
	}, nil
}

// measured are the settings that matter for trust: what identities are made of.
func (s settings) measured() []byte {
	return []byte("biosv settings 1\ntrust-domain=" + s.trustDomain + "\n")
}

// follow makes the authenticator believe what the issuing key issued, whoever vouches for it now.
func (a *authority) follow() { a.authenticator.Trust(a.issuer.Anchors(), nil) }

func (a *authority) close() error {
	if a.leaf != nil {
		a.leaf.Close()
	}
	if a.tpm != nil {
		return a.tpm.Close()
	}
	return nil
}

// State tells what is known.
func (a *authority) State(_ context.Context, leaf string) (*generated.TrustState, error) {
	chain, ok := a.leaf.Chain(leaf)
	if !ok {
		return nil, fault.Unavailable(fault.TPMUnavailable, 0, "The certificate of this connection is out of date: connect again.")
	}
	fingerprint, err := a.issuer.KeyFingerprint()
	if err != nil {
		return nil, err
	}
	t := &generated.TrustState{
		TrustDomain: a.trustDomain, TpmKind: new(generated.TpmKindNone), MeasurementSource: new(generated.MeasurementSourceUnmeasured),
		IssuingKeySha256: hex.EncodeToString(fingerprint[:]),
		LeafSha256:       sha256Hex(chain[0].Raw), LeafNotAfter: soap.CreateXsdDateTime(chain[0].NotAfter.UTC(), true),
	}
	if a.tpm == nil {
		t.Warning = append(t.Warning, "There is no TPM: the issuing key is a file in the data folder, and whoever reads it owns the key.")
		return t, nil
	}
	about := a.tpm.Describe()
	*t.TpmKind, *t.MeasurementSource = generated.TpmKindHardware, generated.MeasurementSourceSelfAsserted
	t.Manufacturer, t.TpmFirmwareVersion = about.Manufacturer, about.FirmwareVersion
	t.EndorsementKeyName, t.EndorsementCertificate = about.EKName, about.EKCertificate
	t.IssuingKeyAttestation = a.attestation
	t.IssuingKeyHandle = fmt.Sprintf("%#x", uint32(tpm.IssuingHandle))
	t.PolicyVersion, t.PolicyDigest = uint32(a.launch.Version()), hex.EncodeToString(a.policyDigest)
	pcr := &generated.PcrValue{PcrIndex: launch.Register, Sha256: hex.EncodeToString(a.state.Value[:])}
	for _, e := range a.state.Events {
		pcr.EventName = append(pcr.EventName, e.Name)
	}
	t.Pcr = append(t.Pcr, pcr)
	if about.Software {
		*t.TpmKind = generated.TpmKindSoftware
		t.Warning = append(t.Warning, "Software TPM: whoever reads the data folder owns the keys.")
	}
	t.Warning = append(t.Warning, "The measurements are self-asserted: they prove nothing against a program that lies about itself.")
	return t, nil
}

// Chain gives the chain that a connection was shown.
func (a *authority) Chain(leaf string) ([]*x509.Certificate, error) {
	chain, ok := a.leaf.Chain(leaf)
	if !ok {
		return nil, fault.Unavailable(fault.TPMUnavailable, 0, "The certificate of this connection is out of date: connect again.")
	}
	return chain, nil
}

// CertificateRequest makes a request for the issuing key.
func (a *authority) CertificateRequest(context.Context) ([]byte, error) {
	request, err := a.issuer.CertificateRequest()
	return request, asFault(err, "")
}

// InstallChain puts a company's chain into force, and makes the TLS certificate anew under it.
func (a *authority) InstallChain(_ context.Context, pem []byte) ([]*x509.Certificate, error) {
	chain, err := a.issuer.InstallChain(pem)
	if err != nil {
		return nil, asFault(err, "/InstallCertificateChain/ChainPem")
	}
	a.follow()
	return chain, asFault(a.leaf.Renew(), "")
}

// IssueOperator issues a certificate to an operator.
func (a *authority) IssueOperator(_ context.Context, name string, request []byte) ([]byte, error) {
	c, err := a.issuer.IssueClient(request, security.PersonID(a.trustDomain, name))
	if err != nil {
		return nil, asFault(err, "/AddOperator/RequestPem")
	}
	return a.issuer.PEM(c), nil
}

// asFault gives the contract's fault for what trust refuses.
func asFault(err error, path string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pki.ErrRequest):
		return fault.InvalidRequest(fault.InvalidCertificate, path, "", "%v.", err)
	case errors.Is(err, pki.ErrSignature):
		return fault.Integrity(fault.BadSignature, path, "%v.", err)
	case errors.Is(err, pki.ErrKey):
		return fault.Integrity(fault.WrongKey, path, "%v.", err)
	case errors.Is(err, pki.ErrChain):
		return fault.Integrity(fault.BadSignature, path, "%v.", err)
	case errors.Is(err, tpm.ErrPolicy), errors.Is(err, tpm.ErrRevoked), errors.Is(err, tpm.ErrForged):
		return fault.Unavailable(fault.TPMUnavailable, 0, "%v.", err)
	}
	return err
}
