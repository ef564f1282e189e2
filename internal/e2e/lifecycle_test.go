//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"biosv/envelope"
	"biosv/envelope/xmltext"
	"biosv/generated"
	"biosv/internal/testbed"
)

// run runs a program to its end and gives what it says on standard error and its exit code.
func run(t *testing.T, env []string, program string, args ...string) (text string, exit int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	var ended *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &ended) {
		t.Fatal(err)
	}
	if ctx.Err() != nil {
		t.Fatalf("%s does not end: %s", cmd, &stderr)
	}
	return stderr.String(), cmd.ProcessState.ExitCode()
}

func tagged(t *testing.T, p generated.Port) string {
	t.Helper()
	reply, err := p.GetAttributes(t.Context(), testbed.At("demo"), &generated.GetAttributesRequest{Name: []string{"AssetTag"}})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(reply.Attribute[0].CurrentValue, " ")
}

func tag(t *testing.T, p generated.Port, value string) error {
	t.Helper()
	_, err := p.SetAttributes(t.Context(), testbed.At("demo"), &generated.SetAttributesRequest{
		Attribute: []*generated.AttributeValue{{Name: "AssetTag", NewValue: []string{value}}},
	})
	return err
}

func TestASecondServiceOnTheFolderIsRefused(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "software"}})
	text, exit := run(t, nil, testbed.Program(t), "serve", "--data", s.Data, "--listen", "127.0.0.1:0", "--tpm", "software")
	if exit != 1 || !strings.Contains(text, "in use by another biosv") || !strings.Contains(text, s.Data) || !strings.Contains(text, "--data") {
		t.Errorf("it ends with %d and says: %s", exit, text)
	}
	if err := tag(t, s.Admin(t), "first"); err != nil {
		t.Errorf("the first one: %v", err)
	}
}

