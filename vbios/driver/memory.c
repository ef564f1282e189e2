#include "vbios.h"

void copy(void *to, const void *from, u64 size) {
	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
}

// The compiler may call these where it copies or clears a structure.
void *memcpy(void *to, const void *from, u64 size) {
	copy(to, from, size);
	return to;
}

void *memset(void *to, int value, u64 size) {
	void *at = to;
	__asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(value) : "memory");
	return to;
}

int equal(const void *a, const void *b, u64 size) {
	const u8 *x = a, *y = b;
	while (size-- > 0)
		if (*x++ != *y++)
			return 0;
	return 1;
}

// crc32 is the CRC-32 of ISO 3309, which the UEFI tables use too (4.2), four bits at a time.
u32 crc32(u32 crc, const void *data, u64 size) {
	static const u32 step[16] = {
		0x00000000, 0x1db71064, 0x3b6e20c8, 0x26d930ac, 0x76dc4190, 0x6b6b51f4, 0x4db26158, 0x5005713c,
		0xedb88320, 0xf00f9344, 0xd6d6a3e8, 0xcb61b38c, 0x9b64c2b0, 0x86d3d2d4, 0xa00ae278, 0xbdbdf21c,
	};
	const u8 *p = data;
	crc = ~crc;
	while (size-- > 0) {
		crc ^= *p++;
		crc = step[crc & 15] ^ (crc >> 4);
		crc = step[crc & 15] ^ (crc >> 4);
	}
	return ~crc;
}
