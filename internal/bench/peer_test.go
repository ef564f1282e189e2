//go:build bench

package bench

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"biosv/internal/testca"
	"biosv/service/listen"
)

// peerVariable names the folder of a peer: this program, run again, is a peer where it is set.
const peerVariable = "BIOSV_BENCH_PEER"

// peerServer is a process of its own with net/http behind the listener of BIOS.v. At /one and at /all it answers
// with bytes that BIOS.v answered with.
type peerServer struct {
	url, root string
	pid       int
}

func startPeer(t *testing.T, one, all []byte) *peerServer {
	t.Helper()
	dir := t.TempDir()
	authority := testca.NewRoot(t, "of the peer").Sub(t, "of the peer's servers")
	pair := authority.Pair(t, testca.Usage(x509.ExtKeyUsageServerAuth), func(c *x509.Certificate) { c.DNSNames = []string{"localhost"} })
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	chain := append([]*x509.Certificate{pair.Leaf}, authority.Chain()...)
	for name, content := range map[string][]byte{
		"one": one, "all": all, "key.pem": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}),
		"cert.pem": testca.PEM(chain[:2]...), "root.pem": testca.PEM(chain[2]),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), peerVariable+"="+dir)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe() // it ends when this is closed
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the peer: %v", err)
		}
	})
	address, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the peer: %v", err)
	}
	return &peerServer{url: "https://" + strings.TrimSpace(address), root: filepath.Join(dir, "root.pem"), pid: cmd.Process.Pid}
}

// servePeer is the peer. It answers until its standard input ends.
func servePeer() error {
	dir := os.Getenv(peerVariable)
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	for _, name := range []string{"one", "all"} {
		answer, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return err
		}
		mux.HandleFunc("POST /"+name, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Type", "application/soap+xml; charset=utf-8")
			w.Header().Set("Content-Length", strconv.Itoa(len(answer)))
			_, _ = w.Write(answer)
		})
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	l := listen.New(inner, listen.Config{
		Certificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil },
		Failed:      func(peer string, err error) { fmt.Fprintln(os.Stderr, "peer:", peer, err) },
	})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	fmt.Println(inner.Addr())
	return http.Serve(l, mux)
}
