// In the place of the driver's own port.h: ports that main.c makes up.
#pragma once
#include "uefi.h"

u8 in8(u16 port);
u32 in32(u16 port);
void out8(u16 port, u8 v);
void out8s(u16 port, const u8 *data, u64 size);
void in8s(u16 port, u8 *data, u64 size);
