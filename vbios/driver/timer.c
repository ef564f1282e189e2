// Time is what the ACPI PM timer says: 3.579545 MHz, of which 24 bits can be relied on. They come round every 4.7 s, so
// only differences are taken, and often. Nothing counts loops: under emulation a loop says nothing about time.
#include "port.h"
#include "vbios.h"

enum { MASK = 0xffffff };

// Offsets in the tables of ACPI 6.5: 5.2.5.3 (RSDP), 5.2.6 (description header), 5.2.9 (FADT).
enum { RSDP_XSDT = 24, LENGTH = 4, ENTRIES = 36, PM_TMR_BLK = 76, X_PM_TMR_BLK = 208, X_PM_TMR_ADDRESS = 212, FADT_WITH_X = 220, IN_IO_SPACE = 1 };

static u32 read32(const u8 *at) {
	u32 v;
	copy(&v, at, sizeof v);
	return v;
}

static u64 read64(const u8 *at) {
	u64 v;
	copy(&v, at, sizeof v);
	return v;
}

static u16 timer_of(const u8 *fadt) {
	u64 port = 0;
	if (read32(fadt + LENGTH) >= FADT_WITH_X && fadt[X_PM_TMR_BLK] == IN_IO_SPACE)
		port = read64(fadt + X_PM_TMR_ADDRESS);
	if (port == 0)
		port = read32(fadt + PM_TMR_BLK);
	return port < 0x10000 ? (u16)port : 0;
}

int find_timer(void) {
	static const guid acpi20 = {{0x71, 0xe8, 0x68, 0x88, 0xf1, 0xe4, 0xd3, 0x11, 0xbc, 0x22, 0x00, 0x80, 0xc7, 0x3c, 0x88, 0x81}};
	if (state.timer != 0 || state.boot == 0)
		return state.timer != 0;
	for (u64 i = 0; i < state.system->tables_count; i++) {
		const configuration_table *t = &state.system->tables[i];
		if (!equal(&t->vendor, &acpi20, sizeof acpi20))
			continue;
		const u8 *xsdt = (const u8 *)read64((const u8 *)t->table + RSDP_XSDT);
		if (xsdt == 0)
			continue;
		for (u32 at = ENTRIES; at + 8 <= read32(xsdt + LENGTH); at += 8) {
			const u8 *table = (const u8 *)read64(xsdt + at);
			if (table != 0 && equal(table, "FACP", 4))
				state.timer = timer_of(table);
		}
	}
	return state.timer != 0;
}

u32 timer_now(void) { return in32(state.timer) & MASK; }
u32 timer_between(u32 from, u32 to) { return (to - from) & MASK; }

void watch_start(stopwatch *w, u32 elapsed) {
	w->last = timer_now();
	w->elapsed = elapsed;
}

int watch_past(stopwatch *w, u32 ticks) {
	u32 now = timer_now();
	w->elapsed += timer_between(w->last, now);
	w->last = now;
	return w->elapsed >= ticks;
}
