//go:build bench

package bench

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// loader sends requests over connections that stay open, on each the next one when the last was answered. The
// requests are bytes that are ready, so that it costs less than the server that it loads.
type loader struct{ connections []*connection }

type connection struct {
	tls      *tls.Conn
	in       *bufio.Reader
	requests [][]byte // sent in turn
	sent     int
	answer   int // bytes of the last answer, with its head
}

func newLoader(t *testing.T, address, root string, identity tls.Certificate, requests func(connection int) [][]byte) *loader {
	t.Helper()
	text, err := os.ReadFile(root)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS13, RootCAs: x509.NewCertPool(), ServerName: "localhost"}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &identity, nil }
	if !config.RootCAs.AppendCertsFromPEM(text) {
		t.Fatalf("%s holds no certificate", root)
	}
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	l := &loader{}
	for i := range connections {
		c, err := tls.Dial("tcp", u.Host, config)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		l.connections = append(l.connections, &connection{tls: c, in: bufio.NewReaderSize(c, 32<<10), requests: requests(i)})
	}
	return l
}

// run loads the server for a while and tells how many requests were answered.
func (l *loader) run(d time.Duration) (answered int, err error) {
	var wait sync.WaitGroup
	counts, errs := make([]int, len(l.connections)), make([]error, len(l.connections))
	end := time.Now().Add(d)
	for i, c := range l.connections {
		wait.Go(func() {
			for errs[i] == nil && time.Now().Before(end) {
				errs[i] = c.exchange()
				counts[i]++
			}
		})
	}
	wait.Wait()
	for _, n := range counts {
		answered += n
	}
	return answered, errors.Join(errs...)
}

// exchange sends a request and reads the answer to its end.
func (c *connection) exchange() error {
	length, err := c.ask()
	if err != nil {
		return err
	}
	_, err = c.in.Discard(length)
	return err
}

// once is exchange, and gives the answer's body.
func (c *connection) once() ([]byte, error) {
	length, err := c.ask()
	if err != nil {
		return nil, err
	}
	body := make([]byte, length)
	_, err = io.ReadFull(c.in, body)
	return body, err
}

// ask sends the next request and reads the head of the answer, which must be one of success.
func (c *connection) ask() (length int, err error) {
	if _, err := c.tls.Write(c.requests[c.sent%len(c.requests)]); err != nil {
		return 0, err
	}
	c.sent++
	good, head := false, 0
	for first := true; ; first = false {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		head += len(line)
		line = bytes.TrimRight(line, "\r\n")
		if first {
			good = bytes.HasPrefix(line, []byte("HTTP/1.1 200 "))
		} else if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return 0, err
			}
		}
		if len(line) > 0 {
			continue
		}
		if !good {
			body := make([]byte, length)
			_, err := io.ReadFull(c.in, body)
			return 0, errors.Join(fmt.Errorf("the answer is no success: %s", body), err)
		}
		c.answer = head + length
		return length, nil
	}
}
