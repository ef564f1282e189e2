//go:build guest

package qemu_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf16"

	"biosv/generated"
	"biosv/internal/guest"
	"biosv/internal/testbed"
)

// do runs a program, which must succeed.
func (h *house) do(program string, arguments ...string) []byte {
	h.Helper()
	out, err := exec.Command(guest.Tool(h, program), arguments...).CombinedOutput()
	if err != nil {
		h.Fatalf("%s: %v\n%s", program, err, out)
	}
	return out
}

// certified is a key with its certificate, in files as sbsign takes them.
type certified struct {
	key, certificate string // files
	pem              string // of the certificate
}

func (h *house) certify(dir, name string) certified {
	h.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		h.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		h.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		h.Fatal(err)
	}
	c := certified{filepath.Join(dir, name+".key"), filepath.Join(dir, name+".crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	for file, text := range map[string][]byte{c.key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), c.certificate: []byte(c.pem)} {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			h.Fatal(err)
		}
	}
	return c
}

// program makes the EFI program of testdata/measure, which goes by a name.
func (h *house) program(dir, name string) string {
	h.Helper()
	return h.compile("testdata/measure/measure.c", dir, name)
}

// compile makes an EFI program of a source, which goes by a name.
func (h *house) compile(source, dir, name string) string {
	h.Helper()
	object, file := filepath.Join(dir, name+".o"), filepath.Join(dir, name+".efi")
	h.do("clang-14", "-target", "x86_64-unknown-windows", "-std=c2x", "-ffreestanding", "-fshort-wchar", "-mno-red-zone", "-mgeneral-regs-only", "-Os", "-fno-stack-protector",
		"-Wall", "-Wextra", "-Werror", "-I", filepath.Join(testbed.Root, "vbios", "driver"), "-DNAME=\""+name+"\"", "-c", source, "-o", object)
	h.do("lld-link-14", "/subsystem:efi_application", "/entry:start", "/nodefaultlib", "/timestamp:0", "/out:"+file, object)
	return file
}

// systemPartition makes an image with a program where firmware looks for one (UEFI 2.10, 3.5.1.1), and other files beside
// the folder EFI.
func (h *house) systemPartition(image, program string, others ...string) *generated.ImageName {
	h.Helper()
	file := filepath.Join(h.images, image)
	const mebibyte = 1 << 20
	size := int64(2 * mebibyte) // and what is in it
	for _, f := range append(others[:len(others):len(others)], program) {
		info, err := os.Stat(f)
		if err != nil {
			h.Fatal(err)
		}
		size += (info.Size() + mebibyte - 1) / mebibyte * mebibyte
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		h.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		h.Fatal(err)
	}
	h.do("mkfs.vfat", file)
	h.do("mmd", "-i", file, "::/EFI", "::/EFI/BOOT")
	h.do("mcopy", "-i", file, program, "::/EFI/BOOT/BOOTX64.EFI")
	for _, other := range others {
		h.do("mcopy", "-i", file, other, "::/")
	}
	return new(generated.ImageName("images/" + image))
}

// measurement is an event of the log of the firmware's measurements (TCG PC Client Platform Firmware Profile, 10.2.2).
type measurement struct {
	pcr, kind uint32
	digest    []byte // SHA-256
	data      []byte
}

// The types of events that PCR 7 has (10.4.1).
const (
	separator         = 0x4
	variableConfig    = 0x80000001
	variableAuthority = 0x800000e0
)

// measurements reads a log whose only algorithm is SHA-256.
func (h *house) measurements(log []byte) (all []measurement) {
	h.Helper()
	number := func(bytes int) (n uint32) {
		if len(log) < bytes {
			h.Fatalf("the event log ends too early, after %d events", len(all))
		}
		if bytes == 4 {
			n = binary.LittleEndian.Uint32(log)
		} else {
			n = uint32(binary.LittleEndian.Uint16(log))
		}
		log = log[bytes:]
		return n
	}
	take := func(bytes uint32) (b []byte) {
		if uint32(len(log)) < bytes {
			h.Fatalf("the event log ends too early, after %d events", len(all))
		}
		b, log = log[:bytes], log[bytes:]
		return b
	}
	number(4) // the first event is of an older form, and names the algorithms
	number(4)
	take(20)
	take(number(4))
	for len(log) > 0 {
		e := measurement{pcr: number(4), kind: number(4)}
		if count, algorithm := number(4), number(2); count != 1 || algorithm != 0xb {
			h.Fatalf("an event has %d digests, the first of algorithm %#x", count, algorithm)
		}
		e.digest = take(sha256.Size)
		e.data = take(number(4))
		all = append(all, e)
	}
	return all
}

// variable gives name and value of a variable that was measured (UEFI_VARIABLE_DATA).
func (e measurement) variable() (name string, value []byte) {
	characters := binary.LittleEndian.Uint64(e.data[16:])
	text := make([]uint16, characters)
	for i := range text {
		text[i] = binary.LittleEndian.Uint16(e.data[32+2*i:])
	}
	return string(utf16.Decode(text)), e.data[32+2*characters:]
}

