// The variable services (UEFI 2.10, 8.2). What can be told from the arguments alone is judged here; everything else is
// asked for.
#include "vbios.h"

enum {
	NAME_MOST = 511, // UTF-16 code units, without the zero that ends a name
	LARGE = 512,     // bytes
};

// length counts the code units before the zero; most + 1 says that there is no zero among the first most + 1.
static u64 length(const u16 *name, u64 most) {
	u64 n = 0;
	while (n <= most && name[n] != 0)
		n++;
	return n;
}

static u32 clip(u64 size) { return size < 0xffffffff ? (u32)size : 0xffffffff; }

// Firmware takes a SecureBoot that it cannot read for one that is off, and starts anything (edk2,
// DxeImageVerificationHandler). So while it is firmware that asks, SecureBoot is on until somebody says that it is not;
// db cannot be read then either, so nothing is started that the firmware has not in itself.
static int is_secure_boot(const u16 *name, const guid *vendor) {
	static const guid global = {{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}};
	static const u16 text[] = u"SecureBoot";
	return equal(vendor, &global, sizeof global) && length(name, NAME_MOST) == sizeof text / 2 - 1 && equal(name, text, sizeof text);
}

// give ends a GetVariable: attributes and size are told in both cases, data has been put there.
static status give(status s, u32 attributes, u64 size, u32 *attributes_out, u64 *size_out, const void *data) {
	if (s != SUCCESS && s != BUFFER_TOO_SMALL)
		return s;
	if (s == BUFFER_TOO_SMALL && size <= *size_out && data == 0)
		return INVALID_PARAMETER;
	if (attributes_out != 0)
		*attributes_out = attributes;
	*size_out = size;
	return s;
}

// Large variables, such as dbx, stand in the flash too, as the other side had them when the machine was started. Where
// they still are the same, as the check says, they need not come over the line, which takes a hundredth of a second
// for each two kilobytes. Only firmware, and what it has started, can have changed the flash since; and they could
// change this driver.
static int is_in_flash(u16 *name, guid *vendor, u32 room, void *data, const part *parts, answer *a) {
	u64 size = room;
	return state.phase == 0 && room >= LARGE && state.get(name, vendor, 0, &size, data) == SUCCESS && size >= LARGE &&
	       exchange(CHECK_VARIABLE, parts, 3, a, 1) == SUCCESS && field32(a, 8) == size && field32(a, 12) == crc32(0, data, size);
}

status GetVariable(u16 *name, guid *vendor, u32 *attributes, u64 *size, void *data) {
	if (name == 0 || vendor == 0 || size == 0)
		return INVALID_PARAMETER;
	u64 units = length(name, NAME_MOST);
	if (units > NAME_MOST)
		return NOT_FOUND;
	u32 room = data == 0 ? 0 : clip(*size);
	part parts[] = {{vendor, sizeof *vendor}, {&room, sizeof room}, {name, 2 * units}};
	answer check = {.fixed_size = 16};
	if (is_in_flash(name, vendor, room, data, parts, &check))
		return give(SUCCESS, field32(&check, 4), field32(&check, 8), attributes, size, data);
	answer a = {.fixed_size = 12, .tail = data, .room = room, .waited = check.waited};
	int unanswered = check.waited > 0 && state.silent; // then there is no other question in this call
	status s = unanswered ? DEVICE_ERROR : exchange(GET_VARIABLE, parts, 3, &a, 1);
	if (s == DEVICE_ERROR && state.phase == 0 && is_secure_boot(name, vendor)) {
		if (room > 0)
			*(u8 *)data = 1;
		return give(room > 0 ? SUCCESS : BUFFER_TOO_SMALL, BOOTSERVICE_ACCESS | RUNTIME_ACCESS, 1, attributes, size, data);
	}
	if (s == SUCCESS && field32(&a, 8) != a.tail_size)
		return DEVICE_ERROR;
	return give(s, field32(&a, 4), field32(&a, 8), attributes, size, data);
}

status GetNextVariableName(u64 *size, u16 *name, guid *vendor) {
	if (size == 0 || name == 0 || vendor == 0 || *size < 2)
		return INVALID_PARAMETER;
	u64 most = *size / 2 - 1;
	if (most > NAME_MOST)
		most = NAME_MOST;
	u64 units = length(name, most);
	if (units > most)
		return INVALID_PARAMETER;
	u32 room = clip(*size);
	part parts[] = {{vendor, sizeof *vendor}, {&room, sizeof room}, {name, 2 * units}};
	answer a = {.fixed_size = 24, .tail = (u8 *)state.name, .room = 2 * NAME_MOST};
	status s = exchange(GET_NEXT_VARIABLE_NAME, parts, 3, &a, 1);
	u64 needed = field32(&a, 4);
	if (s == SUCCESS) {
		if (needed != a.tail_size + 2 || needed % 2 != 0 || needed > *size)
			return DEVICE_ERROR;
		copy(vendor, a.fixed + 8, sizeof *vendor);
		copy(name, state.name, a.tail_size);
		name[a.tail_size / 2] = 0;
	}
	if (s == SUCCESS || s == BUFFER_TOO_SMALL)
		*size = needed;
	return s;
}

status SetVariable(u16 *name, guid *vendor, u32 attributes, u64 size, void *data) {
	if (name == 0 || name[0] == 0 || vendor == 0 || (size > 0 && data == 0))
		return INVALID_PARAMETER;
	u64 units = length(name, NAME_MOST);
	u32 fields[2] = {attributes, (u32)(2 * units)};
	if (units > NAME_MOST || size > BODY_MOST - sizeof *vendor - sizeof fields - 2 * units)
		return INVALID_PARAMETER;
	part parts[] = {{vendor, sizeof *vendor}, {fields, sizeof fields}, {name, 2 * units}, {data, size}};
	answer a = {.fixed_size = 4};
	return exchange(SET_VARIABLE, parts, 4, &a, 0);
}

status QueryVariableInfo(u32 attributes, u64 *maximum, u64 *remaining, u64 *largest) {
	if (maximum == 0 || remaining == 0 || largest == 0)
		return INVALID_PARAMETER;
	part parts[] = {{&attributes, sizeof attributes}};
	answer a = {.fixed_size = 28};
	status s = exchange(QUERY_VARIABLE_INFO, parts, 1, &a, 1);
	if (s == SUCCESS) {
		*maximum = field64(&a, 4);
		*remaining = field64(&a, 12);
		*largest = field64(&a, 20);
	}
	return s;
}
