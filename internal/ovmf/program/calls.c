// An EFI program that makes the calls of the variable services that come over the serial port, and answers what the
// firmware said. Package ovmf, one folder up, is the other side, and says how the bytes lie.
#include "port.h"

// The port is the one of the thin virtual BIOS, which this machine has not: firmware leaves it alone.
enum { PORT = 0x3e8, DATA = PORT, IER = PORT + 1, FCR = PORT + 2, LCR = PORT + 3, MCR = PORT + 4, LSR = PORT + 5 };
enum { CAN_RECEIVE = 0x01, CAN_SEND = 0x20 };

enum { GET_VARIABLE = 1, GET_NEXT_VARIABLE_NAME, SET_VARIABLE, QUERY_VARIABLE_INFO, EXIT };

typedef struct {
	u32 call, attributes;
	guid vendor;
	u32 name, data, zeros; // bytes that follow, and bytes that follow those in memory alone
} request;

typedef struct {
	u64 status;
	u32 attributes;
	guid vendor;
	u32 name, data;
	u32 reserved;
} answer;

static u16 name[0x4000];
static u8 data[0x200000];

static void receive(void *to, u64 size) {
	for (u8 *p = to; size > 0; size--) {
		while (!(in8(LSR) & CAN_RECEIVE))
			continue;
		*p++ = in8(DATA);
	}
}

static void send(const void *from, u64 size) {
	for (const u8 *p = from; size > 0; size--) {
		while (!(in8(LSR) & CAN_SEND))
			continue;
		out8(DATA, *p++);
	}
}

// The compiler may call this where it clears a structure.
void *memset(void *to, int value, u64 size) {
	void *at = to;
	__asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
	return to;
}

// The first call may itself change the map, whose key is then no longer right (7.4.6).
static status exit_boot_services(void *image, boot_services *boot) {
	status s = DEVICE_ERROR;
	for (int i = 0; i < 4 && s != SUCCESS; i++) {
		u64 size = sizeof data, key, each;
		u32 version;
		s = boot->GetMemoryMap(&size, data, &key, &each, &version);
		if (s == SUCCESS)
			s = boot->ExitBootServices(image, key);
	}
	return s;
}

void start(void *image, system_table *system) {
	runtime_services *firmware = system->runtime;
	system->boot->SetWatchdogTimer(0, 0, 0, 0);
	out8(LCR, 3); // eight bits
	out8(IER, 0);
	out8(MCR, 3);
	out8(FCR, 0xc7);
	send("ready\n", 6);
	for (;;) {
		request r;
		receive(&r, sizeof r);
		receive(name, r.name);
		receive(data, r.data);
		memset(data + r.data, 0, r.zeros);
		answer a = {.vendor = r.vendor};
		u64 size, *numbers = (u64 *)data;
		switch (r.call) {
		case GET_VARIABLE:
			size = sizeof data;
			a.status = firmware->GetVariable(name, &r.vendor, &a.attributes, &size, data);
			a.data = a.status == SUCCESS ? size : 0;
			break;
		case GET_NEXT_VARIABLE_NAME:
			size = sizeof name;
			a.status = firmware->GetNextVariableName(&size, name, &a.vendor);
			a.name = a.status == SUCCESS ? size : 0;
			break;
		case SET_VARIABLE:
			a.status = firmware->SetVariable(name, &r.vendor, r.attributes, (u64)r.data + r.zeros, data);
			break;
		case QUERY_VARIABLE_INFO:
			a.status = firmware->QueryVariableInfo(r.attributes, numbers, numbers + 1, numbers + 2);
			a.data = a.status == SUCCESS ? 24 : 0;
			break;
		case EXIT:
			a.status = exit_boot_services(image, system->boot);
			break;
		}
		send(&a, sizeof a);
		send(name, a.name);
		send(data, a.data);
	}
}

// Firmware enters here (2.3.4). Where Secure Boot does not let it start the program as one, it enters as it enters a
// Linux kernel of old, by the handover protocol (Documentation/arch/x86/boot.rst): image, table and boot parameters in
// the registers of another convention, the last in the place of the table. Kernels begin behind 512 bytes for those of
// 32 bits.
__asm__(".space 1024\n"
	".globl entry\n"
	"entry:\n"
	"movabs $0x5453595320494249, %rax\n" // the signature of a system table
	"cmp %rax, (%rdx)\n"
	"je 1f\n"
	"mov %rdi, %rcx\n"
	"mov %rsi, %rdx\n"
	"1: and $-16, %rsp\n"
	"sub $32, %rsp\n"
	"call start\n");
