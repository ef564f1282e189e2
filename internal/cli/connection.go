package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"biosv/envelope"
	"biosv/generated"
)

// DefaultData is the data folder where neither --data nor BIOSV_DATA names one: the same that biosv serve takes.
const DefaultData = ".biosv"

// The files of a data folder that a client on the same host reads. The service writes them.
const (
	addressFile     = "address"           // https://HOST:PORT/bios
	rootFile        = "trust/root.pem"    // the root that the service's certificate ends in
	certificateFile = "clients/admin.pem" // the first admin's certificate and chain
	keyFile         = "clients/admin.key" // its key
)

// Connection is where the service is and how it and we prove who they are.
type Connection struct {
	URL         string           // of the service, such as https://bios.example.com:8443/bios
	Root        string           // PEM file of the certificates that the service's may end in
	Certificate string           // PEM file of the client certificate and its chain; empty for none
	Key         string           // PEM file of its key
	Version     envelope.Version // of SOAP
}

// connectionFlags are the flags that a connection is settled from.
type connectionFlags struct {
	url, root, certificate, key, data, domain, soap string
}

func (f *connectionFlags) bind(set *pflag.FlagSet) {
	set.StringVar(&f.url, "url", "", "`address` of the service, such as https://HOST:8443/bios (default: what DIR/address says)")
	set.StringVar(&f.root, "ca", "", "`file` with the root certificate of the service (default DIR/trust/root.pem)")
	set.StringVar(&f.certificate, "cert", "", "`file` with your certificate and its chain (default DIR/clients/admin.pem)")
	set.StringVar(&f.key, "key", "", "`file` with the key of your certificate (default DIR/clients/admin.key)")
	set.StringVar(&f.data, "data", "", "data folder `DIR` of a service on this host (default: $BIOSV_DATA, else "+DefaultData+")")
	set.StringVar(&f.domain, "domain", "", "`name` of the domain to ask (default: the address's own)")
	set.StringVar(&f.soap, "soap", "1.2", "`version` of SOAP to speak: 1.1 or 1.2")
}

// folder is the data folder, and how it was named.
func (f *connectionFlags) folder() (dir, how string) {
	if f.data != "" {
		return f.data, "--data"
	}
	if d := os.Getenv("BIOSV_DATA"); d != "" {
		return d, "BIOSV_DATA"
	}
	return DefaultData, "the default data folder"
}

// resolve settles the connection: what a flag says counts, and the data folder has the rest.
func (f *connectionFlags) resolve() (Connection, error) {
	c := Connection{URL: f.url, Root: f.root, Certificate: f.certificate, Key: f.key, Version: envelope.SOAP12}
	switch f.soap {
	case "1.1":
		c.Version = envelope.SOAP11
	case "1.2":
	default:
		return c, usage("--soap %q: 1.1 or 1.2 is expected", f.soap)
	}
	if (c.Certificate == "") != (c.Key == "") {
		return c, usage("--cert and --key belong together: give both, or none")
	}
	dir, how := f.folder()
	if c.URL == "" {
		path := filepath.Join(dir, addressFile)
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return c, usage("where the service is, is not known: there is no %s (%s); start it with biosv serve --data %s, or say --url https://HOST:8443/bios, or --data DIR", path, how, dir)
		} else if err != nil {
			return c, fmt.Errorf("read the service's address: %w", err)
		}
		c.URL = strings.TrimSpace(string(text))
	}
	var err error
	if c.URL, err = serviceURL(c.URL); err != nil {
		return c, err
	}
	if c.Root == "" {
		c.Root = filepath.Join(dir, rootFile)
		if _, err := os.Stat(c.Root); errors.Is(err, fs.ErrNotExist) {
			return c, usage("the service's root certificate is not known: there is no %s (%s); name the file with --ca, or the folder with --data DIR", c.Root, how)
		}
	}
	if c.Certificate == "" {
		certificate := filepath.Join(dir, certificateFile)
		if _, err := os.Stat(certificate); err == nil {
			c.Certificate, c.Key = certificate, filepath.Join(dir, keyFile)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return c, fmt.Errorf("read the client certificate: %w; show another with --cert and --key", err)
		}
	}
	return c, nil
}

// serviceURL checks an address. What a service that listens on every address writes is no address to go to: the
// local host stands for it.
func serviceURL(text string) (string, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "", usage("the address %q: one such as https://HOST:8443/bios is expected", text)
	}
	if u.Scheme != "https" {
		return "", usage("the address %q: the service speaks https only", text)
	}
	if ip := net.ParseIP(u.Hostname()); ip != nil && ip.IsUnspecified() {
		u.Host = "localhost"
		if port := urlPort(text); port != "" {
			u.Host += ":" + port
		}
	}
	if u.Path = strings.TrimRight(u.Path, "/"); u.Path == "" {
		u.Path = "/bios"
	}
	return u.String(), nil
}

func urlPort(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return ""
	}
	return u.Port()
}

// HTTPClient makes the HTTP client that a connection asks for, and gives the address to ask. It believes a service
// whose certificate ends in the connection's root and bears the host name of the address, over TLS 1.2 or better,
// and shows the client certificate where there is one. Redirects are not followed.
func HTTPClient(c Connection) (*http.Client, string, error) {
	text, err := os.ReadFile(c.Root)
	if err != nil {
		return nil, "", fmt.Errorf("read the service's root certificate: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(text) {
		return nil, "", fmt.Errorf("the service's root certificate: %s holds no certificate in PEM", c.Root)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
	if c.Certificate != "" {
		pair, err := tls.LoadX509KeyPair(c.Certificate, c.Key)
		if err != nil {
			return nil, "", fmt.Errorf("load the client certificate %s with the key %s: %w", c.Certificate, c.Key, err)
		}
		// It is shown even where no authority that the service names issued it: the service says then what is wrong.
		config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &pair, nil }
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: config, TLSHandshakeTimeout: 10 * time.Second,
		DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext, DisableKeepAlives: true,
	}
	refuse := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: refuse}, c.URL, nil
}

// SOAP opens a service that speaks the contract over SOAP.
func SOAP(_ context.Context, c Connection) (generated.Handler, error) {
	client, address, err := HTTPClient(c)
	if err != nil {
		return nil, err
	}
	return &generated.Client{URL: address, HTTP: client, Version: c.Version}, nil
}
