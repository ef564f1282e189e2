// Package trust tells what stands behind the service's certificate, and lets a company's own certificate
// authority stand behind it. What speaks of the channel is answered by the service that ends the TLS session.
package trust

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"

	"github.com/hooklift/gowsdl/soap"

	"biosv/generated"
	"biosv/smm"
)

// Authority is what holds the issuing key. What is wrong with what a caller gave is a fault of the contract.
type Authority interface {
	// State tells what is known; leaf names the TLS certificate of the caller's channel by its SHA-256 in
	// hexadecimal, and is empty where there is none.
	State(ctx context.Context, leaf string) (*generated.TrustState, error)
	// Chain gives the certificates from that TLS certificate to the root.
	Chain(leaf string) ([]*x509.Certificate, error)
	// CertificateRequest makes a PKCS #10 request for the issuing key, PEM.
	CertificateRequest(ctx context.Context) ([]byte, error)
	// InstallChain puts a chain for the issuing key into force.
	InstallChain(ctx context.Context, pem []byte) ([]*x509.Certificate, error)
}

// Function answers [generated.TrustPort].
type Function struct {
	bios      *smm.BIOS
	authority Authority
}

// New makes the function.
func New(b *smm.BIOS, a Authority) *Function { return &Function{b, a} }

var _ generated.TrustPort = (*Function)(nil)

// GetTrustState tells what is known.
func (f *Function) GetTrustState(ctx context.Context, call generated.Call, _ *generated.GetTrustStateRequest) (*generated.GetTrustStateReply, error) {
	state, err := f.authority.State(ctx, call.Channel.LeafSHA256)
	if err != nil {
		return nil, err
	}
	return &generated.GetTrustStateReply{Trust: state}, nil
}

// GetCertificateChain gives the chain of the caller's channel.
func (f *Function) GetCertificateChain(_ context.Context, call generated.Call, _ *generated.GetCertificateChainRequest) (*generated.GetCertificateChainReply, error) {
	chain, err := f.authority.Chain(call.Channel.LeafSHA256)
	if err != nil {
		return nil, err
	}
	return &generated.GetCertificateChainReply{Certificate: entries(chain)}, nil
}

// CreateCertificateRequest gives a request for the issuing key.
func (f *Function) CreateCertificateRequest(ctx context.Context, _ generated.Call, _ *generated.CreateCertificateRequestRequest) (*generated.CreateCertificateRequestReply, error) {
	pem, err := f.authority.CertificateRequest(ctx)
	if err != nil {
		return nil, err
	}
	return &generated.CreateCertificateRequestReply{RequestPem: string(pem)}, nil
}

// InstallCertificateChain puts a company's chain into force. The chain is a file beside the state and is
// replaced as a whole; the record of it follows.
func (f *Function) InstallCertificateChain(ctx context.Context, call generated.Call, request *generated.InstallCertificateChainRequest) (*generated.InstallCertificateChainReply, error) {
	var chain []*x509.Certificate
	err := f.bios.Act(ctx, call, generated.OpInstallCertificateChain, smm.Action{
		Intend: func(*smm.Tx) error { return nil },
		Act: func(ctx context.Context, _ smm.Machine) (err error) {
			chain, err = f.authority.InstallChain(ctx, []byte(request.ChainPem))
			return err
		},
		Conclude: func(tx *smm.Tx) error {
			tx.Event(smm.Event{
				Severity: generated.EventSeverityWarning, MessageID: "BiosV.1.0.CertificateChainInstalled",
				Message: fmt.Sprintf("The issuing key is vouched for by %s.", chain[len(chain)-1].Subject),
				Changes: []smm.Change{{Name: "Root", New: new(fmt.Sprintf("%x", sha256.Sum256(chain[len(chain)-1].Raw)))}},
			})
			return nil
		},
	})
	if err != nil {
		return nil, err
	}
	return &generated.InstallCertificateChainReply{Certificate: entries(chain)}, nil
}

func entries(chain []*x509.Certificate) (list []*generated.CertificateEntry) {
	for _, c := range chain {
		subject := c.Subject.String()
		if subject == "" && len(c.URIs) > 0 {
			subject = c.URIs[0].String()
		}
		list = append(list, &generated.CertificateEntry{
			Subject: subject, Issuer: c.Issuer.String(), NotBefore: soap.CreateXsdDateTime(c.NotBefore.UTC(), true),
			NotAfter: soap.CreateXsdDateTime(c.NotAfter.UTC(), true), Sha256: fmt.Sprintf("%x", sha256.Sum256(c.Raw)), Der: c.Raw,
		})
	}
	return list
}
