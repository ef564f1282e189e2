// Package observe is how the people who run a service see that it is well: Prometheus metrics and a health
// check, on a listener of their own that is meant for loopback. It serves no operation of the contract.
package observe

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"biosv/generated"
)

// Metrics are what is counted.
type Metrics struct {
	registry *prometheus.Registry
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

// NewMetrics makes the metrics; leafNotAfter tells when the TLS certificate in use ends.
func NewMetrics(leafNotAfter func() time.Time) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "biosv_requests_total", Help: "Requests that reached the gate, by operation, door and outcome (ok, or the fault's name).",
		}, []string{"operation", "door", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "biosv_request_seconds", Help: "Time from the gate to the answer, by operation.",
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		}, []string{"operation"}),
	}
	m.registry.MustRegister(m.requests, m.seconds, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "biosv_tls_certificate_not_after_seconds", Help: "Unix time until when the TLS certificate in use is valid.",
		}, func() float64 { return float64(leafNotAfter().Unix()) }))
	return m
}

// Handler counts what passes to next.
func (m *Metrics) Handler(next generated.Handler) generated.Handler { return handler{m, next} }

type handler struct {
	metrics *Metrics
	next    generated.Handler
}

func (h handler) Handle(ctx context.Context, call generated.Call, request generated.Request) (generated.Reply, error) {
	start := time.Now()
	reply, err := h.next.Handle(ctx, call, request)
	outcome := "ok"
	var f generated.Fault
	if errors.As(err, &f) {
		outcome = f.Info().Name
	} else if err != nil {
		outcome = "error"
	}
	name := request.Operation().Name
	h.metrics.requests.WithLabelValues(name, string(call.Door), outcome).Inc()
	h.metrics.seconds.WithLabelValues(name).Observe(time.Since(start).Seconds())
	return reply, err
}

// Serve answers /metrics and /healthz on a listener until the context ends. healthy gives nil, or what is wrong.
func Serve(ctx context.Context, l net.Listener, m *Metrics, healthy func(context.Context) error, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), 2*time.Second)
		defer cancel()
		if err := healthy(ctx); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	s := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 30 * time.Second, MaxHeaderBytes: 8 << 10,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
