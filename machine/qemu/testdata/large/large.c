// An EFI program that tells on the first serial port, again and again, how a variable of many bytes begins and ends, and
// how large it is: "NAME: FIRST LAST SIZE", in hexadecimal, or "NAME: none".
#include "port.h"

static guid vendor = {{0xf4, 0xd1, 0x0a, 0x5e, 0x52, 0x7c, 0x3c, 0x4b, 0x9d, 0x0c, 0x2f, 0x6a, 0x1f, 0x7b, 0x8c, 0x11}};

static void say(const char *text) {
	for (; *text; text++) {
		while (!(in8(0x3fd) & 0x20)) // the line status: room for another byte
			;
		out8(0x3f8, *text);
	}
}

static void hex(u64 value, int digits) {
	for (char text[2] = {0}; digits-- > 0;) {
		text[0] = "0123456789abcdef"[value >> 4 * digits & 15];
		say(text);
	}
}

status start(void *image, system_table *system) {
	(void)image;
	static u8 data[8192];
	for (;;) {
		u64 size = sizeof data;
		status s = system->runtime->GetVariable(L"Large", &vendor, 0, &size, data);
		say("\r\n" NAME ": ");
		if (s == SUCCESS && size > 0) {
			hex(data[0], 2);
			say(" ");
			hex(data[size - 1], 2);
			say(" ");
			hex(size, 4);
		} else {
			say("none");
		}
		say("\r\n");
		for (u32 i = 0; i < 20000; i++)
			in8(0x80); // a port that takes its time
	}
}
