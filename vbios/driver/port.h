#pragma once
#include "uefi.h"

static inline u8 in8(u16 port) {
	u8 v;
	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline u32 in32(u16 port) {
	u32 v;
	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}

static inline void out8(u16 port, u8 v) { __asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port)); }

static inline void out8s(u16 port, const u8 *data, u64 size) {
	__asm__ volatile("rep outsb" : "+S"(data), "+c"(size) : "d"(port) : "memory");
}

static inline void in8s(u16 port, u8 *data, u64 size) {
	__asm__ volatile("rep insb" : "+D"(data), "+c"(size) : "d"(port) : "memory");
}
