// What the files of the driver share. docs/vbios.md specifies what the driver says to the other side.
#pragma once
#include "uefi.h"

// Code stands in a section of its own, behind the data, so that neither moves when the other grows: ../rom gives each
// section a fixed number of pages.
#pragma code_seg(".code")

// state is all that the driver keeps. Of its pointers, only reset is used after ExitBootServices, and it is converted
// when the operating system moves the runtime services.
typedef struct {
	system_table *system; // until SetVirtualAddressMap
	boot_services *boot;  // until ExitBootServices
	void (*reset)(u32 type, status why, u64 size, void *data); // the firmware's own ResetSystem
	// The firmware's own GetVariable, which has what is in the flash; until ExitBootServices.
	status (*get)(u16 *name, guid *vendor, u32 *attributes, u64 *size, void *data);

	u16 timer;    // port of the ACPI PM timer; 0: not known
	u8 phase;     // 0: boot services, 1: operating system
	u8 silent;    // nobody answered last time
	u32 probed;   // timer when the last Hello was sent in silence
	u32 session;  // of the other side; 0: none
	u32 sequence; // of the last request
	u16 name[512]; // what GetNextVariableName got, until its check is known to be right
} driver_state;
extern driver_state state;

// memory.c
void copy(void *to, const void *from, u64 size);
int equal(const void *a, const void *b, u64 size);
u32 crc32(u32 crc, const void *data, u64 size); // the first crc is 0

// timer.c: the ACPI PM timer (ACPI 6.5, 4.8.3.3).
#define MILLISECONDS(n) ((u32)((n) * 3579545ull / 1000))
typedef struct {
	u32 last, elapsed; // in ticks
} stopwatch;
int find_timer(void); // whether there is one; boot services only, until it was found
u32 timer_now(void);
u32 timer_between(u32 from, u32 to);
void watch_start(stopwatch *w, u32 elapsed);
int watch_past(stopwatch *w, u32 ticks);

// How long a call waits (docs/vbios.md, section 5), all its exchanges together: it ends within 2 s, or where more of an
// answer keeps coming, within 2 s without a byte of it, and 5 s.
enum {
	WAIT = MILLISECONDS(1900),    // for the answer, or for more of it
	AGAIN = MILLISECONDS(475),    // before a request is sent again
	LONGEST = MILLISECONDS(4900), // for the whole of an answer that keeps coming
	PROBE = MILLISECONDS(8),      // while nobody answers, for the answer to a Hello
	LOOK = MILLISECONDS(1),       // and for the answer to one that was sent by an earlier call
	BETWEEN = MILLISECONDS(100),  // two such
};
static inline u32 earlier(u32 a, u32 b) { return a < b ? a : b; }

// uart.c: the trapped UART (16550A). A wait that is over sets late, and everything fails from then on.
typedef struct {
	u8 lcr, ier, mcr; // what the operating system had set
	stopwatch watch;
	u32 until, end; // when the wait for this is over, and that for everything
	u8 burst[16]; // to send
	u8 came[14]; // of which some were taken
	u32 bursting, taken, turns;
	int late;
} line;
void line_open(line *l, int keep, u32 waited, u32 end); // keep: what was received before
void line_close(line *l);
void line_send(line *l, u8 byte);
void line_flush(line *l);
int line_receive(line *l);   // a byte, or -1: late
void line_progress(line *l); // what was received is part of the answer

// frame.c
enum { BODY_MOST = 0x20000, REFUSAL = 0xff, ANSWER = 0x80 };
enum { HELLO = 1, GET_VARIABLE, GET_NEXT_VARIABLE_NAME, SET_VARIABLE, QUERY_VARIABLE_INFO, EXIT_BOOT_SERVICES_CALLED, RESET_SYSTEM, CHECK_VARIABLE };
typedef struct {
	const void *data;
	u64 size;
} part;
typedef struct {
	u8 kind, sent_kind; // what came, and what was asked
	u32 sequence;
	u32 fixed_size;     // bytes of the fields that the answer always has
	u8 fixed[32];
	u8 *tail;           // where what follows them goes
	u64 room, tail_size;
	u32 waited;         // ticks since the call began: what they were before the exchange, and then after it
} answer;
void frame_send(line *l, u8 kind, u32 sequence, const part *parts, int count);
int frame_receive(line *l, answer *a); // whether an answer came before it was late

// exchange.c: one request and its answer. The answer's first field is its status.
status exchange(u8 kind, const part *parts, int count, answer *a, int repeatable);
u32 field32(const answer *a, u32 offset);
u64 field64(const answer *a, u32 offset);

// variable.c
status GetVariable(u16 *name, guid *vendor, u32 *attributes, u64 *size, void *data);
status GetNextVariableName(u64 *size, u16 *name, guid *vendor);
status SetVariable(u16 *name, guid *vendor, u32 attributes, u64 size, void *data);
status QueryVariableInfo(u32 attributes, u64 *maximum, u64 *remaining, u64 *largest);

// attributes.c: the memory attributes table (UEFI 2.10, 4.6.4).
int attributes_prepare(void); // takes the memory for the copy
void attributes_replace(void);
