package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"biosv/internal/cli"
	"biosv/internal/durable"
	"biosv/security/tpm"
	"biosv/service/listen"
	"biosv/service/observe"
	"biosv/service/soap"
)

// settings are what serve is told.
type settings struct {
	data, listen, metrics, publicURL string
	tpm, trustDomain                 string
	libvirt                          string
	names                            []string
	pools, hostSensors               []string
	logFormat, logLevel              string
	leafLife                         time.Duration
	noSync                           bool
}

func serveCommand() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Start the service",
		Long: `Starts the service. A data folder that is empty is set up: the TPM's keys, the first launch policy, the
root certificate (DIR/trust/root.pem), the first admin (DIR/clients/admin.pem and admin.key), the privileged domain
dom0 and a simulated domain demo. It says "biosv: ready on https://ADDRESS/bios" when it answers.`,
		Example: "  biosv serve --data /var/lib/biosv --listen 0.0.0.0:8443",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return &cli.UsageError{Err: err}
			}
			log, err := logger(s.logFormat, s.logLevel)
			if err != nil {
				return &cli.UsageError{Err: err}
			}
			defer runtime.KeepAlive(make([]byte, ballast))
			return serve(cmd.Context(), s, log)
		},
	}
	f := cmd.Flags()
	f.StringVar(&s.data, "data", defaultData(), "data folder ($BIOSV_DATA)")
	f.StringVar(&s.listen, "listen", defaultListen, "address to listen on")
	f.StringVar(&s.metrics, "metrics", "127.0.0.1:0", "address for /healthz and /metrics, or none; port 0 takes a free one, which the log names")
	f.StringVar(&s.publicURL, "public-url", "", "address that the contract bears, where clients use another than they seem to; ends in /bios")
	f.StringVar(&s.tpm, "tpm", "auto", "auto, device:PATH, swtpm, or software (no TPM at all)")
	f.StringVar(&s.trustDomain, "trust-domain", "biosv.local", "SPIFFE trust domain of all identities; settled when the folder is set up")
	f.StringSliceVar(&s.names, "name", nil, "further host names and addresses for the TLS certificate")
	f.StringSliceVar(&s.pools, "pool", nil, "pool of images for virtual machines, `NAME=DIR`; every folder in DATA/pools is one by its own name")
	f.StringVar(&s.libvirt, "libvirt-folder", defaultLibvirtFolder, "folder for what attached machines of libvirt are given, which their QEMU must reach")
	f.StringArrayVar(&s.hostSensors, "host-sensor", nil, "sensor or fan of this host that virtual machines show too, `NAME` as in 'biosv thermal --domain dom0'; * stands for any letters")
	f.StringVar(&s.logFormat, "log-format", "text", "text or json")
	f.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
	f.DurationVar(&s.leafLife, "certificate-life", 8*time.Hour, "life of TLS certificates, at most 12h")
	// It shows that the power-cut test can fail, and is for nothing else.
	f.BoolVar(&s.noSync, "unsafe-no-sync", false, "lose acknowledged changes when the power goes")
	if err := f.MarkHidden("unsafe-no-sync"); err != nil {
		panic(err) // the flag was declared one line above
	}
	return cmd
}

const defaultListen = "127.0.0.1:8443"

// ballast is what makes the collector of garbage wait for 16 MiB more than it would. In use are a few megabytes: by
// Go's own measure a collection comes every few hundred requests, and takes an eighth of their time. Nothing touches
// it, so it takes addresses and no memory; and where much is in use it changes little, as a greater $GOGC would not.
const ballast = 16 << 20

func defaultData() string {
	if d := os.Getenv("BIOSV_DATA"); d != "" {
		return d
	}
	return ".biosv"
}

func logger(format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: use debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, options)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, options)), nil
	}
	return nil, fmt.Errorf("--log-format %q: use text or json", format)
}

func (s *settings) check() error {
	if s.publicURL != "" {
		u, err := url.Parse(s.publicURL)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.Path != "/bios" {
			return fmt.Errorf("--public-url %q: an address such as https://bios.example.com/bios is needed", s.publicURL)
		}
	}
	if _, err := tpm.ParseSource(s.tpm); err != nil {
		return fmt.Errorf("--tpm: %w", err)
	}
	if s.leafLife < time.Minute || s.leafLife > 12*time.Hour {
		return fmt.Errorf("--certificate-life %s: 1m to 12h are allowed", s.leafLife)
	}
	return nil
}

// serve runs the service until the context ends.
func serve(ctx context.Context, s settings, log *slog.Logger) (err error) {
	inner, err := net.Listen("tcp", s.listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer inner.Close()
	address := inner.Addr().String()
	if s.names, err = hostNames(s.names, address); err != nil {
		return err
	}
	house, err := assemble(ctx, s, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, house.close()) }()

	listener := listen.New(inner, listen.Config{Certificate: house.certificate, Failed: house.handshakeFailed})
	mux := http.NewServeMux()
	mux.Handle("/bios", house.door)
	mux.Handle("/bios/", house.door)
	server := &http.Server{
		Handler: mux, ConnContext: soap.ConnContext, ReadHeaderTimeout: 10 * time.Second, ReadTimeout: time.Minute, WriteTimeout: 2 * time.Minute,
		IdleTimeout: 5 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}, // SOAP speaks HTTP/1.1
	}
	ended := make(chan error, 2)
	go func() { ended <- server.Serve(listener) }()
	if s.metrics != "none" {
		l, err := net.Listen("tcp", s.metrics)
		if err != nil {
			return fmt.Errorf("listen for metrics: %w", err)
		}
		log.Info("metrics and health", "address", "http://"+l.Addr().String())
		go func() { ended <- observe.Serve(ctx, l, house.metrics, house.healthy, log) }()
	}
	ready := "https://" + address + "/bios"
	if err := durable.WriteFile(filepath.Join(s.data, "address"), []byte(ready+"\n"), 0o644); err != nil {
		return err
	}
	fmt.Printf("biosv: ready on %s\n", ready)
	if err := notify("READY=1"); err != nil {
		log.Warn("the service manager cannot be told", "error", err)
	}
	select {
	case <-ctx.Done():
	case err = <-ended:
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("serve: %w", err)
		}
	}
	log.Info("stopping")
	_ = notify("STOPPING=1") // the end comes either way
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if e := server.Shutdown(limit); e != nil {
		server.Close()
	}
	return err
}

// hostNames are the names that the TLS certificate bears: those asked for, the one listened on, and this host's.
func hostNames(names []string, address string) ([]string, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	all := append([]string{"localhost", "127.0.0.1", "::1"}, names...)
	if ip := net.ParseIP(host); ip != nil && !ip.IsUnspecified() {
		all = append(all, host)
	}
	if name, err := os.Hostname(); err == nil && !strings.Contains(name, "(") {
		all = append(all, name)
	}
	seen := map[string]bool{}
	out := all[:0]
	for _, n := range all {
		if n != "" && !seen[n] {
			seen[n] = true
			out = append(out, n)
		}
	}
	return out, nil
}