// A request that has begun is answered before the service ends, and it ends with 0.
func TestRequestsUnderWayAreAnsweredWhenTheServiceStops(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "software"}})
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(certificate(t, s.RootFile()))
	conn, err := tls.Dial("tcp", u.Host, &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{s.Identity(t)}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w := xmltext.NewWriter()
	defer w.Release()
	envelope.Begin(w, envelope.SOAP12, nil)
	generated.Encode(w, &generated.ListOperatorsRequest{})
	envelope.End(w)
	body := w.Bytes()
	// The answer 100 says that the service has begun with the request.
	if _, err := fmt.Fprintf(conn, "POST /bios HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/soap+xml\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n", len(body)); err != nil {
		t.Fatal(err)
	}
	const begun = "HTTP/1.1 100 Continue\r\n\r\n"
	if answer := make([]byte, len(begun)); must(io.ReadFull(conn, answer))(t) != len(begun) || string(answer) != begun {
		t.Fatalf("the service says %q", answer)
	}
	if _, err := conn.Write(body[:len(body)/2]); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(s.Log(), "stopping"); time.Sleep(5 * time.Millisecond) {
		if err := syscall.Kill(s.PID, syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if time.Now().After(deadline) {
			t.Fatal("it does not begin to stop")
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		late, err := net.Dial("tcp", u.Host)
		if err != nil {
			break
		}
		late.Close()
		if time.Now().After(deadline) {
			t.Fatal("it still accepts connections")
		}
	}
	if _, err := conn.Write(body[len(body)/2:]); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 OK")) || !bytes.Contains(answer, []byte("ListOperatorsResponse")) {
		t.Errorf("the request under way is answered with %q, %v", answer, err)
	}
	if err := s.Stop(); err != nil {
		t.Errorf("it ends with %v", err)
	}
}

func TestWithoutATPMTheServiceSaysWhatToInstall(t *testing.T) {
	t.Parallel()
	which := "auto"
	if _, err := os.Stat("/dev/tpmrm0"); !errors.Is(err, fs.ErrNotExist) {
		which = "swtpm" // auto would take the host's own TPM here
	}
	data := filepath.Join(t.TempDir(), "data")
	text, exit := run(t, []string{"PATH=" + t.TempDir()}, testbed.Program(t), "serve", "--data", data, "--listen", "127.0.0.1:0", "--tpm", which)
	if exit != 1 || !strings.Contains(text, "/dev/tpmrm0") || !strings.Contains(text, "install the Debian packages swtpm and swtpm-tools") || !strings.Contains(text, "--tpm software") {
		t.Errorf("it ends with %d and says: %s", exit, text)
	}
	text, exit = run(t, nil, testbed.Program(t), "serve", "--data", data, "--listen", "127.0.0.1:0", "--tpm", "device:"+filepath.Join(data, "none"))
	if exit != 1 || !strings.Contains(text, filepath.Join(data, "none")) {
		t.Errorf("with a device that is not there it ends with %d and says: %s", exit, text)
	}
	s := testbed.Start(t, testbed.Options{Data: data, Args: []string{"--tpm", "software"}}) // what came before left nothing in the way
	if err := tag(t, s.Admin(t), "x"); err != nil {
		t.Error(err)
	}
}

func TestTheServiceSaysAtEachStartWhatHoldsItsKey(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		tpm, warns string
		kind       generated.TpmKind
		source     generated.MeasurementSource
	}{
		{"software", "there is no TPM: the issuing key is a file", generated.TpmKindNone, generated.MeasurementSourceUnmeasured},
		{"swtpm", "software TPM: whoever reads this folder owns the keys", generated.TpmKindSoftware, generated.MeasurementSourceSelfAsserted},
	} {
		data := filepath.Join(t.TempDir(), "data")
		for range 2 {
			s := testbed.Start(t, testbed.Options{Data: data, Args: []string{"--tpm", row.tpm}})
			if text := s.Log(); !strings.Contains(text, row.warns) || !strings.Contains(text, "level=WARN") {
				t.Errorf("--tpm %s: it says at its start: %s", row.tpm, text)
			}
			reply, err := s.Port(t).GetTrustState(t.Context(), testbed.At(""), &generated.GetTrustStateRequest{})
			if err != nil {
				t.Fatal(err)
			}
			if *reply.Trust.TpmKind != row.kind || *reply.Trust.MeasurementSource != row.source || len(reply.Trust.Warning) == 0 {
				t.Errorf("--tpm %s: GetTrustState tells %s, %s, and warns %q", row.tpm, *reply.Trust.TpmKind, *reply.Trust.MeasurementSource, reply.Trust.Warning)
			}
			if err := s.Stop(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Another program, by one byte, gets no certificate until somebody with the signer's key says so.
func TestAChangedProgramIsRefusedUntilItIsAuthorised(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "swtpm"}})
	root, client := certificate(t, s.RootFile()), s.Identity(t)
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	changed := filepath.Join(t.TempDir(), "biosv")
	if err := os.WriteFile(changed, append([]byte(read(t, testbed.Program(t))), 0), 0o755); err != nil {
		t.Fatal(err)
	}
	serve := []string{"serve", "--data", s.Data, "--listen", "127.0.0.1:0", "--tpm", "swtpm"}
	refused := func(program string, args ...string) {
		t.Helper()
		if text, exit := run(t, nil, program, args...); exit != 1 || !strings.Contains(text, "not authorised") || !strings.Contains(text, "biosv launch authorize") {
			t.Errorf("%s ends with %d and says: %s", program, exit, text)
		}
	}
	refused(changed, serve...)
	refused(testbed.Program(t), append(slices.Clone(serve), "--data", copied(t, s.Data, "other.example"), "--trust-domain", "other.example")...)

	key, away := filepath.Join(s.Data, "launch", "signer.key"), filepath.Join(t.TempDir(), "signer.key")
	if err := os.Rename(key, away); err != nil {
		t.Fatal(err)
	}
	if text, exit := run(t, nil, changed, "launch", "authorize", "--data", s.Data); exit != 1 || !strings.Contains(text, "signer's key is needed") || !strings.Contains(text, key) {
		t.Errorf("authorize without the signer's key ends with %d and says: %s", exit, text)
	}
	refused(changed, serve...)
	if err := os.Rename(away, key); err != nil {
		t.Fatal(err)
	}
	if text, exit := run(t, nil, changed, "launch", "authorize", "--data", s.Data); exit != 0 {
		t.Fatalf("authorize ends with %d and says: %s", exit, text)
	}
	if err := os.Remove(key); err != nil { // it is not needed to run
		t.Fatal(err)
	}
	for _, program := range []string{changed, testbed.Program(t)} {
		s = testbed.Start(t, testbed.Options{Program: program, Data: s.Data, Args: []string{"--tpm", "swtpm"}})
		if !certificate(t, s.RootFile()).Equal(root) {
			t.Error("the root is another one now")
		}
		reply, err := s.Port(t, client).GetTrustState(t.Context(), testbed.At(""), &generated.GetTrustStateRequest{})
		if err != nil || reply.Trust.PolicyVersion != 2 {
			t.Errorf("the policy's version is %d, %v", reply.Trust.PolicyVersion, err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
	}
}

// copied copies a data folder that was set up for another trust domain than it now says.
func copied(t *testing.T, data, trustDomain string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "data")
	if err := os.CopyFS(to, os.DirFS(data)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(to, "trust-domain"), trustDomain+"\n")
	return to
}

func TestARestartAfterACrashKeepsEverythingAcknowledged(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "swtpm"}})
	client := s.Identity(t)
	for i := range 3 {
		want := fmt.Sprint("crash ", i)
		if err := tag(t, s.Port(t, client), want); err != nil {
			t.Fatal(err)
		}
		s.Kill()
		start := time.Now()
		s = testbed.Start(t, testbed.Options{Data: s.Data, Args: []string{"--tpm", "swtpm"}})
		if got := tagged(t, s.Port(t, client)); got != want {
			t.Errorf("it is %q; want %q", got, want)
		}
		t.Logf("the first answer came %s after the start", time.Since(start))
	}
	audited(t, s.Admin(t), "a change from before the crashes", func(r *generated.AuditRecord) bool {
		return r.Operation == "SetAttributes" && *r.AuditOutcome == generated.AuditOutcomeDone
	})
}

