#include "textflag.h"

// func outs(port uint16, b []byte)
TEXT ·outs(SB), NOSPLIT, $0-32
	MOVW port+0(FP), DX
	MOVQ b_base+8(FP), SI
	MOVQ b_len+16(FP), CX
	CLD
	REP; OUTSB
	RET
