package variable

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
	"biosv/smm/variable/auth"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/keys"
	"biosv/smm/variable/services"
	"biosv/smm/variable/siglist"
)

// modes are the contract's names of the modes.
var modes = map[services.Mode]generated.SecureBootMode{
	services.SetupMode: generated.SecureBootModeSetupMode, services.AuditMode: generated.SecureBootModeAuditMode,
	services.UserMode: generated.SecureBootModeUserMode, services.DeployedMode: generated.SecureBootModeDeployedMode,
}

func modeOf(name generated.SecureBootMode) services.Mode {
	for m, n := range modes {
		if n == name {
			return m
		}
	}
	return ""
}

func switchOf(on bool) *generated.SecureBootSwitch {
	if on {
		return new(generated.SecureBootSwitchOn)
	}
	return new(generated.SecureBootSwitchOff)
}

// GetSecureBoot tells of Secure Boot.
func (f *Function) GetSecureBoot(ctx context.Context, call generated.Call, _ *generated.GetSecureBootRequest) (*generated.GetSecureBootReply, error) {
	reply := &generated.GetSecureBootReply{}
	return reply, f.view(ctx, call, func(tx *smm.Tx, s *services.Services) (err error) {
		reply.Version = new(tx.Version())
		reply.SecureBoot, err = secureBoot(s)
		return err
	})
}

// SecureBootAttribute is the attribute that tells whether Secure Boot is on; where a machine's registry has it, its value
// is what [Function.SecureBootOn] gives.
const SecureBootAttribute = "SecureBoot"

// SecureBootOn tells whether Secure Boot is on since the machine started last, as the value of an attribute.
func (f *Function) SecureBootOn(tx *smm.Tx) (string, error) {
	s, err := f.Services(tx, services.Boot)
	if err != nil {
		return "", err
	}
	b, err := s.SecureBoot()
	return strconv.FormatBool(b.Current), err
}

// secureBoot tells of Secure Boot.
func secureBoot(s *services.Services) (*generated.SecureBootState, error) {
	b, err := s.SecureBoot()
	if err != nil {
		return nil, err
	}
	state := &generated.SecureBootState{
		SecureBootCurrentBoot: switchOf(b.Current), SecureBootEnabled: switchOf(b.Enabled), SecureBootMode: new(modes[b.Mode]), VendorKeys: b.VendorKeys,
	}
	for _, k := range services.Databases() {
		v, err := at(s, k)
		if err != nil {
			return nil, err
		}
		if v != nil {
			state.KeyDatabase = append(state.KeyDatabase, database(k, *v))
		}
	}
	return state, nil
}

// database tells of a signature database. One that cannot be read, as a store that was imported may have, has no
// signatures.
func database(k services.Key, v services.Variable) *generated.KeyDatabase {
	d := &generated.KeyDatabase{Name: new(generated.VariableName(k.Name)), TimeStamp: v.TimeStamp.String()}
	lists, err := siglist.Parse(v.Data)
	if err != nil {
		return d
	}
	d.SignatureCount = uint32(siglist.Count(lists))
	for _, c := range siglist.Certificates(lists) {
		d.CertificateSubject = append(d.CertificateSubject, strings.ToValidUTF8(c.Subject.String(), "?"))
	}
	return d
}

// SetSecureBoot switches Secure Boot, and changes its mode.
func (f *Function) SetSecureBoot(ctx context.Context, call generated.Call, request *generated.SetSecureBootRequest) (*generated.SetSecureBootReply, error) {
	if request.SecureBootEnabled == nil && request.SecureBootMode == nil {
		return nil, fault.InvalidRequest(fault.InvalidValue, "SecureBootEnabled", "", "The request changes nothing: it has neither SecureBootEnabled nor SecureBootMode.")
	}
	reply := &generated.SetSecureBootReply{}
	version, err := f.change(ctx, call, generated.OpSetSecureBoot, request.Version, func(_ *smm.Tx, s *services.Services) (e smm.Event, err error) {
		before, err := s.SecureBoot()
		if err != nil {
			return e, err
		}
		if request.SecureBootEnabled != nil {
			if err := s.EnableSecureBoot(*request.SecureBootEnabled == generated.SecureBootSwitchOn); err != nil {
				return e, err
			}
		}
		if request.SecureBootMode != nil {
			if err := s.SetMode(modeOf(*request.SecureBootMode)); err != nil {
				return e, err
			}
		}
		after, err := s.SecureBoot()
		e = smm.Event{MessageID: eventSecureBoot, Message: fmt.Sprintf("Secure Boot is to be %s from the next start on, in %s.", *switchOf(after.Enabled), modes[after.Mode])}
		if before.Enabled != after.Enabled {
			e.Changes = append(e.Changes, smm.Change{Name: "SecureBootEnabled", Old: new(string(*switchOf(before.Enabled))), New: new(string(*switchOf(after.Enabled)))})
		}
		e.Changes = append(e.Changes, modeChange(before, after)...)
		if err != nil {
			return e, err
		}
		reply.SecureBoot, err = secureBoot(s)
		return e, err
	})
	if err != nil {
		return nil, err
	}
	reply.Version = &version
	return reply, nil
}

func modeChange(before, after services.SecureBoot) []smm.Change {
	if before.Mode == after.Mode {
		return nil
	}
	return []smm.Change{{Name: "SecureBootMode", Old: new(string(modes[before.Mode])), New: new(string(modes[after.Mode]))}}
}