// small mounts a file system of 6 MB; who may not mount limits the size of files instead.
func small(t *testing.T) (folder string, mounted bool) {
	t.Helper()
	folder = t.TempDir()
	if os.Geteuid() != 0 {
		return folder, false
	}
	if err := unix.Mount("tmpfs", folder, "tmpfs", 0, "size=6m"); err != nil {
		t.Fatalf("mount a small file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(folder, 0); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return folder, true
}

// fill leaves no room on a file system, and gives what makes room again.
func fill(t *testing.T, folder string) (room func()) {
	t.Helper()
	path := filepath.Join(folder, "filling")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for block := make([]byte, 4096); err == nil; {
		_, err = f.Write(block)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// limit lets a process write no file that is larger than its state is now, and gives what takes that back.
func limit(t *testing.T, s *testbed.Service) (room func()) {
	t.Helper()
	info, err := os.Stat(filepath.Join(s.Data, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	var before unix.Rlimit
	if err := unix.Prlimit(s.PID, unix.RLIMIT_FSIZE, &unix.Rlimit{Cur: uint64(info.Size()), Max: unix.RLIM_INFINITY}, &before); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Prlimit(s.PID, unix.RLIMIT_FSIZE, &before, nil); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAFullDiskRefusesChangesUntilThereIsRoom(t *testing.T) {
	t.Parallel()
	folder, mounted := small(t)
	s := testbed.Start(t, testbed.Options{Data: filepath.Join(folder, "data"), Args: []string{"--tpm", "software"}})
	admin := s.Admin(t)
	if err := tag(t, admin, "before"); err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		var room func()
		if mounted {
			room = fill(t, folder)
		} else {
			room = limit(t, s)
		}
		// The state has some room of its own, which is used up first.
		last, err := tagged(t, admin), error(nil)
		for i := 0; err == nil && i < 5000; i++ {
			if err = tag(t, admin, fmt.Sprintf("round %d, %d", round, i)); err == nil {
				last = fmt.Sprintf("round %d, %d", round, i)
			}
		}
		if got := code(err); got != "UnavailableFault StorageFull" {
			t.Fatalf("a change is answered with %s", got)
		}
		if _, err := admin.ResetSystem(t.Context(), testbed.At("demo"), &generated.ResetSystemRequest{ResetType: new(generated.ResetTypeOn)}); code(err) != "UnavailableFault StorageFull" {
			t.Errorf("a machine's action is answered with %s", code(err))
		}
		if got := tagged(t, admin); got != last {
			t.Errorf("reading gives %q; acknowledged was %q", got, last)
		}
		if _, err := admin.GetThermal(t.Context(), testbed.At("demo"), &generated.GetThermalRequest{}); err != nil {
			t.Errorf("reading sensors: %v", err)
		}
		if _, err := s.Port(t).ListOperators(t.Context(), testbed.At(""), &generated.ListOperatorsRequest{}); code(err) != "AuthenticationRequiredFault CertificateMissing" {
			t.Errorf("a refusal that cannot be audited is %s", code(err))
		}
		room()
		if err := tag(t, admin, "after"); err != nil {
			t.Errorf("when there is room again: %v", err)
		}
	}
	if _, err := admin.ResetSystem(t.Context(), testbed.At("demo"), &generated.ResetSystemRequest{ResetType: new(generated.ResetTypeOn)}); err != nil {
		t.Errorf("a machine's action, when there is room again: %v", err)
	}
	audited(t, admin, "the change when there was room again", func(r *generated.AuditRecord) bool { return r.Operation == "ResetSystem" })
}

func TestMetricsAndHealthAreOnLoopbackAndServeNoOperation(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "software"}})
	found := regexp.MustCompile(`metrics and health" address=(http://127\.0\.0\.1:\d+)`).FindStringSubmatch(s.Log())
	if found == nil {
		t.Fatalf("the log names no address on loopback: %s", s.Log())
	}
	if _, err := s.Admin(t).ListDomains(t.Context(), testbed.At(""), &generated.ListDomainsRequest{}); err != nil {
		t.Fatal(err)
	}
	get := func(path string) (int, string) {
		t.Helper()
		answer, err := http.Get(found[1] + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode, string(body)
	}
	if status, body := get("/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %q", status, body)
	}
	if status, body := get("/metrics"); status != http.StatusOK || !strings.Contains(body, `biosv_requests_total{door="soap",operation="ListDomains",outcome="ok"} 1`) {
		t.Errorf("/metrics: %d\n%s", status, body)
	}
	for _, path := range []string{"/bios", "/bios?wsdl", "/", "/debug/pprof/"} {
		if status, _ := get(path); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
	answer, err := s.HTTP(t).Get(strings.TrimSuffix(s.URL, "/bios") + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusNotFound {
		t.Errorf("/metrics on the listener of the service: %d", answer.StatusCode)
	}
}

func TestBackupAndRestoreWhileTheServiceRuns(t *testing.T) {
	t.Parallel()
	s := testbed.Start(t, testbed.Options{Args: []string{"--tpm", "software"}})
	admin := s.Admin(t)
	if err := tag(t, admin, "then"); err != nil {
		t.Fatal(err)
	}
	backup, err := admin.BackupState(t.Context(), testbed.At(""), &generated.BackupStateRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if err := tag(t, admin, "now"); err != nil {
		t.Fatal(err)
	}
	if _, err := admin.CreateDomain(t.Context(), testbed.At(""), &generated.CreateDomainRequest{
		Name: new(generated.DomainName("web1")), DomainKind: new(generated.DomainKindSimulated),
	}); err != nil {
		t.Fatal(err)
	}
	// A reader that goes on all the while is answered all the while.
	ctx, stop := context.WithCancel(t.Context())
	reader, read := s.Admin(t), make(chan error, 1)
	go func() {
		for {
			_, err := reader.GetTrustState(ctx, testbed.At(""), &generated.GetTrustStateRequest{})
			if ctx.Err() != nil {
				read <- nil
				return
			}
			if err != nil {
				read <- err
				return
			}
		}
	}()
	damaged := slices.Clone(backup.Archive)
	damaged[len(damaged)/2] ^= 0xff
	for name, archive := range map[string][]byte{"damaged": damaged, "half": damaged[:len(damaged)/2], "no archive": []byte("no archive")} {
		var f *generated.IntegrityFault
		if _, err := admin.RestoreState(t.Context(), testbed.At(""), &generated.RestoreStateRequest{Archive: archive}); !errors.As(err, &f) || f.Code != "DamagedArchive" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := tagged(t, admin); got != "now" {
		t.Errorf("an archive that was refused left %q", got)
	}
	if _, err := admin.RestoreState(t.Context(), testbed.At(""), &generated.RestoreStateRequest{Archive: backup.Archive}); err != nil {
		t.Fatal(err)
	}
	if got := tagged(t, admin); got != "then" {
		t.Errorf("restored, it is %q", got)
	}
	_, err = admin.GetDomain(t.Context(), testbed.At("web1"), &generated.GetDomainRequest{})
	if got := code(err); got != "NotFoundFault" {
		t.Errorf("a domain that is not in the backup: %s", got)
	}
	if err := tag(t, admin, "later"); err != nil {
		t.Errorf("a change afterwards: %v", err)
	}
	stop()
	if err := <-read; err != nil {
		t.Errorf("a reader meanwhile: %v", err)
	}
	if _, err := os.Stat(filepath.Join(s.Data, "state.db.before-restore")); err != nil {
		t.Errorf("what was there before is not kept: %v", err)
	}
	audited(t, admin, "the restore", func(r *generated.AuditRecord) bool {
		return r.Operation == "RestoreState" && *r.AuditOutcome == generated.AuditOutcomeDone
	})
}
