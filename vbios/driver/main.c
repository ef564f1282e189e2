// The thin virtual BIOS: a UEFI runtime driver that answers the variable services by asking BIOS.v over a trapped UART,
// and tells it when the operating system takes over and when the machine is reset. It holds no variable and decides
// nothing about one. docs/vbios.md says what it says, and why.
//
// Begin with start, then exchange.c.
#include "vbios.h"

driver_state state;

static void ResetSystem(u32 type, status why, u64 size, void *data) {
	struct {
		u32 type;
		u32 why;
	} fields = {type, (u32)why};
	// Data means something only where the specification says so (8.5.1).
	if (data == 0 || (why == SUCCESS && type != EfiResetPlatformSpecific))
		size = 0;
	part parts[] = {{&fields, sizeof fields}, {data, size < 1024 ? size : 1024}};
	answer a = {.fixed_size = 4};
	exchange(RESET_SYSTEM, parts, 2, &a, 1);
	state.reset(type, why, size, data);
}

// exit_boot_services is called when boot services end, and is the last to use them. The other side learns of it with
// the first request that reaches it afterwards, if not now.
static void exit_boot_services(void *event, void *context) {
	(void)event, (void)context;
	answer a = {.fixed_size = 4};
	state.phase = 1;
	exchange(EXIT_BOOT_SERVICES_CALLED, 0, 0, &a, 1);
	attributes_replace();
	state.boot = 0;
	state.get = 0;
}

static void virtual_address_change(void *event, void *context) {
	(void)event, (void)context;
	state.system->runtime->ConvertPointer(0, (void **)&state.reset);
	state.system = 0;
}

static void replace_services(runtime_services *r) {
	state.reset = r->ResetSystem;
	state.get = r->GetVariable;
	r->GetVariable = GetVariable;
	r->GetNextVariableName = GetNextVariableName;
	r->SetVariable = SetVariable;
	r->QueryVariableInfo = QueryVariableInfo;
	r->ResetSystem = ResetSystem;
	r->header.crc32 = 0;
	r->header.crc32 = crc32(0, r, r->header.size);
}

// start is the driver's entry point. From here on the guest has no other variables than those that BIOS.v answers:
// whether it answers now is found out by the first call.
status start(void *image, system_table *system) {
	static const guid ours = {{0x9a, 0x5e, 0x3b, 0x7d, 0x1c, 0x60, 0x4f, 0x4e, 0x8d, 0x52, 0xb1, 0x05, 0x76, 0x62, 0x69, 0x6f}};
	void *exit = 0, *change = 0, *handle = 0, *other;
	(void)image;
	state.system = system;
	state.boot = system->boot;
	if (state.boot->LocateProtocol(&ours, 0, &other) == SUCCESS)
		return ALREADY_STARTED; // two devices carry the ROM
	if (!attributes_prepare() ||
	    state.boot->CreateEvent(EXIT_BOOT_SERVICES, TPL_NOTIFY, exit_boot_services, 0, &exit) != SUCCESS ||
	    state.boot->CreateEvent(VIRTUAL_ADDRESS_CHANGE, TPL_NOTIFY, virtual_address_change, 0, &change) != SUCCESS ||
	    state.boot->InstallProtocolInterface(&handle, &ours, 0, 0) != SUCCESS) {
		if (exit != 0)
			state.boot->CloseEvent(exit);
		if (change != 0)
			state.boot->CloseEvent(change);
		return OUT_OF_RESOURCES;
	}
	replace_services(system->runtime);
	return SUCCESS;
}
