package libvirt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	rpc "github.com/digitalocean/go-libvirt"

	"biosv/fault"
	"biosv/generated"
	"biosv/internal/durable"
	"biosv/smm"
)

// Attach changes the definition that the next start uses.
func (m *Machine) Attach(ctx context.Context, found *smm.Found) error {
	m.acts.Lock()
	defer m.acts.Unlock()
	h, d := m.host, m.named()
	if err := h.hooked(); err != nil {
		return fault.Unavailable(fault.NotOnThisHost, 0, "%v", err)
	}
	now, err := h.definition(ctx, d, 0)
	if err != nil {
		return m.gone(err)
	}
	text, err := now.text()
	if err != nil {
		return err
	}
	if text != m.domain.Attachment.Definition {
		return refused(m.domain.Attachment.Address, "The definition of %s was changed in libvirt meanwhile: attach it anew.", d.Name)
	}
	whole, err := h.definition(ctx, d, rpc.DomainXMLSecure) // what is secret in it is to stay
	if err != nil {
		return m.gone(err)
	}
	whole, line, err := h.explicit(ctx, whole)
	if err != nil {
		return err
	}
	whole.attach(h.partsOf(m.domain.Name, now, line))
	if text, err = whole.text(); err != nil {
		return err
	}
	if line, err = h.commandLine(ctx, text); err != nil {
		return err
	}
	if left := bootIndexed(line); len(left) > 0 {
		return refused(m.domain.Attachment.Address, "libvirt gives the devices %q a bootindex that cannot be taken from them, and with one the firmware rewrites the boot order at each start: libvirt 8.2 or newer can.", left)
	}
	if err := m.makeFolder(); err != nil {
		return err
	}
	state, err := h.state(ctx, d)
	if err != nil {
		return err
	}
	if state != generated.PowerStateOff {
		if err := durable.WriteFile(m.kept(), found.Flash, 0o600); err != nil {
			return err
		}
	}
	err = m.define(ctx, text)
	unsettled := errors.Is(err, smm.ErrUnsettled)
	if err != nil && !unsettled {
		return errors.Join(err, os.RemoveAll(m.kept()))
	}
	m.mu.Lock()
	m.fresh = false
	m.mu.Unlock()
	if unsettled {
		m.hear(connected) // which asks libvirt without having anybody wait
		return err
	}
	m.look(ctx)
	return nil
}

// define gives libvirt a definition. Its error is [smm.ErrUnsettled] where libvirt was asked and has not refused: it may
// have taken the definition, or do so yet.
func (m *Machine) define(ctx context.Context, definition string) error {
	var unsettled atomic.Bool
	_, err := do(ctx, m.host, "take the definition", func(l *rpc.Libvirt) (rpc.Domain, error) {
		unsettled.Store(true)
		d, err := l.DomainDefineXMLFlags(definition, 0)
		unsettled.Store(!errors.As(err, new(rpc.Error)))
		return d, err
	})
	if err != nil && unsettled.Load() {
		return errors.Join(fault.Unavailable(fault.MachineUnavailable, time.Second,
			"libvirt was asked to take the definition of %s, and did not answer: it may take it yet. The domain %s stays: Diverged says whether it was taken (biosv domain show), and DetachDomain takes it back.", m.named().Name, m.domain.Name), smm.ErrUnsettled)
	}
	return err
}

// Detachment says what Detach would do.
func (m *Machine) Detachment(ctx context.Context) (given smm.Redefinition, err error) {
	_, _, given, err = m.reversed(ctx)
	return given, err
}

// reversed gives the definition without our changes, with what is secret in it; empty where there is nothing of ours. Ours
// says whether the flash was.
func (m *Machine) reversed(ctx context.Context) (text string, ours bool, given smm.Redefinition, err error) {
	d := m.named()
	now, err := m.host.definition(ctx, d, 0)
	if rpc.IsNotFound(err) {
		given.Notes = []string{"libvirt has no such machine any more: there is nothing to give back."}
		return "", ours, given, nil
	} else if err != nil {
		return "", ours, given, err
	}
	before := now.copied()
	ours = now.detach(m.original, m.parts)
	if given.Difference, err = difference(d.Name, before, now); err != nil || given.Difference == "" {
		given.Notes = []string{"The definition in libvirt has nothing of an attachment any more: it stays as it is, and the file of variables that it names too."}
		return "", ours, given, err
	}
	if left, err := now.text(); err != nil {
		return "", ours, given, err
	} else if left != m.domain.Attachment.Definition {
		given.Notes = append(given.Notes, "The definition was changed in libvirt since it was attached: that stays; what attaching added is taken away.")
	}
	if ours {
		given.Notes = append(given.Notes, "Its variables as they are now are written to "+m.domain.Attachment.Variables+".")
	} else {
		path, _ := now.flash()
		given.Notes = append(given.Notes, "The definition names a file of variables of its own, "+path+", which stays as it is.")
	}
	whole, err := m.host.definition(ctx, d, rpc.DomainXMLSecure)
	if err != nil {
		return "", ours, given, m.gone(err)
	}
	whole.detach(m.original, m.parts)
	text, err = whole.text()
	return text, ours, given, err
}

// Detach gives everything back. The variables come first: with them the machine could start either way.
func (m *Machine) Detach(ctx context.Context, flash []byte) (smm.Redefinition, error) {
	m.acts.Lock()
	defer m.acts.Unlock()
	leave := func(leaves bool) {
		m.turns.Lock() // what is prepared already is waited for, and libvirt counts it as paused then
		defer m.turns.Unlock()
		m.mu.Lock()
		m.leaves = leaves
		m.mu.Unlock()
	}
	leave(true) // A hook is refused and not kept waiting, since libvirt answers nothing of its machine meanwhile.
	defer leave(false)
	state, err := m.Power(ctx)
	if err != nil {
		return smm.Redefinition{}, err
	}
	if state != generated.PowerStateOff {
		return smm.Redefinition{}, fault.Conflict(fault.DomainNotOff, "The machine is %s: turn it off before it is detached.", state)
	}
	text, ours, given, err := m.reversed(ctx)
	if err != nil {
		return given, err
	}
	if text != "" {
		if err := m.host.noSavedState(ctx, m.named(), "detached"); err != nil {
			return given, err
		}
		if ours {
			if err := giveBack(m.domain.Attachment.Variables, flash, m.host.user); err != nil {
				return given, fmt.Errorf("give the variables back: %w", err)
			}
		}
		if err := m.define(ctx, text); err != nil {
			return given, err
		}
	}
	return given, m.forget()
}

// forget takes away what the machine had here.
func (m *Machine) forget() error {
	m.turns.Lock()
	defer m.turns.Unlock()
	if b := m.taken(); b != nil {
		b.close()
	}
	return errors.Join(os.RemoveAll(m.parts.at("")), os.RemoveAll(m.kept()))
}

// giveBack writes a machine's own file of variables, which keeps its owner and mode.
func giveBack(path string, flash []byte, user func() (uid, gid int, err error)) error {
	mode := os.FileMode(0o600)
	uid, gid, err := user()
	if info, e := os.Stat(path); e == nil {
		mode = info.Mode().Perm()
		uid, gid, err = ownerOf(info)
	}
	if err != nil {
		return err
	}
	if err := durable.WriteFile(path, flash, mode); err != nil {
		return err
	}
	return os.Chown(path, uid, gid)
}
