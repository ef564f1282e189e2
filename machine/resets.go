package machine

import "biosv/generated"

// AllResets are all resets of the contract, for a machine that can do them all.
func AllResets() []generated.ResetType {
	return []generated.ResetType{
		generated.ResetTypeOn, generated.ResetTypeForceOff, generated.ResetTypeGracefulShutdown, generated.ResetTypeGracefulRestart,
		generated.ResetTypeForceRestart, generated.ResetTypePowerCycle, generated.ResetTypeNmi, generated.ResetTypePushPowerButton,
	}
}
