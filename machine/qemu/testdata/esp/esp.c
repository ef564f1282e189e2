// The program on the disks of TestTheBootOrderDecides, as /EFI/BOOT/BOOTX64.EFI. It adds the name of its disk to the variable
// Trail; resets the machine as often as the variable Resets says, a number in a byte; and switches it off.
#include "uefi.h"

enum { NON_VOLATILE = 1, APPEND_WRITE = 0x40 }; // 8.2.1
enum { EfiResetCold = 0, EfiResetShutdown = 2 }; // 8.5.1

static guid vendor = {{0xf4, 0xd1, 0x0a, 0x5e, 0x52, 0x7c, 0x3c, 0x4b, 0x9d, 0x0c, 0x2f, 0x6a, 0x1f, 0x7b, 0x8c, 0x11}};

status start(void *image, system_table *system) {
	(void)image;
	runtime_services *r = system->runtime;
	u32 attributes = NON_VOLATILE | BOOTSERVICE_ACCESS | RUNTIME_ACCESS;
	u8 name = NAME[0], resets = 0;
	u64 size = sizeof resets;
	r->SetVariable(u"Trail", &vendor, attributes | APPEND_WRITE, sizeof name, &name);
	if (r->GetVariable(u"Resets", &vendor, 0, &size, &resets) == SUCCESS && resets > 0) {
		resets--;
		r->SetVariable(u"Resets", &vendor, attributes, sizeof resets, &resets);
		r->ResetSystem(EfiResetCold, SUCCESS, 0, 0);
	}
	r->ResetSystem(EfiResetShutdown, SUCCESS, 0, 0);
	return SUCCESS;
}
