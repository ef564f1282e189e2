package variable_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"

	"biosv/generated"
	"biosv/internal/testbios"
	"biosv/smm"
	"biosv/smm/variable"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
	"biosv/smm/variable/siglist"
)

const (
	vectors   = "services/testdata/vectors/"
	vendor    = generated.VendorGuid("5e3f2d1c-8b7a-4f6e-9d5c-1a2b3c4d5e6f")
	microsoft = "keys/microsoft/"
)

type bench struct {
	*testing.T
	*testbios.BIOS
	f    *variable.Function
	call generated.Call
}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := testbios.New(t, testbios.Options{})
	return &bench{t, b, variable.New(b.BIOS), b.LocalCall("demo")}
}

func (b *bench) set(name generated.VariableName, guid *generated.VendorGuid, data []byte, attributes ...generated.VariableAttribute) error {
	r := &generated.SetVariableRequest{Name: &name, VendorGuid: guid, VariableData: data}
	for _, a := range attributes {
		r.VariableAttribute = append(r.VariableAttribute, new(a))
	}
	_, err := b.f.SetVariable(b.Context(), b.call, r)
	return err
}

func (b *bench) get(name generated.VariableName, guid *generated.VendorGuid) (*generated.GetVariableReply, error) {
	return b.f.GetVariable(b.Context(), b.call, &generated.GetVariableRequest{Name: &name, VendorGuid: guid})
}

func (b *bench) secureBoot() *generated.SecureBootState {
	b.Helper()
	reply, err := b.f.GetSecureBoot(b.Context(), b.call, &generated.GetSecureBootRequest{})
	if err != nil {
		b.Fatal(err)
	}
	return reply.SecureBoot
}

func (b *bench) enroll(r *generated.EnrollSecureBootKeysRequest) {
	b.Helper()
	if _, err := b.f.EnrollSecureBootKeys(b.Context(), b.call, r); err != nil {
		b.Fatal(err)
	}
}