// told gives what the program of a name told, in hexadecimal.
func (m *machine) tells(program, what string) []byte {
	m.Helper()
	line := m.console.Await(m, program+": "+what+": ")
	_, text, _ := strings.Cut(line, program+": "+what+": ")
	b, err := hex.DecodeString(text)
	if err != nil {
		m.Fatalf("the program said %q", line)
	}
	return b
}

var replayed = regexp.MustCompile(`(?m)^\s+7\s*:\s*0x([0-9a-fA-F]{64})$`)

// agrees checks that Secure Boot as the running program tells of it, the log of what its firmware measured, and PCR 7 of
// its TPM agree with our state. It gives PCR 7.
func (m *machine) agrees(program string) []byte {
	m.Helper()
	m.console.Await(m, program+": started")
	reply, err := m.service.Admin(m).GetSecureBoot(m.Context(), m.call(), &generated.GetSecureBootRequest{})
	if err != nil || *reply.SecureBoot.SecureBootCurrentBoot != generated.SecureBootSwitchOn || *reply.SecureBoot.SecureBootMode != generated.SecureBootModeUserMode {
		m.Errorf("Secure Boot is %+v, %v", reply, err)
	}
	state := func(name string) []byte {
		m.Helper()
		reply, err := m.service.Admin(m).GetVariable(m.Context(), m.call(), &generated.GetVariableRequest{Name: new(generated.VariableName(name))})
		if err != nil {
			m.Fatal(err)
		}
		return reply.VariableData
	}
	for name, want := range map[string][]byte{"SecureBoot": {1}, "SetupMode": {0}} {
		if inside, outside := m.tells(program, name), state(name); !bytes.Equal(inside, want) || !bytes.Equal(outside, want) {
			m.Errorf("%s is %x inside and %x outside", name, inside, outside)
		}
	}
	log := m.tells(program, "log")
	var names []string
	pcr := make([]byte, sha256.Size)
	for _, e := range m.measurements(log) {
		if e.pcr != 7 {
			continue
		}
		if sum := sha256.Sum256(e.data); !bytes.Equal(sum[:], e.digest) {
			m.Errorf("an event of type %#x has another digest than its data", e.kind)
		}
		next := sha256.Sum256(append(pcr, e.digest...))
		pcr = next[:]
		switch e.kind {
		case variableConfig:
			name, value := e.variable()
			names = append(names, name)
			if want := []byte(nil); name == "dbx" && len(value) == 0 {
				want = value // there is none yet
			} else if want = state(name); !bytes.Equal(value, want) {
				m.Errorf("%s was measured as %x, and is %x", name, value, want)
			}
		case variableAuthority:
			name, value := e.variable()
			names = append(names, "by "+name)
			if !bytes.Contains(state("db"), value) {
				m.Errorf("a program was let through by what is not in db: %x", value)
			}
		case separator:
			names = append(names, "separator")
		}
	}
	if want := []string{"SecureBoot", "PK", "KEK", "db", "dbx", "separator", "by db"}; !slices.Equal(names, want) {
		m.Errorf("into PCR 7 was measured %q, and not %q", names, want)
	}
	if answer := m.tells(program, "pcr"); !bytes.HasSuffix(answer, pcr) {
		m.Errorf("PCR 7 is %x, and by the log %x", answer, pcr)
	}
	file := filepath.Join(m.TempDir(), "log")
	if err := os.WriteFile(file, log, 0o600); err != nil {
		m.Fatal(err)
	}
	if other := replayed.FindSubmatch(m.do("tpm2_eventlog", file)); other == nil || string(other[1]) != hex.EncodeToString(pcr) {
		m.Errorf("tpm2_eventlog replays PCR 7 as %s, and not as %x", other, pcr)
	}
	return pcr
}

