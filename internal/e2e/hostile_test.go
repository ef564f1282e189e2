//go:build e2e

package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"biosv/envelope"
	"biosv/generated"
	"biosv/internal/testbed"
	"biosv/service/soap"
	"biosv/testdata/hostile"
)

const (
	memoryLimit = "256MiB"
	// mostResident is what the process may have in memory at the worst moment: the limit, which is the Go runtime's and
	// which it keeps by working harder, and the program and its mapped state beside it.
	mostResident = 320 << 20

	attackers = 64 // that send at once
)

// A service with 256 MiB lives through all attacks at once, by strangers and with the admin's certificate, and through
// more of the largest bodies than there is memory for.
func TestTheServiceLivesThroughAllAttacksAtOnce(t *testing.T) {
	s := testbed.Start(t, testbed.Options{Env: []string{"GOMEMLIMIT=" + memoryLimit}, Args: []string{"--log-level", "warn"}})
	admin := s.Admin(t)
	if _, err := admin.GetPowerState(t.Context(), testbed.At("demo"), &generated.GetPowerStateRequest{}); err != nil {
		t.Fatal(err)
	}
	before := resident(t, s.PID)
	pid := s.PID

	attacks, err := hostile.Corpus()
	if err != nil {
		t.Fatal(err)
	}
	peers := []peer{{"stranger", s.HTTP(t)}, {"admin", s.HTTP(t, s.Identity(t))}}
	var sends []send
	for range 2 {
		for _, a := range attacks {
			for _, p := range peers {
				sends = append(sends, send{p, a})
			}
		}
	}
	var answered, closed, overloaded atomic.Int64
	inParallel(sends, func(one send) {
		status, body, err := one.do(s.URL)
		switch {
		case err != nil:
			closed.Add(1)
		case status == http.StatusOK:
			t.Errorf("%s, by the %s, is answered with 200:\n%.500s", one.attack.Name, one.peer.name, body)
		case strings.Contains(body, "UnavailableFault"):
			overloaded.Add(1)
		case one.attack.Code != "" && !strings.Contains(body, "Fault>"):
			t.Errorf("%s, by the %s, is answered with %d:\n%.500s", one.attack.Name, one.peer.name, status, body)
		default:
			answered.Add(1)
		}
	})
	t.Logf("%d attacks: %d answered, %d told to come again, %d closed; at most %d MiB resident, %d before", len(sends), answered.Load(), overloaded.Load(), closed.Load(), resident(t, pid)>>20, before>>20)
	if answered.Load() < int64(len(sends))/2 {
		t.Errorf("%d of %d attacks were answered", answered.Load(), len(sends))
	}

	// Bodies of 64 MiB, whole and valid up to what is in the archive.
	answered.Store(0)
	overloaded.Store(0)
	closed.Store(0)
	inParallel(make([]struct{}, 32), func(struct{}) {
		status, body, err := post(peers[1].client, s.URL, largest(), soap.MostBytesAdmin, envelope.SOAP12)
		switch {
		case err != nil:
			closed.Add(1)
		case strings.Contains(body, "IntegrityFault"):
			answered.Add(1)
		case strings.Contains(body, "UnavailableFault"):
			overloaded.Add(1)
		default:
			t.Errorf("an archive of 64 MiB that is none is answered with %d:\n%.500s", status, body)
		}
	})
	peak := resident(t, pid)
	t.Logf("32 bodies of 64 MiB: %d answered, %d told to come again, %d closed; at most %d MiB resident", answered.Load(), overloaded.Load(), closed.Load(), peak>>20)
	if answered.Load() == 0 {
		t.Error("no body of 64 MiB was read")
	}
	if peak > mostResident {
		t.Errorf("at most %d MiB were resident; with GOMEMLIMIT=%s it may be %d", peak>>20, memoryLimit, mostResident>>20)
	}

	// It is the same process, and answers as before.
	if _, err := admin.GetPowerState(t.Context(), testbed.At("demo"), &generated.GetPowerStateRequest{}); err != nil {
		t.Errorf("after the attacks: %v", err)
	}
	if s.PID != pid {
		t.Error("it is another process")
	}
	if log := s.Log(); strings.Contains(log, "panic") || strings.Contains(log, "goroutine ") {
		t.Errorf("the log tells of a panic:\n%.4000s", log)
	}
}

type peer struct {
	name   string
	client *http.Client
}

type send struct {
	peer   peer
	attack hostile.Attack
}

// inParallel does something with every part of a list, as many at once as there are attackers.
func inParallel[T any](list []T, do func(T)) {
	next := make(chan T)
	var all sync.WaitGroup
	for range attackers {
		all.Go(func() {
			for one := range next {
				do(one)
			}
		})
	}
	for _, one := range list {
		next <- one
	}
	close(next)
	all.Wait()
}

// do sends an attack; an error is a connection that was closed.
func (s send) do(address string) (status int, body string, err error) {
	text := s.attack.Bytes()
	if !s.attack.HTTP {
		return post(s.peer.client, address, bytes.NewReader(text), int64(len(text)), s.attack.As)
	}
	u, err := url.Parse(address)
	if err != nil {
		return 0, "", err
	}
	conn, err := tls.Dial("tcp", u.Host, s.peer.client.Transport.(*http.Transport).TLSClientConfig)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return 0, "", err
	}
	if _, err = conn.Write(text); err == nil {
		err = conn.CloseWrite()
	}
	res, err2 := http.ReadResponse(bufio.NewReader(conn), nil)
	if err2 != nil {
		return 0, "", fmt.Errorf("%w (written: %v)", err2, err)
	}
	return answer(res)
}

func post(client *http.Client, address string, body io.Reader, bytes int64, v envelope.Version) (int, string, error) {
	request, err := http.NewRequest(http.MethodPost, address, body)
	if err != nil {
		return 0, "", err
	}
	request.ContentLength = bytes
	request.Header.Set("Content-Type", v.MediaType())
	res, err := client.Do(request)
	if err != nil {
		return 0, "", err
	}
	return answer(res)
}

func answer(res *http.Response) (int, string, error) {
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// largest is a request to restore a state, as large as a body may be.
func largest() io.Reader {
	const before, after = `<s:Envelope xmlns:s="` + envelope.Namespace12 + `"><s:Body><b:RestoreState xmlns:b="` + generated.Namespace + `"><b:Archive>`, `</b:Archive></b:RestoreState></s:Body></s:Envelope>`
	n := soap.MostBytesAdmin - len(before) - len(after)
	space, base64 := n%4, n-n%4
	return io.MultiReader(strings.NewReader(before+strings.Repeat(" ", space)), &io.LimitedReader{R: letters{}, N: int64(base64)}, strings.NewReader(after))
}

// letters gives As without end.
type letters struct{}

func (letters) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'A'
	}
	return len(p), nil
}

// resident is the most memory that a process had resident at once, in bytes (proc(5), VmHWM).
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "VmHWM:" {
			kb, err := strconv.Atoi(fields[1])
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatalf("the process %d tells no VmHWM", pid)
	return 0
}
