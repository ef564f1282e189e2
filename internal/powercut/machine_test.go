//go:build guest

package powercut

import (
	"crypto/tls"
	"crypto/x509"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"biosv/envelope"
	"biosv/generated"
	"biosv/internal/guest"
	"biosv/internal/testbed"
)

const (
	diskSize = 64 << 20
	port     = 8443
	// serve has the guest start the service, and start it again when it ends.
	serve = "keep biosv /bin/biosv serve --data /data/biosv --listen 0.0.0.0:8443 --tpm device:/dev/tpmrm0 --metrics none --log-level warn"
)

// seed is what a run's randomness comes from: $SEED, or one that the log tells.
var seed = sync.OnceValues(func() (uint64, error) {
	if text := os.Getenv("SEED"); text != "" {
		return strconv.ParseUint(text, 10, 64)
	}
	return rand.Uint64(), nil
})

// dice are a test's own; number keeps them apart from those of others.
func dice(t *testing.T, number uint64) *rand.Rand {
	t.Helper()
	s, err := seed()
	if err != nil {
		t.Fatalf("SEED: %v", err)
	}
	t.Logf("SEED=%d has the same instants again", s)
	return rand.New(rand.NewPCG(s, number))
}

// kills is how often the power is cut: $KILLS, or 3.
func kills(t *testing.T) int {
	t.Helper()
	text := os.Getenv("KILLS")
	if text == "" {
		return 3
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("KILLS=%s: a number from 1 on is needed", text)
	}
	return n
}

// memory gives a folder in memory, where there is such: what lies there needs no disk of this host, and its fsync
// costs nothing.
func memory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "powercut")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// run runs a program, and gives what it says and its exit status.
func run(t *testing.T, program string, args ...string) (said string, status int) {
	t.Helper()
	cmd := exec.Command(guest.Tool(t, program), args...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// box is a machine on which biosv runs: what stays when its power goes.
type box struct {
	disk  string
	tpm   *guest.TPM
	files map[string]string // beside the service: path in the guest -> file of this host

	roots    *x509.CertPool // those of the service, once it has made them
	identity tls.Certificate
}

// newBox makes a machine with an empty disk, as Debian would make its file system on a disk of usual size.
func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{disk: filepath.Join(memory(t), "disk"), tpm: guest.NewTPM(t, memory(t))}
	if said, status := run(t, "mke2fs", "-q", "-t", "ext4", "-T", "default", b.disk, strconv.Itoa(diskSize>>10)+"k"); status != 0 {
		t.Fatalf("mke2fs: %s", said)
	}
	return b
}

// on switches the machine on; log, where it is not empty, takes a log of the disk's writes.
func (b *box) on(t *testing.T, log string) *guest.Guest {
	t.Helper()
	files := map[string]string{"/bin/biosv": testbed.Program(t)}
	maps.Copy(files, b.files)
	return guest.Start(t, guest.Config{
		Files:  files,
		Script: []string{"mount /dev/vda /data ext4", "network 10.0.2.15/24", serve},
		Disks:  []guest.Disk{{Path: b.disk, Log: log}},
		TPM:    b.tpm,
		Ports:  []int{port},
	})
}

// off cuts the power of the machine and of its TPM.
func (b *box) off(t *testing.T, g *guest.Guest) {
	t.Helper()
	g.Kill()
	b.tpm.CutPower(t)
}

// ready waits until the service answers, and takes what a client needs of the folder that it made.
func (b *box) ready(t *testing.T, g *guest.Guest) {
	t.Helper()
	g.Await(t, "biosv: ready on ")
	if b.roots != nil {
		return
	}
	b.roots = x509.NewCertPool()
	if root := g.Show(t, "/data/biosv/trust/root.pem"); !b.roots.AppendCertsFromPEM(root) {
		t.Fatalf("the service's root is no certificate:\n%s", root)
	}
	var err error
	b.identity, err = tls.X509KeyPair(g.Show(t, "/data/biosv/clients/admin.pem"), g.Show(t, "/data/biosv/clients/admin.key"))
	if err != nil {
		t.Fatal(err)
	}
}

// connect gives what makes connections to the service, each of its own.
func (b *box) connect(t *testing.T, g *guest.Guest) func() generated.Port {
	t.Helper()
	address := g.Address(t, port)
	return func() generated.Port {
		transport := &http.Transport{TLSClientConfig: b.tls()}
		t.Cleanup(transport.CloseIdleConnections)
		return generated.HandlerPort(&generated.Client{
			URL: "https://" + address + "/bios", HTTP: &http.Client{Transport: transport, Timeout: time.Minute}, Version: envelope.SOAP12,
		})
	}
}

func (b *box) tls() *tls.Config {
	return &tls.Config{
		RootCAs:              b.roots,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &b.identity, nil },
	}
}