// Secure Boot with keys that came by SOAP, on firmware without system management mode, which measures into a TPM of the
// machine's own. The first disk has a program that nobody signed, the second one that is signed, the third another one.
func TestSecureBootIsWhatOurStateSaysAndIsMeasured(t *testing.T) {
	h := &house{T: t, images: t.TempDir()}
	h.serve("")
	dir := t.TempDir()
	pk, kek, db := h.certify(dir, "PK"), h.certify(dir, "KEK"), h.certify(dir, "db")
	signed := func(name string) string {
		to := filepath.Join(dir, name+".signed.efi")
		h.do("sbsign", "--key", db.key, "--cert", db.certificate, "--output", to, h.program(dir, name))
		return to
	}
	first := signed("first")
	disks := []*generated.ImageName{h.systemPartition("0.img", h.program(dir, "unsigned")), h.systemPartition("1.img", first), h.systemPartition("2.img", signed("second"))}
	earlier := h.backup()
	if _, err := h.service.Admin(t).CreateDomain(t.Context(), testbed.At(""), &generated.CreateDomainRequest{
		Name: new(generated.DomainName("one")), DomainKind: new(generated.DomainKindQemu), MemoryMiB: new(generated.MemoryMiB(256)), DiskImage: disks, VirtualTpm: true,
	}); err != nil {
		t.Fatal(err)
	}
	m := &machine{house: h, name: "one"}
	t.Cleanup(func() {
		if pid, err := m.pid(); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it has ended where the test went well
		}
	})
	if _, err := h.service.Admin(t).EnrollSecureBootKeys(t.Context(), m.call(), &generated.EnrollSecureBootKeysRequest{
		PlatformKeyPem: pk.pem, KeyExchangeKeyPem: kek.pem, AuthorizedKeyPem: db.pem,
	}); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	m.reset(generated.ResetTypeOn)
	m.connect()
	before := m.agrees("first")
	t.Logf("a signed program ran, and was measured, after %s", time.Since(began))
	if said := m.console.Said(); strings.Contains(said, "unsigned: ") || !strings.Contains(said, "Access Denied") {
		t.Errorf("a program that nobody signed:\n%s", said)
	}

	list, update := filepath.Join(dir, "dbx.esl"), filepath.Join(dir, "dbx.auth")
	h.do("hash-to-efi-sig-list", first, list)
	h.do("sign-efi-sig-list", "-a", "-k", kek.key, "-c", kek.certificate, "dbx", list, update)
	content, err := os.ReadFile(update)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.service.Admin(t).SetVariable(t.Context(), m.call(), &generated.SetVariableRequest{
		Name: new(generated.VariableName("dbx")), VariableData: content, VariableAttribute: []*generated.VariableAttribute{
			new(generated.VariableAttributeNonVolatile), new(generated.VariableAttributeBootServiceAccess), new(generated.VariableAttributeRuntimeAccess),
			new(generated.VariableAttributeTimeBasedAuthenticated), new(generated.VariableAttributeAppendWrite),
		},
	}); err != nil {
		t.Fatal(err)
	}
	m.reset(generated.ResetTypeForceRestart)
	m.connect()
	if after := m.agrees("second"); bytes.Equal(before, after) {
		t.Error("PCR 7 is the same with another dbx")
	}
	if said := m.console.Said(); strings.Contains(said, "unsigned: ") || strings.Contains(said, "first: ") {
		t.Errorf("a program whose hash is in dbx, or that nobody signed:\n%s", said)
	}

	t.Run("its TPM outlives the service", func(t *testing.T) {
		process := m.tpm()
		h.service.Kill()
		answer := strings.TrimSpace(m.console.AwaitNext(t, "second: pcr: 8001", func() {}))
		h.serve(h.service.Data)
		if now := m.tpm(); now != process {
			t.Errorf("it is the process %d, and was %d", now, process)
		}
		if now := strings.TrimSpace(m.console.AwaitNext(t, "second: pcr: 8001", func() {})); now != answer {
			t.Errorf("its PCR 7 is %s, and was %s", now, answer)
		}
	})
	t.Run("a TPM that is killed is missed, and nothing else", func(t *testing.T) {
		if err := syscall.Kill(m.tpm(), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		m.within(10*time.Second, "a record", func() bool { return m.told("BiosV.1.0.TpmFailed") })
		if state := m.power(); state != generated.PowerStateOn {
			t.Errorf("it is %s", state)
		}
	})
	t.Run("it ends where the state is one from before it was made, and is off when that is taken back", func(t *testing.T) {
		later, process := h.backup(), m.process()
		h.restore(earlier)
		if line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", process)); err == nil && len(line) > 0 { // one that has ended has none
			t.Errorf("it runs: %q", line)
		}
		if !(&machine{house: h, name: "dom0"}).told("BiosV.1.0.MachineWithoutDomain") {
			t.Error("the log of the privileged domain does not tell of it")
		}
		h.restore(later)
		if state := m.power(); state != generated.PowerStateOff {
			t.Errorf("it is %s", state)
		}
	})
	if _, err := h.service.Admin(t).DestroyDomain(t.Context(), testbed.At(""), &generated.DestroyDomainRequest{Name: new(generated.DomainName("one"))}); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Join(h.service.Data, "vtpm")); err != nil || len(left) != 0 {
		t.Errorf("of the TPM is left %v, %v", left, err)
	}
}

func (h *house) backup() []byte {
	h.Helper()
	reply, err := h.service.Admin(h).BackupState(h.Context(), testbed.At(""), &generated.BackupStateRequest{})
	if err != nil {
		h.Fatal(err)
	}
	return reply.Archive
}

func (h *house) restore(archive []byte) {
	h.Helper()
	if _, err := h.service.Admin(h).RestoreState(h.Context(), testbed.At(""), &generated.RestoreStateRequest{Archive: archive}); err != nil {
		h.Fatal(err)
	}
}

// tpm is the process of the machine's TPM.
func (m *machine) tpm() int {
	m.Helper()
	files, err := filepath.Glob(filepath.Join(m.service.Data, "vtpm", "*", "pid"))
	if err != nil || len(files) != 1 {
		m.Fatalf("the processes of TPMs are in %q, %v", files, err)
	}
	text, err := os.ReadFile(files[0])
	if err != nil {
		m.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		m.Fatal(err)
	}
	return pid
}
