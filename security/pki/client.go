package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"biosv/internal/durable"
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
	key, err := readKey(keyPath)
	switch {
	case os.IsNotExist(err) && provisioned:
		return nil
	case os.IsNotExist(err):
		if key, err = writeKey(keyPath); err != nil {
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

func readKey(path string) (*ecdsa.PrivateKey, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	defer clear(text)
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is no PEM file", path)
	}
	defer clear(block.Bytes)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	k, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a %T; a P-256 key is expected", path, key)
	}
	return k, nil
}

// FileKey gives the key of a file, made where there is none: what stands for a TPM's where there is no TPM.
func FileKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := readKey(path)
	if os.IsNotExist(err) {
		return writeKey(path)
	}
	return key, err
}

func writeKey(path string) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	defer clear(der)
	text := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	defer clear(text)
	return key, durable.WriteFile(path, text, 0o600)
}
