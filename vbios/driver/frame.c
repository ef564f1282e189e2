// Frames: docs/vbios.md, section 2.
#include "vbios.h"

enum { VERSION = 1, FLAG = 0x7e, ESCAPE = 0x7d, FLIP = 0x20, MASK = 0x9c, CHECK_SIZE = 4 };

typedef struct {
	u8 version, kind, phase, reserved;
	u32 session, sequence, length;
} header;

static u32 send_escaped(line *l, u32 crc, const void *data, u64 size) {
	const u8 *p = data;
	for (u64 i = 0; i < size; i++) {
		u8 byte = p[i] ^ MASK;
		if (byte == 0 || byte == FLAG || byte == ESCAPE) {
			line_send(l, ESCAPE);
			byte ^= FLIP;
		}
		line_send(l, byte);
	}
	return crc32(crc, data, size);
}

void frame_send(line *l, u8 kind, u32 sequence, const part *parts, int count) {
	header h = {VERSION, kind, state.phase, 0, state.session, sequence, 0};
	for (int i = 0; i < count; i++)
		h.length += (u32)parts[i].size;
	line_send(l, FLAG); // ends what may have come before
	u32 crc = send_escaped(l, 0, &h, sizeof h);
	for (int i = 0; i < count; i++)
		crc = send_escaped(l, crc, parts[i].data, parts[i].size);
	send_escaped(l, 0, &crc, sizeof crc);
	line_send(l, FLAG);
	line_flush(l);
}

// wanted says whether a header is that of the answer. An answer to Hello tells that the other side is there, and is as
// good when it comes late.
static int wanted(const header *h, answer *a) {
	if (h->version != VERSION)
		return 0;
	a->kind = h->kind;
	if (h->kind == REFUSAL)
		return h->sequence == a->sequence && h->length == sizeof(u32);
	if (h->kind != (a->sent_kind | ANSWER) || (a->sent_kind != HELLO && h->sequence != a->sequence))
		return 0;
	return h->length >= a->fixed_size && h->length - a->fixed_size <= a->room;
}

// frame_receive puts the answer's bytes where they belong as they come; that they are right is known at the end.
int frame_receive(line *l, answer *a) {
	union {
		header h;
		u8 bytes[sizeof(header)];
	} head;
	u32 crc = 0, check = 0;
	u64 n = 0, fixed = 0, end = 0; // bytes of the frame so far; where its fixed fields and its body end
	int good = 0, escaped = 0;
	for (;;) {
		int c = line_receive(l);
		if (c < 0)
			return 0;
		if (c == FLAG) {
			if (good && n == end + CHECK_SIZE && check == crc)
				return 1;
			n = 0, crc = 0, check = 0, good = 1, escaped = 0, end = sizeof head;
			continue;
		}
		if (!good)
			continue;
		if (c == ESCAPE) {
			escaped = 1;
			continue;
		}
		u8 byte = (u8)((escaped ? c ^ FLIP : c) ^ MASK);
		escaped = 0;
		if (n < sizeof head) {
			head.bytes[n] = byte;
		} else if (n < fixed) {
			a->fixed[n - sizeof head] = byte;
		} else if (n < end) {
			a->tail[n - fixed] = byte;
		} else if (n < end + CHECK_SIZE) {
			check |= (u32)byte << 8 * (n - end);
		} else {
			good = 0;
		}
		if (n < end)
			crc = crc32(crc, &byte, 1);
		if (n >= sizeof head && good)
			line_progress(l);
		if (++n == sizeof head) {
			good = wanted(&head.h, a);
			end = sizeof head + head.h.length;
			fixed = sizeof head + (a->kind == REFUSAL ? sizeof(u32) : a->fixed_size);
			a->tail_size = end - fixed;
		}
	}
}
