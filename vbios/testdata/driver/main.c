// Runs the driver as a program of this host, against a serial port on which comes what the test wants. What it reads are
// calls: a line with the service and the caller's room, in bytes, and how many bytes come; then these. For each it writes
// a line with the status, the size that the caller was told, and what was put into the caller's buffer, in hexadecimal.
//
// The caller's buffer ends where memory does, and behind the driver's own state are bytes that must stay 0.
#define _GNU_SOURCE
#include "vbios.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096, MOST = 1 << 20, DATA = 0x3e8, LSR = DATA + 5, TICKS = 20000 };

__attribute__((section("kept"))) driver_state state = {0};
__attribute__((section("kept"))) static u8 behind[64] = {0};

static u8 *coming;
static long left;
static u32 now;

// at_the_end gives memory of a size behind which there is none.
static u8 *at_the_end(u64 size) {
	u64 pages = (size + PAGE - 1) / PAGE;
	u8 *p = mmap(0, (pages + 1) * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED || mprotect(p + pages * PAGE, PAGE, PROT_NONE) != 0)
		abort();
	return p + pages * PAGE - size;
}

static u8 next(void) {
	if (left == 0)
		return 0;
	left--;
	return *coming++;
}

u8 in8(u16 port) {
	if (port == LSR)
		return (u8)(0x20 | (left > 0));
	return port == DATA ? next() : 0;
}

u32 in32(u16 port) { return (void)port, now += TICKS; }
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

int main(void) {
	static u8 bytes[MOST];
	char service;
	unsigned room;
	while (scanf(" %c %u %ld", &service, &room, &left) == 3) {
		if (getchar() != '\n' || room > MOST || left < 0 || left > MOST || fread(bytes, 1, (size_t)left, stdin) != (size_t)left)
			abort();
		coming = bytes;
		state = (driver_state){.timer = 1, .phase = 1};
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
		printf("%llx %llu ", s, size);
		for (u64 i = 0; s == SUCCESS && (service == 'g' || service == 'n') && i < size; i++)
			printf("%02x", buffer[i]);
		printf("\n");
		fflush(stdout);
		u64 pages = (room + PAGE - 1) / PAGE;
		munmap(buffer + room - pages * PAGE, (pages + 1) * PAGE);
	}
	return 0;
}
