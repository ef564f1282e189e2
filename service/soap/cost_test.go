package soap_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strings"
	"syscall"
	"testing"
	"time"

	"biosv/internal/testca"
)

// What an attack may cost at most.
const (
	mostTime   = 100 * time.Millisecond // of processors
	mostMemory = 32 << 20
)

// servedFrom names the folder with the certificates of a process that does nothing but serve a door: this test binary,
// started by TestAnAttackCostsLittle.
const servedFrom = "BIOSV_TEST_DOOR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(servedFrom); dir != "" {
		if err := serveAlone(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// spent is what a process has used since it started.
type spent struct {
	Time   time.Duration // of processors, in user and in system mode
	Memory uint64        // bytes allocated on the heap
	Live   uint64        // bytes on the heap that are reachable
}

// serveAlone serves a door, and beside it what the process has spent, until its standard input ends.
func serveAlone(dir string) error {
	own, err := tls.LoadX509KeyPair(filepath.Join(dir, "own.pem"), filepath.Join(dir, "own.key"))
	if err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(dir, "root.pem"))
	if err != nil {
		return err
	}
	block, _ := pem.Decode(text)
	root, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return err
	}
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	beside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer serve(door, own, settings(new(gate), root)).Close()
	go http.Serve(beside, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(spentSoFar()) // what does not come is missed by the test
	}))
	fmt.Println(door.Addr(), beside.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func spentSoFar() spent {
	runtime.GC()
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(samples)
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it fails for a bad address only
	return spent{Time: time.Duration(u.Utime.Nano() + u.Stime.Nano()), Memory: samples[0].Value.Uint64(), Live: samples[1].Value.Uint64()}
}

// An attack costs the service little: processor time, which another process cannot add to, of a process that does
// nothing else; and memory, which is at most what lives between requests and what the attack had allocated.
func TestAnAttackCostsLittle(t *testing.T) {
	h := &house{root: testca.NewRoot(t, "root")}
	dir := t.TempDir()
	own := ownPair(t, h.root)
	der, err := x509.MarshalPKCS8PrivateKey(own.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	keep(t, filepath.Join(dir, "own.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	keep(t, filepath.Join(dir, "own.pem"), testca.PEM(own.Leaf))
	keep(t, filepath.Join(dir, "root.pem"), testca.PEM(h.root.Certificate))
	address, beside := startAlone(t, dir)
	config := h.config(t, person+"admin")
	client := h.client(t, person+"admin")

	var slowest, largest string
	var most spent
	before := ask(t, beside)
	for _, a := range corpus(t) {
		request := a.Bytes()
		var least spent
		for try := range 3 {
			if _, err := send(client, config, address, a, request); err != nil {
				t.Fatalf("%s: %v", a.Name, err)
			}
			after := ask(t, beside)
			cost := spent{Time: after.Time - before.Time, Memory: before.Live + after.Memory - before.Memory}
			before = after
			if try == 0 || cost.Time < least.Time {
				least.Time = cost.Time
			}
			if try == 0 || cost.Memory < least.Memory {
				least.Memory = cost.Memory
			}
			if least.Time < mostTime/4 && least.Memory < mostMemory/4 {
				break
			}
		}
		if least.Time > mostTime || least.Memory > mostMemory {
			t.Errorf("%s costs %s and %d MiB; it may cost %s and %d MiB", a.Name, least.Time, least.Memory>>20, mostTime, mostMemory>>20)
		}
		if least.Time > most.Time {
			most.Time, slowest = least.Time, a.Name
		}
		if least.Memory > most.Memory {
			most.Memory, largest = least.Memory, a.Name
		}
	}
	t.Logf("at most %s (%s), and %.1f MiB (%s)", most.Time.Round(time.Millisecond/10), slowest, float64(most.Memory)/(1<<20), largest)
}

// startAlone starts the process that serves a door, and gives the door's address and that of what it has spent.
func startAlone(t *testing.T, dir string) (door, beside string) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), servedFrom+"="+dir)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	end, err := cmd.StdinPipe()
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
		end.Close()
		if err := cmd.Wait(); err != nil || strings.Contains(stderr.String(), "panic") {
			t.Errorf("the process that serves the door: %v\n%s", err, stderr.String())
		}
	})
	if _, err := fmt.Fscan(out, &door, &beside); err != nil {
		t.Fatalf("the process that serves the door: %v\n%s", err, stderr.String())
	}
	return "https://" + door + "/bios", "http://" + beside
}

// ask asks the process that serves the door what it has spent.
func ask(t *testing.T, beside string) (s spent) {
	t.Helper()
	res, err := http.Get(beside)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s
}
