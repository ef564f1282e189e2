package main

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"biosv/generated"
	"biosv/internal/durable"
	"biosv/machine/host"
	"biosv/machine/libvirt"
	"biosv/machine/sim"
	"biosv/security"
	"biosv/security/audit"
	"biosv/security/policy"
	"biosv/service/observe"
	"biosv/service/soap"
	"biosv/smm"
	"biosv/smm/attribute"
	"biosv/smm/backup"
	"biosv/smm/boot"
	"biosv/smm/domain"
	"biosv/smm/eventlog"
	"biosv/smm/inventory"
	"biosv/smm/operator"
	"biosv/smm/power"
	"biosv/smm/thermal"
	"biosv/smm/trust"
	"biosv/smm/variable"
	"biosv/store"
)

// house is the service, wired: doors, gate, functions, machines, trust.
type house struct {
	door      http.Handler
	metrics   *observe.Metrics
	authority *authority
	store     *store.Store
	refusals  *audit.Refusals
	ledger    *eventlog.Ledger
	bios      *smm.BIOS
	closers   []func() error // in the order in which they were opened
}

// assemble opens what a data folder holds, sets up what is missing, and wires it.
func assemble(ctx context.Context, s settings, log *slog.Logger) (h *house, err error) {
	h = &house{}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.close())
			h = nil
		}
	}()
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		return h, fmt.Errorf("make the data folder: %w", err)
	}
	// The state first: its lock keeps a second process away from everything else.
	if h.store, err = store.Open(filepath.Join(s.data, "state.db"), store.Options{NoSync: s.noSync}); err != nil {
		if errors.Is(err, store.ErrLocked) {
			return h, fmt.Errorf("the data folder %s is in use by another biosv: stop it, or name another folder with --data (%w)", s.data, err)
		}
		return h, err
	}
	h.closers = append(h.closers, h.store.Close)
	if err := settle(&s); err != nil {
		return h, err
	}
	if h.authority, err = openAuthority(ctx, s, log); err != nil {
		return h, err
	}
	h.closers = append(h.closers, h.authority.close)
	if err := h.wire(ctx, s, log); err != nil {
		return h, err
	}
	return h, h.provision(ctx, s)
}

// settle keeps the trust domain that a folder was set up with: every identity is made of it.
func settle(s *settings) error {
	path := filepath.Join(s.data, "trust-domain")
	kept, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return durable.WriteFile(path, []byte(s.trustDomain+"\n"), 0o644)
	}
	if err != nil {
		return err
	}
	if name := strings.TrimSpace(string(kept)); name != s.trustDomain {
		return fmt.Errorf("--trust-domain %s: the data folder was set up for %s, and every identity is made of it; leave the flag as it was, or begin with an empty folder", s.trustDomain, name)
	}
	return nil
}

func (h *house) wire(ctx context.Context, s settings, log *slog.Logger) error {
	rows := audit.New(time.Now)
	h.refusals = audit.NewRefusals(rows, h.store, log)
	h.closers = append(h.closers, func() error { h.refusals.Close(); return nil })
	h.ledger = eventlog.NewLedger(rows, h.refusals)
	virtual, err := virtualMachines(s, log)
	if err != nil {
		return err
	}
	attached, err := attachedMachines(s, log)
	if err != nil {
		return err
	}
	h.bios = smm.New(smm.Config{
		Store: h.store, Ledger: h.ledger, Log: log,
		Machines: map[generated.DomainKind]smm.Opener{
			generated.DomainKindPrivileged: host.Open,
			generated.DomainKindSimulated:  sim.Open,
			generated.DomainKindQemu:       virtual.Open,
			generated.DomainKindLibvirt:    attached.Open,
		},
		Definers: map[generated.DomainKind]smm.Definer{generated.DomainKindQemu: virtual.Define},
		Examiner: attached.Examine,
	})
	h.closers = append(h.closers, h.bios.Close)
	attributes := attribute.New(h.bios)
	powers := power.New(h.bios, attributes)
	variables := variable.New(h.bios)
	boots := boot.New(h.bios, variables)
	variables.Boots = boots
	attributes.Tell(variable.SecureBootAttribute, variables.SecureBootOn)
	if err := h.bios.EnsurePrivileged(ctx, uuid.NewString()); err != nil {
		return err
	}
	open := func(ctx context.Context) error {
		return errors.Join(endOthers(ctx, h.bios, virtual, log), h.bios.Start(ctx))
	}
	reopen := func(ctx context.Context) error {
		if err := h.bios.Close(); err != nil {
			return err
		}
		return errors.Join(open(ctx), powers.Restore(ctx))
	}
	role := func(ctx context.Context, name string) (role security.Role, err error) {
		err = h.store.View(ctx, func(tx *store.Tx) error {
			role, err = operator.Role(tx, name)
			return err
		})
		return role, err
	}
	logs := eventlog.New(h.bios, rows)
	functions := generated.Functions{
		AttributePort: attributes,
		AuditPort:     logs,
		PowerPort:     powers,
		BootPort:      boots,
		BackupPort:    backup.New(h.bios, h.store, reopen),
		DomainPort:    domain.New(h.bios, variables),
		EventlogPort:  logs,
		InventoryPort: inventory.New(h.bios),
		OperatorPort:  operator.New(h.bios, h.authority, s.trustDomain),
		ThermalPort:   thermal.New(h.bios),
		TrustPort:     trust.New(h.bios, h.authority),
		VariablePort:  variables,
	}
	h.metrics = observe.NewMetrics(h.authority.leaf.NotAfter)
	gate := h.metrics.Handler(smm.NewGate(policy.New(role, smm.PrivilegedDomain), h.ledger, generated.PortHandler(functions), log))
	virtual.Variables, virtual.Door = variables, guestDoor(gate, h.ledger, s.trustDomain, log)
	attached.Variables, attached.Door = virtual.Variables, virtual.Door
	h.follow(attached)
	if err := open(ctx); err != nil {
		return err
	}
	if err := powers.Restore(ctx); err != nil {
		log.Error("power could not be restored everywhere", "error", err)
	}
	h.door = soap.New(soap.Config{
		Next: gate, Authenticator: h.authority.authenticator, Privileged: smm.PrivilegedDomain,
		Role: role, PublicURL: s.publicURL, Log: log,
	})
	return nil
}

