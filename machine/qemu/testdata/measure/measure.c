// An EFI program that tells on the first serial port what the firmware measured, and what the machine's TPM holds: the
// event log once, as "NAME: log: HEX", and PCR 7 again and again, as the TPM answers, as "NAME: pcr: HEX".
#include "port.h"

static const guid tcg2_protocol = {{0x6c, 0x76, 0x7f, 0x60, 0x55, 0x74, 0xbe, 0x42, 0x93, 0x0b, 0xe4, 0xd7, 0x6d, 0xb2, 0x72, 0x0f}};
static guid global_variable = {{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}};

typedef struct tcg2 tcg2;
struct tcg2 { // EFI_TCG2_PROTOCOL (TCG EFI Protocol Specification, 6)
	void *GetCapability;
	status (*GetEventLog)(tcg2 *this, u32 format, u8 **first, u8 **last, u8 *truncated);
	void *HashLogExtendEvent;
	status (*SubmitCommand)(tcg2 *this, u32 in_size, const u8 *in, u32 out_size, u8 *out);
};

static void say(const char *text) {
	for (; *text; text++) {
		while (!(in8(0x3fd) & 0x20)) // the line status: room for another byte
			;
		out8(0x3f8, *text);
	}
}

static void hex(const u8 *data, u64 size) {
	for (; size; size--, data++) {
		char text[3] = {"0123456789abcdef"[*data >> 4], "0123456789abcdef"[*data & 15], 0};
		say(text);
	}
}

static void tell(const char *what, const u8 *data, u64 size) {
	say("\r\n" NAME ": ");
	say(what);
	say(": ");
	hex(data, size);
	say("\r\n");
}

static runtime_services *runtime;

static void variable(u16 *name, const char *as) {
	u8 value;
	u64 size = sizeof value;
	if (runtime->GetVariable(name, &global_variable, 0, &size, &value) == SUCCESS)
		tell(as, &value, size);
	else
		tell(as, 0, 0);
}

// past_event gives the end of an event of the crypto agile log (TCG PC Client Platform Firmware Profile, 10.2.2).
static u8 *past_event(u8 *event) {
	u32 digests = *(u32 *)(event + 8);
	u8 *at = event + 12;
	for (; digests; digests--) {
		u16 algorithm = *(u16 *)at;
		at += 2 + (algorithm == 4 ? 20 : algorithm == 0xb ? 32 : algorithm == 0xc ? 48 : 64);
	}
	return at + 4 + *(u32 *)at;
}

status start(void *image, system_table *system) {
	(void)image;
	runtime = system->runtime;
	variable(L"SecureBoot", "SecureBoot");
	variable(L"SetupMode", "SetupMode");
	tcg2 *tpm;
	u8 *first, *last, truncated;
	if (system->boot->LocateProtocol(&tcg2_protocol, 0, (void **)&tpm) != SUCCESS || tpm->GetEventLog(tpm, 2, &first, &last, &truncated) != SUCCESS)
		first = last = 0;
	tell("log", first, last ? (u64)(past_event(last) - first) : 0);
	say("\r\n" NAME ": started\r\n");
	for (;;) {
		// TPM2_PCR_Read of PCR 7 in the bank of SHA-256 (TPM 2.0 Library, Part 3, 22.4)
		static const u8 command[] = {0x80, 0x01, 0, 0, 0, 20, 0, 0, 1, 0x7e, 0, 0, 0, 1, 0, 0x0b, 3, 0x80, 0, 0};
		u8 answer[128] = {0};
		status s = last ? tpm->SubmitCommand(tpm, sizeof command, command, sizeof answer, answer) : NOT_FOUND;
		tell("pcr", answer, s == SUCCESS ? (u64)(answer[4] << 8 | answer[5]) : 0);
		for (u32 i = 0; i < 100000; i++)
			in8(0x80); // a port that takes its time
	}
}
