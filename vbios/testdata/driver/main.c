// Runs the driver as a program of this host, against a serial port on which comes what the test wants. What it reads are
// calls: a line with the service and the caller's room, in bytes, who calls, how many bytes come, and how many ticks of
// the PM timer there are from one to the next; then these. An operating system (o) calls for the first time, and so does
// firmware (f), in whose flash are as many zeros as there is room; or the one that called last calls again (a). For each
// call it writes a line with the status, the size that the caller was told, the ticks that it took, and what was put
// into the caller's buffer, in hexadecimal.
//
// The caller's buffer ends where memory does, and behind the driver's own state are bytes that must stay 0.
#define _GNU_SOURCE
#include "vbios.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096, MOST = 1 << 20, DATA = 0x3e8, LSR = DATA + 5, TICKS = 1790 };

__attribute__((section("kept"))) driver_state state = {0};
__attribute__((section("kept"))) static u8 behind[64] = {0};

static u8 *coming;
static long left, taken;
static u64 now, began; // ticks
static unsigned every;

// at_the_end gives memory of a size behind which there is none.
static u8 *at_the_end(u64 size) {
	u64 pages = (size + PAGE - 1) / PAGE;
	u8 *p = mmap(0, (pages + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || mprotect(p + pages * PAGE, PAGE, PROT_NONE) != 0)
		abort();
	return p + pages * PAGE - size;
}

static int has_come(void) { return left > 0 && now - began >= (u64)taken * every; }

static u8 next(void) {
	if (!has_come())
		return 0;
	left--, taken++;
	return *coming++;
}

u8 in8(u16 port) {
	if (port == LSR)
		return (u8)(0x20 | has_come());
	return port == DATA ? next() : 0;
}

u32 in32(u16 port) { return (void)port, (u32)(now += TICKS); }
void out8(u16 port, u8 v) { (void)port, (void)v; }
void out8s(u16 port, const u8 *data, u64 size) {
	(void)port;
	for (u64 i = 0; i < size; i++)
		now += data[i] & 1;
}
void in8s(u16 port, u8 *data, u64 size) {
	(void)port;
	for (u64 i = 0; i < size; i++)
		data[i] = next();
}

static status flash(u16 *name, guid *vendor, u32 *attributes, u64 *size, void *data) {
	(void)name, (void)vendor, (void)attributes;
	for (u64 i = 0; i < *size; i++)
		((u8 *)data)[i] = 0;
	return SUCCESS;
}

int main(void) {
	static u8 bytes[MOST];
	char service, caller;
	unsigned room;
	while (scanf(" %c %u %c %ld %u", &service, &room, &caller, &left, &every) == 5) {
		if (getchar() != '\n' || room > MOST || left < 0 || left > MOST || fread(bytes, 1, (size_t)left, stdin) != (size_t)left)
			abort();
		coming = bytes, taken = 0, began = now;
		if (caller != 'a')
			state = (driver_state){.timer = 1, .phase = caller == 'o', .get = flash};
		guid vendor = {{1}};
		u16 name[] = u"Name";
		u64 size = room, told[3] = {0};
		u32 attributes = 0;
		u8 *buffer = at_the_end(room);
		status s = 0;
		switch (service) {
		case 'g':
			s = GetVariable(name, &vendor, &attributes, &size, buffer);
			break;
		case 'n':
			s = GetNextVariableName(&size, (u16 *)buffer, &vendor);
			break;
		case 's':
			s = SetVariable(name, &vendor, 7, room, buffer);
			break;
		case 'q':
			s = QueryVariableInfo(7, &told[0], &told[1], &told[2]);
			size = told[0];
			break;
		default:
			abort();
		}
		for (u64 i = 0; i < sizeof behind; i++)
			if (behind[i] != 0)
				abort();
		printf("%llx %llu %llu ", s, size, now - began);
		for (u64 i = 0; s == SUCCESS && (service == 'g' || service == 'n') && i < size; i++)
			printf("%02x", buffer[i]);
		printf("\n");
		fflush(stdout);
		u64 pages = (room + PAGE - 1) / PAGE;
		munmap(buffer + room - pages * PAGE, (pages + 1) * PAGE);
	}
	return 0;
}
