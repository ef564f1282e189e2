// The UART is also known to the operating system's own serial driver. So it is set up anew for each exchange, without
// interrupts, or that driver would take the answer; and it is given back as it was.
#include "port.h"
#include "vbios.h"

// Registers and values of the 16550A.
enum { PORT = 0x3e8, DATA = PORT, IER = PORT + 1, FCR = PORT + 2, LCR = PORT + 3, MCR = PORT + 4, LSR = PORT + 5 };
enum {
	EIGHT_BITS = 3,
	READY = 3,        // DTR and RTS
	FIFO = 0xc1,      // on; it takes 14 bytes at a time
	FIFO_CLEAR = 0x06,
	CAN_RECEIVE = 0x01,
	CAN_SEND = 0x20,
	OFTEN = 16,       // times that bytes may come or go between two looks at the timer
};

void line_open(line *l, int keep, u32 waited, u32 end) {
	l->lcr = in8(LCR);
	out8(LCR, EIGHT_BITS); // first, because it says what IER's address means
	l->ier = in8(IER);
	out8(IER, 0);
	l->mcr = in8(MCR);
	out8(MCR, READY);
	out8(FCR, keep ? FIFO : FIFO | FIFO_CLEAR);
	l->until = l->end = end;
	l->bursting = 0;
	l->taken = sizeof l->came;
	l->turns = 0;
	l->late = 0;
	watch_start(&l->watch, waited);
}

void line_close(line *l) {
	out8(MCR, l->mcr);
	out8(IER, l->ier);
	out8(LCR, l->lcr);
}

// wait_for tells whether the line can do what is wanted, in time. Somebody in the guest may have asked much and read
// nothing: then the other side takes nothing more before its answers are read. They are nobody's, and are dropped.
static int wait_for(line *l, u8 what) {
	for (;;) {
		u8 can = in8(LSR);
		if (can & what)
			return 1;
		if (can & CAN_RECEIVE)
			in8s(DATA, l->came, sizeof l->came);
		if (l->late || watch_past(&l->watch, l->until))
			return !(l->late = 1);
	}
}

// An empty transmitter takes as many bytes as its FIFO has. A long request is sent for no longer than is waited.
void line_flush(line *l) {
	if (++l->turns % OFTEN == 0 && watch_past(&l->watch, l->until))
		l->late = 1;
	if (!l->late && wait_for(l, CAN_SEND))
		out8s(DATA, l->burst, l->bursting);
	l->bursting = 0;
}

void line_send(line *l, u8 byte) {
	l->burst[l->bursting++] = byte;
	if (l->bursting == sizeof l->burst)
		line_flush(l);
}

// A host that has much to do hands over a few bytes at a time. While they are those of the answer, the wait begins
// anew, but not for ever.
void line_progress(line *l) {
	l->end = earlier(l->watch.elapsed + WAIT, LONGEST);
	l->until = earlier(l->watch.elapsed + AGAIN, l->end);
}

// The receiver says that it has something, and not how much. So as much is taken as it can have: an empty one gives
// zeros, and a zero is never sent. For the host, that is one access instead of two for every byte.
int line_receive(line *l) {
	for (;;) {
		for (; l->taken < sizeof l->came; l->taken++)
			if (l->came[l->taken] != 0)
				return l->came[l->taken++];
		// What never stops coming does not keep the guest either.
		if (++l->turns % OFTEN == 0 && watch_past(&l->watch, l->until))
			l->late = 1;
		if (l->late || !wait_for(l, CAN_RECEIVE))
			return -1;
		in8s(DATA, l->came, sizeof l->came);
		l->taken = 0;
	}
}