// follow follows libvirt until the house is closed.
func (h *house) follow(attached *libvirt.Host) {
	ctx, stop := context.WithCancel(context.Background())
	var work sync.WaitGroup
	work.Go(func() { attached.Run(ctx) })
	h.closers = append(h.closers, func() error { stop(); work.Wait(); return nil })
}

// firstAdmin is who may do everything in a folder that was just set up.
const firstAdmin = "admin"

// provision sets up what a newcomer needs, once: the first admin, and a simulated domain to try things on. Each
// step looks at what is there, so that one that was interrupted is taken up again.
func (h *house) provision(ctx context.Context, s settings) error {
	if err := h.authority.issuer.EnsureClient(filepath.Join(s.data, "clients"), firstAdmin, security.PersonID(s.trustDomain, firstAdmin)); err != nil {
		return fmt.Errorf("make the first admin's certificate: %w", err)
	}
	done := filepath.Join(s.data, "provisioned")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	call := h.bios.LocalCall(smm.PrivilegedDomain)
	if _, err := operator.New(h.bios, h.authority, s.trustDomain).AddOperator(ctx, call, &generated.AddOperatorRequest{
		Name: new(generated.OperatorName(firstAdmin)), OperatorRole: new(generated.OperatorRoleAdmin),
	}); err != nil {
		return fmt.Errorf("make the first admin: %w", err)
	}
	_, err := domain.New(h.bios, nil).CreateDomain(ctx, call, &generated.CreateDomainRequest{
		Name: new(generated.DomainName("demo")), DomainKind: new(generated.DomainKindSimulated), Description: "a simulated machine, to try things on",
	})
	var exists *generated.ConflictFault
	if err != nil && !errors.As(err, &exists) {
		return fmt.Errorf("make the domain demo: %w", err)
	}
	return durable.WriteFile(done, nil, 0o644)
}

func (h *house) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return h.authority.leaf.Certificate(hello)
}

// handshakeFailed audits what never became a request.
func (h *house) handshakeFailed(peer string, err error) {
	h.ledger.Note(context.Background(), smm.Entry{
		Call:      generated.Call{ID: uuid.NewString(), Principal: security.Stranger(), Door: security.DoorSOAP, Domain: smm.PrivilegedDomain, Channel: generated.Channel{Peer: peer}},
		Operation: "TLS handshake", Outcome: smm.Refused, Reason: err.Error(),
	})
}

// healthy says whether requests can be answered.
func (h *house) healthy(ctx context.Context) error {
	if err := h.store.View(ctx, func(*store.Tx) error { return nil }); err != nil {
		return fmt.Errorf("the state cannot be read: %w", err)
	}
	if until := h.authority.leaf.NotAfter(); time.Now().After(until) {
		return fmt.Errorf("the TLS certificate ended at %s", until.UTC().Format(time.RFC3339))
	}
	return nil
}

func (h *house) close() error {
	var errs []error
	for i := len(h.closers) - 1; i >= 0; i-- {
		errs = append(errs, h.closers[i]())
	}
	return errors.Join(errs...)
}

func sha256Hex(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
