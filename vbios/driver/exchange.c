// An exchange: one request and its answer, in a bounded time. docs/vbios.md, sections 3 and 5.
#include "vbios.h"

enum { UNKNOWN_SESSION = 1, VERSION_LOWEST = 1, VERSION_HIGHEST = 1 };

u32 field32(const answer *a, u32 offset) {
	u32 v;
	copy(&v, a->fixed + offset, sizeof v);
	return v;
}

u64 field64(const answer *a, u32 offset) {
	u64 v;
	copy(&v, a->fixed + offset, sizeof v);
	return v;
}

// await waits for the answer until it is time to send the request again.
static int await(line *l, answer *a) {
	l->until = earlier(l->end, l->watch.elapsed + AGAIN);
	l->late = 0;
	int came = frame_receive(l, a);
	l->late = !came && watch_past(&l->watch, l->end);
	l->until = l->end;
	return came;
}

static void send_hello(line *l, answer *a) {
	u16 versions[2] = {VERSION_LOWEST, VERSION_HIGHEST};
	part body = {versions, sizeof versions};
	state.session = 0;
	a->sequence = ++state.sequence;
	frame_send(l, HELLO, a->sequence, &body, 1);
	state.probed = timer_now();
}

// greet learns the other side's session. In silence, Hello is not sent at every call: whoever comes back finds only
// some of them, and the answer to any of them will do.
static int greet(line *l) {
	answer a = {.sent_kind = HELLO, .fixed_size = 12};
	int due = 1;
	if (state.silent) {
		due = timer_between(state.probed, timer_now()) >= BETWEEN;
		l->until = l->end = due ? PROBE : LOOK;
	}
	state.silent = 1;
	for (; !l->late; due = 1) {
		if (due)
			send_hello(l, &a);
		if (!await(l, &a))
			continue;
		if (a.kind == REFUSAL || field32(&a, 0) != 0)
			return 0; // somebody who does not speak this version
		state.session = field32(&a, 8);
		state.silent = state.session == 0;
		return !state.silent;
	}
	return 0;
}

// converse tells whether the request was answered.
static int converse(line *l, u8 kind, const part *parts, int count, answer *a, int repeatable) {
	if (state.silent || state.session == 0) {
		if (!greet(l))
			return 0;
		l->until = l->end = WAIT;
	}
	a->sent_kind = kind;
	for (int sent = 0; !l->late;) {
		if (sent == 0)
			a->sequence = ++state.sequence;
		frame_send(l, kind, a->sequence, parts, count);
		sent++;
		if (!await(l, a))
			continue;
		if (a->kind != REFUSAL)
			return 1;
		// Another process has taken over, and did not act on this request. The one before it may have, on an earlier
		// sending.
		if (field32(a, 0) != UNKNOWN_SESSION || (sent > 1 && !repeatable))
			return 0;
		if (!greet(l))
			return 0;
		sent = 0;
	}
	state.silent = 1;
	return 0;
}

status exchange(u8 kind, const part *parts, int count, answer *a, int repeatable) {
	line l;
	u64 level = 0;
	if (!find_timer())
		return DEVICE_ERROR;
	if (state.boot != 0)
		level = state.boot->RaiseTPL(TPL_HIGH_LEVEL);
	line_open(&l, state.silent, a->waited, WAIT);
	int answered = converse(&l, kind, parts, count, a, repeatable);
	watch_past(&l.watch, 0);
	a->waited = l.watch.elapsed;
	line_close(&l);
	if (state.boot != 0)
		state.boot->RestoreTPL(level);
	if (!answered)
		return DEVICE_ERROR;
	u32 s = field32(a, 0);
	return s == 0 ? SUCCESS : ERROR(s);
}
