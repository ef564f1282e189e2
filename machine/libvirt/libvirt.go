// Package libvirt is virtual machines that people already have under libvirt, attached to BIOS.v so that their UEFI
// firmware asks here for its variables. libvirt keeps and starts them, whoever asks it to; nothing is taken from their
// owner. Begin with [Host.Examine], which says what would be changed; [Machine.Attach] changes it, [Machine.Detach] gives
// everything back.
//
// An attached machine has the thin virtual BIOS in the ROM of a network interface, and a serial port of its own for it; it
// starts with a flash that is rendered anew, and one boot is one process of QEMU (machine/qemu says why), also where it is
// libvirt that starts it: a hook of libvirt's ([Hook]) has every start prepared here, and refuses it where biosv is away.
// All that such a machine has of BIOS.v lies in a folder of its own, and is scratch:
//
//	variables.fd           the flash
//	vbios                  the socket on which the thin virtual BIOS asks
//	events.in, events.out  a second monitor of QEMU that only writes down what happens, also while biosv is away
//	migrated               it was moved to another host
//
// What a machine is doing is asked of libvirt whenever somebody wants to know. What others did to it behind BIOS.v's back
// is seen and kept as the domain's divergence.
package libvirt

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	rpc "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"biosv/fault"
	"biosv/generated"
	"biosv/machine/firmware"
	"biosv/smm"
)

// Config is what a [Host] is made of.
type Config struct {
	Folder    string // of the machines' folders, and of the hook's socket; QEMU's user must reach it
	Kept      string // folder for what must not be lost: flashes of machines that ran when they were attached
	ROM       []byte // the thin virtual BIOS
	Variables firmware.Variables
	Door      firmware.Door
	Log       *slog.Logger

	Sockets []string // of libvirt's daemon; nil means DefaultSockets
	Running string   // folder of the pid files of libvirt's QEMUs; empty means DefaultRunning
	State   string   // folder that libvirt gives to the user of its QEMUs; empty means DefaultState
	Hooks   string   // folder of libvirt's hooks; empty means DefaultHooks
}

// Where libvirt has its things as it is shipped.
const (
	DefaultRunning = "/run/libvirt/qemu"
	DefaultState   = "/var/lib/libvirt/qemu"
	DefaultHooks   = "/etc/libvirt/hooks"
	// DefaultDefinitions is the folder of the definitions of libvirt's machines.
	DefaultDefinitions = "/etc/libvirt/qemu"
)

// DefaultSockets are those of libvirtd, and of the daemon that takes its place where each driver has one.
var DefaultSockets = []string{"/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"}

// Host makes machines of the libvirt of this host. Make one with [New], then [Host.Run] it.
type Host struct {
	Config

	mu        sync.Mutex
	wanted    bool
	link      *link
	tried     chan struct{} // closed, and made anew, when it was tried to connect
	failure   error         // of the last try
	poke      chan struct{} // to try at once
	machines  map[rpc.UUID]*Machine
	examined  map[rpc.UUID]bool // machines that may be about to be attached
	hook      *net.UnixListener // nil until there is a machine
	lock      *os.File          // says that the folder is in use
	heard     chan *net.UnixListener
	dialTimer time.Duration
}

// New makes a Host.
func New(c Config) *Host {
	if c.Sockets == nil {
		c.Sockets = DefaultSockets
	}
	for field, standard := range map[*string]string{&c.Running: DefaultRunning, &c.State: DefaultState, &c.Hooks: DefaultHooks} {
		if *field == "" {
			*field = standard
		}
	}
	return &Host{Config: c, tried: make(chan struct{}), poke: make(chan struct{}, 1), machines: map[rpc.UUID]*Machine{}, heard: make(chan *net.UnixListener, 1), examined: map[rpc.UUID]bool{}, dialTimer: time.Second}
}

const (
	scheme     = "libvirt:"
	connection = "qemu:///system"
)

// parseAddress gives the name of the machine of an address.
func parseAddress(address string) (string, error) {
	name, ok := strings.CutPrefix(address, scheme+connection+"/")
	if !ok || name == "" || strings.Contains(name, "/") || len(name) > 255 {
		return "", fault.InvalidRequest(fault.InvalidValue, "/AttachDomain/MachineAddress", address, "A machine of this host's libvirt is named %s%s/NAME.", scheme, connection)
	}
	return name, nil
}