// EnrollSecureBootKeys replaces all keys.
func (f *Function) EnrollSecureBootKeys(ctx context.Context, call generated.Call, request *generated.EnrollSecureBootKeysRequest) (*generated.EnrollSecureBootKeysReply, error) {
	set, err := requested(request)
	if err != nil {
		return nil, err
	}
	version, state, err := f.enroll(ctx, call, generated.OpEnrollSecureBootKeys, request.Version, eventEnrolled, "The keys of Secure Boot were replaced.",
		func(*services.Services) (services.Keys, error) { return set, nil })
	if err != nil {
		return nil, err
	}
	return &generated.EnrollSecureBootKeysReply{Version: &version, SecureBoot: state}, nil
}

// ResetSecureBootKeys takes keys away.
func (f *Function) ResetSecureBootKeys(ctx context.Context, call generated.Call, request *generated.ResetSecureBootKeysRequest) (*generated.ResetSecureBootKeysReply, error) {
	version, state, err := f.enroll(ctx, call, generated.OpResetSecureBootKeys, request.Version, eventReset, fmt.Sprintf("The keys of Secure Boot were reset: %s.", *request.ResetKeysType),
		func(s *services.Services) (services.Keys, error) {
			switch *request.ResetKeysType {
			case generated.ResetKeysTypeResetAllKeysToDefault:
				return keys.Microsoft()
			case generated.ResetKeysTypeDeletePK:
				k, err := s.Keys()
				k.PK = nil
				return k, err
			}
			return services.Keys{}, nil
		})
	if err != nil {
		return nil, err
	}
	return &generated.ResetSecureBootKeysReply{Version: &version, SecureBoot: state}, nil
}

// enroll puts keys in place of those that are there.
func (f *Function) enroll(ctx context.Context, call generated.Call, op *generated.Operation, version *generated.StateVersion, id, message string, keysOf func(*services.Services) (services.Keys, error)) (after generated.StateVersion, state *generated.SecureBootState, err error) {
	after, err = f.change(ctx, call, op, version, func(tx *smm.Tx, s *services.Services) (e smm.Event, err error) {
		before, err := s.SecureBoot()
		if err != nil {
			return e, err
		}
		old := map[services.Key]*services.Variable{}
		for _, k := range services.Databases() {
			if old[k], err = at(s, k); err != nil {
				return e, err
			}
		}
		set, err := keysOf(s)
		if err != nil {
			return e, err
		}
		if err := s.Enroll(set, stamp(tx)); err != nil {
			return e, err
		}
		e = smm.Event{MessageID: id, Message: message}
		for _, k := range services.Databases() {
			now, err := at(s, k)
			if err != nil {
				return e, err
			}
			if was := old[k]; (was == nil) != (now == nil) || was != nil && !slices.Equal(was.Data, now.Data) {
				e.Changes = append(e.Changes, changeOf(k, was, now))
			}
		}
		became, err := s.SecureBoot()
		if err != nil {
			return e, err
		}
		e.Changes = append(e.Changes, modeChange(before, became)...)
		state, err = secureBoot(s)
		return e, err
	})
	return after, state, err
}

// requested are the keys that a request enrols.
func requested(r *generated.EnrollSecureBootKeysRequest) (k services.Keys, err error) {
	if r.SecureBootKeySet != nil {
		if k, err = keys.Microsoft(); err != nil {
			return k, err
		}
	}
	own := efi.GUID{} // SignatureOwner of keys that nobody's tool brought
	for _, one := range []struct {
		element, text string
		to            *[]byte
		most          int
	}{
		{"PlatformKeyPem", r.PlatformKeyPem, &k.PK, 1},
		{"KeyExchangeKeyPem", r.KeyExchangeKeyPem, &k.KEK, 16},
		{"AuthorizedKeyPem", r.AuthorizedKeyPem, &k.DB, 64},
	} {
		certificates, err := readPEM(one.element, one.text, one.most)
		if err != nil {
			return k, err
		}
		if len(certificates) > 0 {
			k.Vendor = false
			if one.most == 1 {
				*one.to = nil
			}
		}
		for _, c := range certificates {
			*one.to = siglist.Append(*one.to, siglist.New(siglist.X509, own, c))
		}
	}
	if k.PK == nil {
		return k, fault.InvalidRequest(fault.InvalidValue, "PlatformKeyPem", "", "Without a platform key nothing is enrolled: name a set, or give PlatformKeyPem.")
	}
	return k, forbid(&k, r.ForbiddenSignatures)
}

// forbid adds signature lists to dbx, as they are or taken out of an update; who signed that is not asked here.
func forbid(k *services.Keys, lists []byte) error {
	if len(lists) == 0 {
		return nil
	}
	if _, value, err := auth.Parse(lists); err == nil {
		lists = value
	}
	add, err := siglist.Parse(lists)
	if err != nil {
		return fault.InvalidRequest(fault.InvalidValue, "ForbiddenSignatures", "", "ForbiddenSignatures are no signature lists: %v.", err)
	}
	there, err := siglist.Parse(k.DBX)
	if err != nil {
		return err
	}
	k.DBX, k.Vendor = siglist.Append(k.DBX, siglist.Without(add, there)...), false
	return nil
}

// readPEM gives the certificates of a text, DER.
func readPEM(element, text string, most int) (certificates [][]byte, err error) {
	rest := []byte(text)
	for len(strings.TrimSpace(string(rest))) > 0 {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil || block.Type != "CERTIFICATE" {
			return nil, fault.InvalidRequest(fault.InvalidCertificate, element, "", "%s holds something that is no PEM certificate, after %d of them.", element, len(certificates))
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fault.InvalidRequest(fault.InvalidCertificate, element, "", "Certificate %d of %s cannot be read: %v.", len(certificates)+1, element, err)
		}
		if certificates = append(certificates, block.Bytes); len(certificates) > most {
			return nil, fault.LimitExceeded(fault.TooMany, "certificates", uint64(most), "%s holds more than %d certificates.", element, most)
		}
	}
	return certificates, nil
}