// start begins a boot of the machine.
func (b *bench) start() {
	b.Helper()
	if err := b.ChangeBeside(b.Context(), b.call, "Start", func(tx *smm.Tx) error {
		s, err := b.f.Services(tx, services.Boot)
		if err != nil {
			return err
		}
		return s.Start()
	}); err != nil {
		b.Fatal(err)
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func pemOf(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// certificate is that of a vector's signature list, PEM.
func certificate(t *testing.T, file string) string {
	t.Helper()
	lists, err := siglist.Parse(read(t, vectors+file))
	if err != nil {
		t.Fatal(err)
	}
	return pemOf(lists[0].Signatures[0].Data)
}

func status(t *testing.T, err error, want string) {
	t.Helper()
	var f *generated.UefiFault
	if !errors.As(err, &f) || f.EfiStatus != want || f.Code == "" || f.MessageId == "" || !strings.HasSuffix(f.Message, ".") {
		t.Errorf("it gave %v (%+v), not %s", err, f, want)
	}
}

func TestAVariableIsKeptAndTold(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	nv, bs := generated.VariableAttributeNonVolatile, generated.VariableAttributeBootServiceAccess
	version := b.Version("demo")
	if err := b.set("Mine", new(vendor), []byte("one"), nv, bs); err != nil {
		t.Fatal(err)
	}
	if err := b.set("Mine", new(vendor), bytes.Repeat([]byte{7}, 100)); err != nil { // its attributes stay
		t.Fatal(err)
	}
	got, err := b.get("Mine", new(vendor))
	if err != nil || len(got.VariableData) != 100 || len(got.Variable.VariableAttribute) != 2 || got.Variable.DataSize != 100 || got.Variable.TimeStamp != "" {
		t.Fatal(got, err)
	}
	if _, err := b.f.DeleteVariable(t.Context(), b.call, &generated.DeleteVariableRequest{Name: new(generated.VariableName("Mine")), VendorGuid: new(vendor)}); err != nil {
		t.Fatal(err)
	}
	var missing *generated.NotFoundFault
	if _, err := b.get("Mine", new(vendor)); !errors.As(err, &missing) || missing.Code != "UnknownVariable" {
		t.Error(err)
	}
	if b.Version("demo") != version+3 {
		t.Error("each change raises the version")
	}
	var told []string
	for _, e := range b.Events("demo") {
		for _, c := range e.Change {
			told = append(told, strings.Join([]string{e.MessageId, c.Name, c.OldValue, c.NewValue}, " "))
		}
	}
	if len(told) != 3 || told[0] != "BiosV.1.0.VariableSet Mine-"+string(vendor)+"  6f6e65" ||
		!strings.HasPrefix(told[1], "BiosV.1.0.VariableSet Mine-"+string(vendor)+" 6f6e65 100 bytes, SHA-256 ") ||
		!strings.HasPrefix(told[2], "BiosV.1.0.VariableDeleted Mine-"+string(vendor)+" 100 bytes, SHA-256 ") {
		t.Errorf("%q", told)
	}
}

func TestAWriteOfWhatIsThereIsNotTold(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	version := b.Version("demo")
	for range 3 {
		if err := b.set("Timeout", nil, []byte{5, 0}); err != nil {
			t.Fatal(err)
		}
	}
	if events := b.Events("demo"); len(events) != 1 || b.Version("demo") != version+1 {
		t.Errorf("there are %d events, and the version is %d", len(events), b.Version("demo"))
	}
}

func TestAStaleVersionChangesNothing(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	stale := b.Version("demo") + 1
	var conflict *generated.ConflictFault
	_, err := b.f.SetVariable(t.Context(), b.call, &generated.SetVariableRequest{Name: new(generated.VariableName("Timeout")), VariableData: []byte{1, 0}, Version: &stale})
	if !errors.As(err, &conflict) || conflict.Code != "StaleVersion" {
		t.Error(err)
	}
}

func TestWhoSaysNoVendorMeansTheSpecifications(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.set("Timeout", nil, []byte{5, 0}); err != nil { // of the attributes that it defines too
		t.Fatal(err)
	}
	got, err := b.get("Timeout", new(generated.VendorGuid("8BE4DF61-93CA-11D2-AA0D-00E098032B8C")))
	if err != nil || len(got.Variable.VariableAttribute) != 3 {
		t.Fatal(got, err)
	}
	b.enroll(&generated.EnrollSecureBootKeysRequest{SecureBootKeySet: new(generated.SecureBootKeySetMicrosoft)})
	db, err := b.get("db", nil)
	if err != nil || *db.Variable.VendorGuid != "d719b2cb-3d3a-4596-a3bc-dad00e67656f" || db.Variable.TimeStamp != "2026-01-02T03:04:05Z" {
		t.Error(db, err)
	}
	var invalid *generated.InvalidRequestFault
	if err := b.set("Mine", new(vendor), []byte{1}); !errors.As(err, &invalid) || invalid.ElementPath != "VariableAttribute" {
		t.Error(err)
	}
}

func TestTheGuestsRulesHoldForCallersToo(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	status(t, b.set("SecureBoot", nil, []byte{1}), "EFI_WRITE_PROTECTED")
	status(t, b.set("Timeout", nil, []byte{1}), "EFI_INVALID_PARAMETER")
	status(t, b.set("Boot0001", nil, make([]byte, 70_000)), "EFI_INVALID_PARAMETER")
	status(t, b.set("PK", nil, read(t, vectors+"pk.esl")), "EFI_SECURITY_VIOLATION")
	_, err := b.f.DeleteVariable(t.Context(), b.call, &generated.DeleteVariableRequest{Name: new(generated.VariableName("SetupMode"))})
	status(t, err, "EFI_WRITE_PROTECTED")
	for i := range 4 {
		err = b.set(generated.VariableName("Boot000"+string(rune('0'+i))), nil, make([]byte, 60_000))
	}
	status(t, err, "EFI_OUT_OF_RESOURCES")
	if rows := b.Rows(); rows[len(rows)-1].Operation != "SetVariable" {
		t.Error(rows[len(rows)-1])
	}
}

func TestASignedChangeIsTakenFromWhoMaySignIt(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.enroll(&generated.EnrollSecureBootKeysRequest{
		PlatformKeyPem: certificate(t, "pk.esl"), KeyExchangeKeyPem: certificate(t, "kek.esl") + certificate(t, "kekca.esl"), AuthorizedKeyPem: certificate(t, "db1.esl"),
	})
	// What the vectors sign is of 2022, and the keys were enrolled in 2026: only an append is taken.
	status(t, b.set("db", nil, read(t, vectors+"kek-db-db2-2022.auth")), "EFI_SECURITY_VIOLATION")
	attributes := []generated.VariableAttribute{generated.VariableAttributeNonVolatile, generated.VariableAttributeBootServiceAccess, generated.VariableAttributeRuntimeAccess,
		generated.VariableAttributeTimeBasedAuthenticated, generated.VariableAttributeAppendWrite}
	if err := b.set("db", nil, read(t, vectors+"kek-db-db2-2022-append.auth"), attributes...); err != nil {
		t.Error(err)
	}
	if err := b.set("dbx", nil, read(t, vectors+"kek-dbx-dbx1-2022.auth")); err != nil { // there is none yet
		t.Error(err)
	}
	status(t, b.set("dbx", nil, read(t, vectors+"stranger-dbx-dbx1-2022.auth")), "EFI_SECURITY_VIOLATION")
	var dbs []string
	for _, d := range b.secureBoot().KeyDatabase {
		dbs = append(dbs, string(*d.Name)+" "+strings.Join(d.CertificateSubject, ","))
	}
	if want := []string{"PK CN=Platform Key", "KEK CN=Key Exchange Key,CN=Key Exchange CA", "db CN=Signer One,CN=Signer Two", "dbx "}; !slices.Equal(dbs, want) {
		t.Errorf("%q", dbs)
	}
}

func TestSecureBootGoesOnWithTheNextStart(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	want := func(current, enabled generated.SecureBootSwitch, mode generated.SecureBootMode, vendor bool) {
		t.Helper()
		s := b.secureBoot()
		if *s.SecureBootCurrentBoot != current || *s.SecureBootEnabled != enabled || *s.SecureBootMode != mode || s.VendorKeys != vendor {
			t.Errorf("%s %s %s %v", *s.SecureBootCurrentBoot, *s.SecureBootEnabled, *s.SecureBootMode, s.VendorKeys)
		}
	}
	const on, off = generated.SecureBootSwitchOn, generated.SecureBootSwitchOff
	want(off, on, generated.SecureBootModeSetupMode, true)
	b.enroll(&generated.EnrollSecureBootKeysRequest{SecureBootKeySet: new(generated.SecureBootKeySetMicrosoft)})
	want(off, on, generated.SecureBootModeUserMode, true)
	b.start()
	want(on, on, generated.SecureBootModeUserMode, true)
	set := func(enabled *generated.SecureBootSwitch, mode *generated.SecureBootMode) error {
		_, err := b.f.SetSecureBoot(t.Context(), b.call, &generated.SetSecureBootRequest{SecureBootEnabled: enabled, SecureBootMode: mode})
		return err
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(set(new(off), new(generated.SecureBootModeDeployedMode)))
	want(on, off, generated.SecureBootModeDeployedMode, true)
	status(t, set(nil, new(generated.SecureBootModeAuditMode)), "EFI_WRITE_PROTECTED")
	b.start()
	want(off, off, generated.SecureBootModeDeployedMode, true)
	must(set(new(on), new(generated.SecureBootModeUserMode)))
	status(t, set(nil, new(generated.SecureBootModeSetupMode)), "EFI_INVALID_PARAMETER")
	must(set(nil, new(generated.SecureBootModeAuditMode)))
	want(off, on, generated.SecureBootModeAuditMode, true)
	status(t, set(nil, new(generated.SecureBootModeUserMode)), "EFI_INVALID_PARAMETER")
	var invalid *generated.InvalidRequestFault
	if err := set(nil, nil); !errors.As(err, &invalid) {
		t.Error(err)
	}
	b.enroll(&generated.EnrollSecureBootKeysRequest{PlatformKeyPem: certificate(t, "pk.esl")})
	want(off, on, generated.SecureBootModeDeployedMode, false)
	var modes []string
	for _, e := range b.Events("demo") {
		for _, c := range e.Change {
			if c.Name == "SecureBootMode" {
				modes = append(modes, c.OldValue+" "+c.NewValue)
			}
		}
	}
	if want := []string{"SetupMode UserMode", "UserMode DeployedMode", "DeployedMode UserMode", "UserMode AuditMode", "AuditMode DeployedMode"}; !slices.Equal(modes, want) {
		t.Errorf("%q", modes)
	}
}

func TestKeysAreReset(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	reset := func(how generated.ResetKeysType) (names []string) {
		t.Helper()
		if _, err := b.f.ResetSecureBootKeys(t.Context(), b.call, &generated.ResetSecureBootKeysRequest{ResetKeysType: &how}); err != nil {
			t.Fatal(err)
		}
		for _, d := range b.secureBoot().KeyDatabase {
			names = append(names, string(*d.Name))
		}
		return names
	}
	for _, step := range []struct {
		how  generated.ResetKeysType
		want []string
		mode generated.SecureBootMode
	}{
		{generated.ResetKeysTypeResetAllKeysToDefault, []string{"PK", "KEK", "db", "dbx"}, generated.SecureBootModeUserMode},
		{generated.ResetKeysTypeDeletePK, []string{"KEK", "db", "dbx"}, generated.SecureBootModeSetupMode},
		{generated.ResetKeysTypeResetAllKeysToDefault, []string{"PK", "KEK", "db", "dbx"}, generated.SecureBootModeUserMode},
		{generated.ResetKeysTypeDeleteAllKeys, nil, generated.SecureBootModeSetupMode},
	} {
		if got := reset(step.how); !slices.Equal(got, step.want) || *b.secureBoot().SecureBootMode != step.mode {
			t.Errorf("%s left %q in %s", step.how, got, *b.secureBoot().SecureBootMode)
		}
	}
}

func TestEnrollRefusesWhatAreNoKeys(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	pk := certificate(t, "pk.esl")
	for name, c := range map[string]struct {
		request generated.EnrollSecureBootKeysRequest
		path    string
	}{
		"no platform key":     {generated.EnrollSecureBootKeysRequest{AuthorizedKeyPem: pk}, "PlatformKeyPem"},
		"no PEM":              {generated.EnrollSecureBootKeysRequest{PlatformKeyPem: "key"}, "PlatformKeyPem"},
		"another PEM":         {generated.EnrollSecureBootKeysRequest{PlatformKeyPem: strings.ReplaceAll(pk, "CERTIFICATE", "PUBLIC KEY")}, "PlatformKeyPem"},
		"no certificate":      {generated.EnrollSecureBootKeysRequest{PlatformKeyPem: pemOf([]byte{1})}, "PlatformKeyPem"},
		"something after it":  {generated.EnrollSecureBootKeysRequest{PlatformKeyPem: pk, KeyExchangeKeyPem: pk + "x"}, "KeyExchangeKeyPem"},
		"no signature lists":  {generated.EnrollSecureBootKeysRequest{PlatformKeyPem: pk, ForbiddenSignatures: []byte{1}}, "ForbiddenSignatures"},
		"half a list":         {generated.EnrollSecureBootKeysRequest{PlatformKeyPem: pk, ForbiddenSignatures: read(t, vectors+"broken.esl")}, "ForbiddenSignatures"},
		"two platform keys":   {generated.EnrollSecureBootKeysRequest{PlatformKeyPem: pk + pk}, ""},
		"a hundred db's keys": {generated.EnrollSecureBootKeysRequest{PlatformKeyPem: pk, AuthorizedKeyPem: strings.Repeat(pk, 100)}, ""},
	} {
		_, err := b.f.EnrollSecureBootKeys(t.Context(), b.call, &c.request)
		var invalid *generated.InvalidRequestFault
		var limit *generated.LimitExceededFault
		if c.path != "" && (!errors.As(err, &invalid) || invalid.ElementPath != c.path) || c.path == "" && !errors.As(err, &limit) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if *b.secureBoot().SecureBootMode != generated.SecureBootModeSetupMode {
		t.Error("something was enrolled")
	}
	b.enroll(&generated.EnrollSecureBootKeysRequest{PlatformKeyPem: pk, ForbiddenSignatures: read(t, microsoft+"updates/DBXUpdate.bin")})
	if dbs := b.secureBoot().KeyDatabase; len(dbs) != 2 || dbs[1].SignatureCount != 443 {
		t.Errorf("%v", dbs)
	}
}

func TestListsGoOnWhereTheyEnded(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	whole, err := b.f.ListVariables(t.Context(), b.call, &generated.ListVariablesRequest{})
	if err != nil || whole.MoreVariables || len(whole.Variable) != 6 { // those that firmware makes
		t.Fatal(whole, err)
	}
	request := &generated.ListVariablesRequest{MostVariables: new(generated.RecordLimit(4))}
	var names []string
	for range 3 {
		page, err := b.f.ListVariables(t.Context(), b.call, request)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range page.Variable {
			names = append(names, string(*v.Name))
			request.AfterName, request.AfterVendorGuid = v.Name, v.VendorGuid
		}
		if !page.MoreVariables {
			break
		}
	}
	if want := []string{"AuditMode", "DeployedMode", "SecureBoot", "SetupMode", "SignatureSupport", "VendorKeys"}; !slices.Equal(names, want) {
		t.Errorf("%q", names)
	}
	var invalid *generated.InvalidRequestFault
	if _, err := b.f.ListVariables(t.Context(), b.call, &generated.ListVariablesRequest{AfterVendorGuid: new(vendor)}); !errors.As(err, &invalid) {
		t.Error(err)
	}
}

func TestNamesThatXMLCannotHoldComeBack(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for _, name := range []generated.VariableName{`half \ud83d`, `\ude00\ud83d`, `tab \u0009`, `back \\ slash`, `\uffff`, "Grüße 😀"} {
		if err := b.set(name, new(vendor), []byte{1}, generated.VariableAttributeNonVolatile, generated.VariableAttributeBootServiceAccess); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got, err := b.get(name, new(vendor)); err != nil || *got.Variable.Name != name {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
	var invalid *generated.InvalidRequestFault
	for _, name := range []generated.VariableName{`a\`, `\u12`, `\x`, `\u00zz`, `\u0000`} {
		if _, err := b.get(name, nil); !errors.As(err, &invalid) || invalid.ElementPath != "Name" {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHowMuchRoomThereIs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	ask := func() *generated.QueryVariableInfoReply {
		t.Helper()
		i, err := b.f.QueryVariableInfo(t.Context(), b.call, &generated.QueryVariableInfoRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	before := ask()
	if err := b.set("Mine", new(vendor), make([]byte, 1000), generated.VariableAttributeNonVolatile, generated.VariableAttributeBootServiceAccess); err != nil {
		t.Fatal(err)
	}
	after := ask()
	if before.RemainingVariableStorageSize != before.MaximumVariableStorageSize || before.RemainingVariableStorageSize-after.RemainingVariableStorageSize != 1072 || after.MaximumVariableSize != 64<<10 {
		t.Error(before, after)
	}
	_, err := b.f.QueryVariableInfo(t.Context(), b.call, &generated.QueryVariableInfoRequest{VariableAttribute: []*generated.VariableAttribute{new(generated.VariableAttributeNonVolatile)}})
	status(t, err, "EFI_INVALID_PARAMETER")
}

// plain is a machine without firmware.
type plain struct{ smm.Machine }

func TestAMachineWithoutFirmwareHasNoVariables(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	if err := b.CloseMachine("demo"); err != nil {
		t.Fatal(err)
	}
	bare := smm.New(smm.Config{Store: b.Store, Ledger: b.Ledger, Clock: b.Clock, Machines: map[generated.DomainKind]smm.Opener{
		generated.DomainKindSimulated: func(_ context.Context, _ smm.Domain, _ smm.Settings, _ smm.Supervisor) (smm.Machine, error) {
			return plain{&testbios.Machine{}}, nil
		},
	}})
	bare.Configure(b)
	if err := bare.OpenMachine(t.Context(), smm.Domain{Name: "demo", Kind: generated.DomainKindSimulated}); err != nil {
		t.Fatal(err)
	}
	f := variable.New(bare)
	var unavailable *generated.UnavailableFault
	if _, err := f.ListVariables(t.Context(), b.call, &generated.ListVariablesRequest{}); !errors.As(err, &unavailable) || unavailable.Code != "NotSupportedByMachine" {
		t.Error(err)
	}
	if _, err := f.ResetSecureBootKeys(t.Context(), b.call, &generated.ResetSecureBootKeysRequest{ResetKeysType: new(generated.ResetKeysTypeDeleteAllKeys)}); !errors.As(err, &unavailable) {
		t.Error(err)
	}
}

func TestWhatIsKeptOutlastsTheService(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	k := services.Key{Vendor: efi.MustGUID(string(vendor)), Name: "Private"}
	write := func(file string) error {
		return b.ChangeBeside(t.Context(), b.call, "SetVariable", func(tx *smm.Tx) error {
			s, err := b.f.Services(tx, services.Runtime)
			if err != nil {
				return err
			}
			return s.SetVariable(k, efi.NonVolatile|efi.BootServiceAccess|efi.RuntimeAccess|efi.TimeBasedAuthenticated, read(t, vectors+file))
		})
	}
	if err := write("owner-Private-v1-2021.auth"); err != nil {
		t.Fatal(err)
	}
	b.start()
	if err := write("stranger-Private-v2-2022.auth"); !errors.Is(err, efi.SecurityViolation) {
		t.Error(err)
	}
	if err := write("owner-Private-v2-2022.auth"); err != nil {
		t.Error(err)
	}
	if got, err := b.get("Private", new(vendor)); err != nil || string(got.VariableData) != "second value" || got.Variable.TimeStamp != "2022-01-01T00:00:00Z" {
		t.Error(got, err)
	}
}