var domainName = regexp.MustCompile(`^[a-z0-9]([a-z0-9\-]{0,61}[a-z0-9])?$`)

// mostFlash bounds the file of variables that is read; those that are rendered have half of it.
const mostFlash = 1 << 20

var _ smm.Examiner = (*Host)(nil).Examine

// Examine looks at a machine; it is an [smm.Examiner].
func (h *Host) Examine(ctx context.Context, address, name string) (*smm.Found, error) {
	own, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() != 0 {
		return nil, fault.Unavailable(fault.NotOnThisHost, 0, "This biosv is not root, whom the files of the machines of %s belong to: docs/attach.md tells how it is started.", connection)
	}
	if name == "" {
		if name = own; !domainName.MatchString(name) || name == smm.PrivilegedDomain {
			return nil, fault.InvalidRequest(fault.InvalidValue, "/AttachDomain/Name", name, "%q cannot be the name of a domain: give one of lower-case letters, digits and dashes.", own)
		}
	}
	d, err := do(ctx, h, "look up "+own, func(l *rpc.Libvirt) (rpc.Domain, error) { return l.DomainLookupByName(own) })
	if rpc.IsNotFound(err) {
		return nil, fault.NotFound(fault.UnknownDomain, "/AttachDomain/MachineAddress", address, "libvirt has no machine %q; virsh list --all names those that are.", own)
	} else if err != nil {
		return nil, err
	}
	original, err := h.definition(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	named, line, err := h.explicit(ctx, original)
	if err != nil {
		return nil, err
	}
	if why := named.unfit(); why != "" {
		return nil, refused(address, "The machine %s cannot be attached: %s.", own, why)
	}
	if err := h.noSavedState(ctx, d, "attached"); err != nil {
		return nil, err
	}
	flash, notes, err := readFlash(named)
	if err != nil {
		return nil, refused(address, "The machine %s cannot be attached: %v.", own, err)
	}
	variables, _ := named.flash()
	changed := named.copied()
	changed.attach(h.partsOf(name, original, line))
	text, err := original.text()
	if err != nil {
		return nil, err
	}
	found := &smm.Found{Flash: flash, Domain: smm.Domain{
		Name: name, Kind: generated.DomainKindLibvirt, UUID: uuid.UUID(d.UUID).String(), Attachment: &smm.Attachment{Address: address, Definition: text, Variables: variables, Folder: h.Folder},
	}}
	if found.Redefinition.Difference, err = difference(own, original, changed); err != nil {
		return nil, err
	}
	if state, err := h.state(ctx, d); err != nil {
		return nil, err
	} else if state != generated.PowerStateOff {
		notes = append(notes, "The machine runs: it goes on as it is, and asks here from its next start on. Turn it off and start it; a reset does not do.")
	}
	if err := h.hooked(); err != nil {
		notes = append(notes, err.Error())
	}
	found.Redefinition.Notes = notes
	h.mu.Lock()
	h.examined[d.UUID] = true
	h.mu.Unlock()
	return found, nil
}

func refused(address, format string, values ...any) error {
	f := fault.Conflict(fault.CannotAttach, format, values...)
	f.ElementPath, f.RefusedValue = "/AttachDomain/MachineAddress", address
	return f
}

// noSavedState refuses a machine whose next start would go on from memory that libvirt saved, with the definition of then.
func (h *Host) noSavedState(ctx context.Context, d rpc.Domain, before string) error {
	saved, err := do(ctx, h, "tell whether it saved memory", func(l *rpc.Libvirt) (int32, error) { return l.DomainHasManagedSaveImage(d, 0) })
	if err == nil && saved != 0 {
		err = fault.Conflict(fault.WrongPowerState, "libvirt keeps saved memory of %s, which its next start would go on from: start it and turn it off, or virsh managedsave-remove, before it is %s.", d.Name, before)
	}
	return err
}

// explicit gives a definition that names its firmware, with the command line that libvirt would start QEMU with.
func (h *Host) explicit(ctx context.Context, d *definition) (named *definition, line string, err error) {
	text, err := d.text()
	if err != nil {
		return nil, "", err
	}
	if line, err = h.commandLine(ctx, text); err != nil {
		return nil, "", err
	}
	named = d.copied()
	if d.chosen() {
		named.name(line)
	}
	return named, line, nil
}

// partsOf are the parts that a machine gets. The command line tells which devices libvirt gives a bootindex.
func (h *Host) partsOf(name string, d *definition, line string) *parts {
	return &parts{service: h.Folder, domain: name, rom: h.romFile(), aliases: append(bootIndexed(line), d.bootInterfaces()...)}
}

func (h *Host) commandLine(ctx context.Context, definition string) (string, error) {
	return do(ctx, h, "tell what it would start QEMU with", func(l *rpc.Libvirt) (string, error) {
		return l.ConnectDomainXMLToNative("qemu-argv", definition, 0)
	})
}

// definition gives the definition that the next start uses, unless flags ask for another.
func (h *Host) definition(ctx context.Context, d rpc.Domain, flags rpc.DomainXMLFlags) (*definition, error) {
	text, err := do(ctx, h, "describe "+d.Name, func(l *rpc.Libvirt) (string, error) { return l.DomainGetXMLDesc(d, rpc.DomainXMLInactive|flags) })
	if err != nil {
		return nil, err
	}
	return parse(text)
}

// readFlash reads a machine's variables, from where it would get them if it has none yet.
func readFlash(d *definition) (content []byte, notes []string, err error) {
	path, template := d.flash()
	content, err = firmware.ReadFile(path, mostFlash)
	if os.IsNotExist(err) {
		if template == "" {
			loader := text(d.child("os", "loader"))
			template = filepath.Join(filepath.Dir(loader), strings.Replace(filepath.Base(loader), "_CODE", "_VARS", 1))
		}
		notes = append(notes, "The machine has no variables yet: it gets those of "+template+".")
		if template, err = filepath.EvalSymlinks(template); err == nil { // which are the distribution's
			content, err = firmware.ReadFile(template, mostFlash)
		}
	}
	if err == nil && len(content) != firmware.FlashSize {
		err = fmt.Errorf("its file of variables has %d bytes; known here is OVMF of 4 MiB, whose files have %d", len(content), firmware.FlashSize)
	}
	return content, notes, err
}

func (h *Host) romFile() string { return filepath.Join(h.Folder, "vbios.rom") }

var _ smm.Opener = (*Host)(nil).Open

// Open gives the machine of a domain; it is an [smm.Opener].
func (h *Host) Open(_ context.Context, d smm.Domain, _ smm.Settings, s smm.Supervisor) (smm.Machine, error) {
	if d.Attachment == nil {
		return nil, fmt.Errorf("the domain %s has no attachment", d.Name)
	}
	if f := d.Attachment.Folder; f != h.Folder {
		return nil, fmt.Errorf("the machine was attached with --libvirt-folder %s, which its definition names; it is %s now", f, h.Folder)
	}
	if err := h.await(); err != nil {
		return nil, err
	}
	id, err := uuid.Parse(d.UUID)
	if err != nil {
		return nil, fmt.Errorf("the domain %s: %w", d.Name, err)
	}
	original, err := parse(d.Attachment.Definition)
	if err != nil {
		return nil, fmt.Errorf("the domain %s: %w", d.Name, err)
	}
	m := &Machine{
		host: h, domain: d, uuid: rpc.UUID(id), original: original, supervisor: s, registry: registry(d, original),
		parts: &parts{service: h.Folder, domain: d.Name, rom: h.romFile()}, news: make(chan lifecycle, mostNews), log: h.Log.With("domain", d.Name),
	}
	m.life, m.end = context.WithCancel(context.Background())
	h.mu.Lock()
	h.machines[m.uuid] = m
	m.fresh = h.examined[m.uuid]
	delete(h.examined, m.uuid)
	h.mu.Unlock()
	h.hurry()
	m.work.Go(m.follow)
	return m, nil
}

// user is the one of libvirt's QEMUs: libvirt gives it the folder of their state.
func (h *Host) user() (uid, gid int, err error) {
	info, err := os.Stat(h.State)
	if err != nil {
		return 0, 0, fmt.Errorf("find the user of libvirt's QEMUs: %w", err)
	}
	return ownerOf(info)
}

// listen makes a socket anew, which belongs to a user.
func listen(path string, uid, gid int) (*net.UnixListener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", path, err)
	}
	for _, err := range []error{os.Chmod(path, 0o600), os.Lchown(path, uid, gid)} {
		if err != nil {
			l.Close()
			return nil, err
		}
	}
	return l, nil
}
