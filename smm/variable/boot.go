package variable

import (
	"bytes"
	"context"

	"biosv/smm"
	"biosv/smm/variable/auth"
	"biosv/smm/variable/flash"
	"biosv/smm/variable/services"
)

// Boots decides what a boot takes.
type Boots interface {
	// Begin is called in the transaction in which a boot begins. The volatile variables of the boot before are still
	// there, and what it sets is in the flash.
	Begin(tx *smm.Tx) error
}

// Begin begins a boot of a domain: volatile variables are gone, those that firmware makes at each start are there. It
// gives the flash for the boot, and whether Secure Boot is on in it.
func (f *Function) Begin(ctx context.Context, domain string) (file []byte, secureBoot bool, err error) {
	err = f.bios.ChangeBeside(ctx, f.bios.LocalCall(domain), "Start", func(tx *smm.Tx) error {
		s, err := f.Services(tx, services.Boot)
		if err != nil {
			return err
		}
		if f.Boots != nil {
			if err := f.Boots.Begin(tx); err != nil {
				return err
			}
		}
		if err := s.Start(); err != nil {
			return err
		}
		state, err := s.SecureBoot()
		if err != nil {
			return err
		}
		secureBoot = state.Current
		file, err = f.Render(tx)
		return err
	})
	return file, secureBoot, err
}

// TakeOver takes what a boot's firmware changed in its flash before it asked us: rendered is what the flash was,
// found what it is. A variable that was changed here in between has the firmware's value. What the flash has no room
// for here, or is damaged, is an error, and nothing is taken then.
func (f *Function) TakeOver(ctx context.Context, domain string, rendered, found []byte) error {
	if bytes.Equal(rendered, found) {
		return nil
	}
	before, err := flash.Parse(rendered)
	if err != nil {
		return err
	}
	after, err := flash.Parse(found)
	if err != nil {
		return err
	}
	was := map[services.Key]services.Variable{}
	for _, v := range before.Variables {
		was[v.Key] = v.Variable
	}
	return f.bios.ChangeBeside(ctx, f.bios.LocalCall(domain), "TakeOver", func(tx *smm.Tx) error {
		s, err := f.Services(tx, services.Boot)
		if err != nil {
			return err
		}
		for _, v := range after.Variables {
			old, there := was[v.Key]
			delete(was, v.Key)
			if there && same(old, v.Variable) {
				continue
			}
			if err := s.Adopt(v.Key, v.Variable); err != nil {
				return err
			}
		}
		for gone := range was {
			if err := s.State.Delete(gone); err != nil {
				return err
			}
		}
		return nil
	})
}

func same(a, b services.Variable) bool {
	owner := func(o *auth.Owner) (v auth.Owner) {
		if o != nil {
			v = *o
		}
		return v
	}
	return a.Attributes == b.Attributes && a.TimeStamp == b.TimeStamp && bytes.Equal(a.Data, b.Data) && owner(a.Owner) == owner(b.Owner)
}
