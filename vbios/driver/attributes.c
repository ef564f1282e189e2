// A driver that is loaded as late as this one is not in the memory attributes table (UEFI 2.10, 4.6.4): the operating
// system would map its code non-executable, and fault at its first call. So at ExitBootServices the table is replaced by
// a copy in which the pages of this driver's code can be executed and not written, and everything else is as it was.
#include "vbios.h"

enum : u64 { PAGE = 0x1000, MEMORY_XP = 0x4000, MEMORY_RO = 0x20000 };
enum { ROOM = 0x10000 }; // for more than a thousand descriptors; firmware has some dozen

typedef struct { // EFI_MEMORY_ATTRIBUTES_TABLE
	u32 version, count, descriptor_size, flags;
} attributes_table;

typedef struct { // EFI_MEMORY_DESCRIPTOR, 7.2
	u32 type, pad;
	u64 start, virtual, pages, attributes;
} descriptor;

typedef struct {
	u64 from, to;
} range;

static attributes_table *spare;

int attributes_prepare(void) {
	return state.boot->AllocatePool(EfiBootServicesData, ROOM, (void **)&spare) == SUCCESS;
}

// code gives the pages of the image that can be executed, as its PE header says (PE/COFF, "Section Table").
static range code(void) {
	extern u8 __ImageBase[];
	const u8 *pe = __ImageBase + *(u32 *)(__ImageBase + 0x3c);
	const u8 *section = pe + 24 + *(u16 *)(pe + 20);
	for (u16 i = 0; i < *(u16 *)(pe + 6); i++, section += 40)
		if (*(u32 *)(section + 36) & 0x20000000) { // IMAGE_SCN_MEM_EXECUTE
			u64 from = (u64)__ImageBase + *(u32 *)(section + 12);
			return (range){from, from + ((*(u32 *)(section + 8) + PAGE - 1) & ~(PAGE - 1))};
		}
	return (range){0, 0};
}

// add appends a piece of a descriptor to the copy.
static void add(const attributes_table *old, const u8 *whole, range piece, int executable) {
	if (piece.from >= piece.to)
		return;
	u8 *at = (u8 *)(spare + 1) + (u64)spare->count * old->descriptor_size;
	copy(at, whole, old->descriptor_size);
	descriptor *d = (descriptor *)at;
	d->start = piece.from;
	d->pages = (piece.to - piece.from) / PAGE;
	if (executable)
		d->attributes = (d->attributes & ~MEMORY_XP) | MEMORY_RO;
	spare->count++;
}

static u64 within(u64 v, range r) { return v < r.from ? r.from : v > r.to ? r.to : v; }

void attributes_replace(void) {
	static const guid attributes_guid = {{0x1d, 0x91, 0xfa, 0xdc, 0xeb, 0x26, 0x9f, 0x46, 0xa2, 0x20, 0x38, 0xb7, 0xdc, 0x46, 0x12, 0x20}};
	range ours = code();
	for (u64 i = 0; i < state.system->tables_count; i++) {
		configuration_table *t = &state.system->tables[i];
		if (!equal(&t->vendor, &attributes_guid, sizeof attributes_guid))
			continue;
		const attributes_table *old = t->table;
		// Two more descriptors is the most that comes of cutting one range out.
		if (old->descriptor_size < sizeof(descriptor) || ((u64)old->count + 2) * old->descriptor_size > ROOM - sizeof *old)
			return;
		*spare = *old;
		spare->count = 0;
		for (u32 k = 0; k < old->count; k++) {
			const u8 *whole = (const u8 *)(old + 1) + (u64)k * old->descriptor_size;
			const descriptor *d = (const descriptor *)whole;
			range all = {d->start, d->start + d->pages * PAGE}, cut = {within(ours.from, all), within(ours.to, all)};
			if (!(d->attributes & MEMORY_XP) || cut.from == cut.to) {
				add(old, whole, all, 0);
				continue;
			}
			add(old, whole, (range){all.from, cut.from}, 0);
			add(old, whole, cut, 1);
			add(old, whole, (range){cut.to, all.to}, 0);
		}
		t->table = spare;
		return;
	}
}
