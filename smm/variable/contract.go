package variable

import (
	"context"
	"fmt"

	"biosv/fault"
	"biosv/generated"
	"biosv/smm"
	"biosv/smm/variable/efi"
	"biosv/smm/variable/services"
)

// The events of this function.
const (
	eventSet        = "BiosV.1.0.VariableSet"
	eventDeleted    = "BiosV.1.0.VariableDeleted"
	eventImported   = "BiosV.1.0.VariablesImported"
	eventSecureBoot = "BiosV.1.0.SecureBootChanged"
	eventEnrolled   = "BiosV.1.0.SecureBootKeysEnrolled"
	eventReset      = "BiosV.1.0.SecureBootKeysReset"
)

// mostListed is how many variables a list has where the request does not say.
const mostListed = 100

// ListVariables gives variables by GetNextVariableName.
func (f *Function) ListVariables(ctx context.Context, call generated.Call, request *generated.ListVariablesRequest) (*generated.ListVariablesReply, error) {
	var after services.Key
	if request.AfterName != nil {
		var err error
		if after, err = keyOf(*request.AfterName, request.AfterVendorGuid); err != nil {
			return nil, err
		}
	} else if request.AfterVendorGuid != nil {
		return nil, fault.InvalidRequest(fault.InvalidValue, "AfterVendorGuid", string(*request.AfterVendorGuid), "AfterVendorGuid goes with AfterName, which is absent.")
	}
	most := mostListed
	if request.MostVariables != nil {
		most = int(*request.MostVariables)
	}
	reply := &generated.ListVariablesReply{}
	return reply, f.view(ctx, call, func(tx *smm.Tx, s *services.Services) error {
		reply.Version = new(tx.Version())
		return s.Scan(after, func(k services.Key, v services.Variable) bool {
			if reply.MoreVariables = len(reply.Variable) == most; !reply.MoreVariables {
				reply.Variable = append(reply.Variable, record(k, v))
			}
			return !reply.MoreVariables
		})
	})
}

// GetVariable gives a variable.
func (f *Function) GetVariable(ctx context.Context, call generated.Call, request *generated.GetVariableRequest) (*generated.GetVariableReply, error) {
	k, err := keyOf(*request.Name, request.VendorGuid)
	if err != nil {
		return nil, err
	}
	reply := &generated.GetVariableReply{}
	return reply, f.view(ctx, call, func(tx *smm.Tx, s *services.Services) error {
		v, err := s.GetVariable(k)
		reply.Version, reply.Variable, reply.VariableData = new(tx.Version()), record(k, v), v.Data
		return err
	})
}

// SetVariable writes a variable.
func (f *Function) SetVariable(ctx context.Context, call generated.Call, request *generated.SetVariableRequest) (*generated.SetVariableReply, error) {
	k, err := keyOf(*request.Name, request.VendorGuid)
	if err != nil {
		return nil, err
	}
	version, err := f.change(ctx, call, generated.OpSetVariable, request.Version, func(tx *smm.Tx, s *services.Services) (smm.Event, error) {
		a := efi.AttributesOf(request.VariableAttribute)
		if len(request.VariableAttribute) == 0 {
			if a, err = presumed(s, k); err != nil {
				return smm.Event{}, err
			}
		}
		return wrote(s, k, func() error { return s.SetVariable(k, a, request.VariableData) })
	})
	if err != nil {
		return nil, err
	}
	return &generated.SetVariableReply{Version: &version}, nil
}

// presumed are the attributes of a write that has none: those that the variable has, or that the specification gives.
func presumed(s *services.Services, k services.Key) (efi.Attributes, error) {
	v, ok, err := s.State.Get(k)
	if err != nil || ok {
		return v.Attributes, err
	}
	if a, ok := services.Defined(k); ok {
		return a, nil
	}
	return 0, fault.InvalidRequest(fault.InvalidValue, "VariableAttribute", "", "There is no variable %s yet, nor is it one that the specification defines: the request must say its attributes.", efi.EscapeName(k.String()))
}

// wrote runs a write of a variable, and tells what it was before and after. Firmware writes many variables at each start
// as they are: of a write that changes nothing, nothing is told.
func wrote(s *services.Services, k services.Key, write func() error) (e smm.Event, err error) {
	before, err := at(s, k)
	if err != nil {
		return e, err
	}
	if err := write(); err != nil {
		return e, err
	}
	after, err := at(s, k)
	if err != nil || before != nil && after != nil && same(*before, *after) {
		return e, err
	}
	e.MessageID, e.Message = eventSet, fmt.Sprintf("The variable %s was set.", efi.EscapeName(k.String()))
	if after == nil {
		e.MessageID, e.Message = eventDeleted, fmt.Sprintf("The variable %s was deleted.", efi.EscapeName(k.String()))
	}
	e.Changes = []smm.Change{changeOf(k, before, after)}
	return e, err
}

// at gives a variable, nil where there is none.
func at(s *services.Services, k services.Key) (*services.Variable, error) {
	v, ok, err := s.State.Get(k)
	if err != nil || !ok {
		return nil, err
	}
	return &v, nil
}

// DeleteVariable deletes a variable that is not authenticated.
func (f *Function) DeleteVariable(ctx context.Context, call generated.Call, request *generated.DeleteVariableRequest) (*generated.DeleteVariableReply, error) {
	k, err := keyOf(*request.Name, request.VendorGuid)
	if err != nil {
		return nil, err
	}
	version, err := f.change(ctx, call, generated.OpDeleteVariable, request.Version, func(_ *smm.Tx, s *services.Services) (smm.Event, error) {
		return wrote(s, k, func() error { return s.SetVariable(k, 0, nil) })
	})
	if err != nil {
		return nil, err
	}
	return &generated.DeleteVariableReply{Version: &version}, nil
}

// QueryVariableInfo says how much room there is.
func (f *Function) QueryVariableInfo(ctx context.Context, call generated.Call, request *generated.QueryVariableInfoRequest) (*generated.QueryVariableInfoReply, error) {
	a := efi.AttributesOf(request.VariableAttribute)
	if len(request.VariableAttribute) == 0 {
		a = efi.NonVolatile | efi.BootServiceAccess | efi.RuntimeAccess
	}
	reply := &generated.QueryVariableInfoReply{}
	return reply, f.view(ctx, call, func(_ *smm.Tx, s *services.Services) error {
		i, err := s.QueryVariableInfo(a)
		reply.MaximumVariableStorageSize, reply.RemainingVariableStorageSize, reply.MaximumVariableSize = i.MaximumStorage, i.RemainingStorage, i.MaximumVariable
		return err
	})
}
