package pki

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"biosv/internal/durable"
	"biosv/security/keyfile"
)

// renewBefore is how long before its end the first admin's certificate is made anew.
const renewBefore = 30 * 24 * time.Hour

// EnsureClient keeps a key and a certificate for it in a folder, as name.key and name.pem: made where they are
// missing, and the certificate made anew when it is about to end or when the issuing certificate is another one.
// A folder from which the key was moved away is left alone.
func (i *Issuer) EnsureClient(dir, name string, id *url.URL) error {
	keyPath, certPath := filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pem")
	_, err := os.Stat(certPath)
	provisioned := err == nil
	key, err := keyfile.Read(keyPath)
	switch {
	case os.IsNotExist(err) && provisioned:
		return nil
	case os.IsNotExist(err):
		if key, err = keyfile.Make(keyPath); err != nil {
			return fmt.Errorf("make a key for %s: %w", name, err)
		}
	case err != nil:
		return err
	}
	if text, err := os.ReadFile(certPath); err == nil {
		if block, _ := pem.Decode(text); block != nil {
			if c, err := x509.ParseCertificate(block.Bytes); err == nil && c.NotAfter.Sub(i.clock()) > renewBefore &&
				equal(c.PublicKey, &key.PublicKey) && c.CheckSignatureFrom(i.Chain()[0]) == nil {
				return nil
			}
		}
	}
	c, err := i.issueClient(&key.PublicKey, id)
	if err != nil {
		return err
	}
	return durable.WriteFile(certPath, i.PEM(c), 0o600)
}

// FileKey gives the key of a file, made where there is none: what stands for a TPM's where there is no TPM.
func FileKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := keyfile.Read(path)
	if os.IsNotExist(err) {
		return keyfile.Make(path)
	}
	return key, err
}
