package observe_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"biosv/fault"
	"biosv/generated"
	"biosv/security"
	"biosv/service/observe"
)

type answer func() error

func (a answer) Handle(context.Context, generated.Call, generated.Request) (generated.Reply, error) {
	return &generated.GetDomainReply{}, a()
}

// served are the metrics and the health of a service, and where they are to be had.
func served(t *testing.T, healthy func(context.Context) error) (*observe.Metrics, func(method, path string) (int, string)) {
	t.Helper()
	m := observe.NewMetrics(func() time.Time { return time.Unix(1_800_000_000, 0) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- observe.Serve(ctx, l, m, healthy, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return m, func(method, path string) (int, string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+l.Addr().String()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(request)
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
}

func TestRequestsAreCountedByOutcome(t *testing.T) {
	t.Parallel()
	m, ask := served(t, nil)
	call := generated.Call{Door: security.DoorSOAP}
	denied := fault.AccessDenied(fault.RoleTooSmall, "", "", "", "no")
	for _, err := range []error{nil, nil, denied, fmt.Errorf("wrapped: %w", denied), errors.New("no fault")} {
		reply, got := m.Handler(answer(func() error { return err })).Handle(t.Context(), call, &generated.GetDomainRequest{})
		if got != err || reply == nil {
			t.Errorf("the answer is changed: %v, %v", reply, got)
		}
	}
	_, text := ask("GET", "/metrics")
	for _, want := range []string{
		`biosv_requests_total{door="soap",operation="GetDomain",outcome="ok"} 2`,
		`biosv_requests_total{door="soap",operation="GetDomain",outcome="AccessDeniedFault"} 2`,
		`biosv_requests_total{door="soap",operation="GetDomain",outcome="error"} 1`,
		`biosv_request_seconds_count{operation="GetDomain"} 5`,
		`biosv_tls_certificate_not_after_seconds 1.8e+09`,
		`process_open_fds `, `go_goroutines `,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
}

func TestHealthSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	var broken error
	_, ask := served(t, func(ctx context.Context) error {
		if _, limited := ctx.Deadline(); !limited {
			t.Error("a check may take for ever")
		}
		return broken
	})
	if status, body := ask("GET", "/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("%d %q", status, body)
	}
	broken = errors.New("the state cannot be read")
	if status, body := ask("GET", "/healthz"); status != http.StatusServiceUnavailable || body != "the state cannot be read\n" {
		t.Errorf("%d %q", status, body)
	}
}

func TestNothingElseIsServed(t *testing.T) {
	t.Parallel()
	_, ask := served(t, nil)
	for _, row := range []struct {
		method, path string
		status       int
	}{
		{"GET", "/", http.StatusNotFound}, {"GET", "/bios", http.StatusNotFound}, {"POST", "/bios", http.StatusNotFound}, {"GET", "/debug/pprof/", http.StatusNotFound},
		{"POST", "/metrics", http.StatusMethodNotAllowed}, {"DELETE", "/healthz", http.StatusMethodNotAllowed},
	} {
		if status, _ := ask(row.method, row.path); status != row.status {
			t.Errorf("%s %s: %d; want %d", row.method, row.path, status, row.status)
		}
	}
}
