// An EFI program that stands for an operating system: it says on the console which disk it came from (NAME), what its
// variable Own holds and what BootOrder is, and then does what its variable Action says, which it reads again and again:
//
//	F   makes itself at home: writes Own, and a boot entry of its own that comes first; then turns the machine off
//	R   asks for a cold reset, after which it is to do O
//	O   turns the machine off
//
// Structures and numbers are those of UEFI 2.10: 4.3 (system table), 7 (boot services), 8 (runtime services).

typedef unsigned char UINT8;
typedef unsigned short UINT16, CHAR16;
typedef unsigned int UINT32;
typedef unsigned long long UINT64, UINTN;
#define EFIAPI __attribute__((ms_abi))

typedef struct {
	UINT32 a;
	UINT16 b, c;
	UINT8 d[8];
} EFI_GUID;

typedef struct {
	UINT8 header[24];
	void *time[4], *memory[2];
	UINT64(EFIAPI *GetVariable)(const CHAR16 *name, const EFI_GUID *vendor, UINT32 *attributes, UINTN *size, void *data);
	void *GetNextVariableName;
	UINT64(EFIAPI *SetVariable)(const CHAR16 *name, const EFI_GUID *vendor, UINT32 attributes, UINTN size, const void *data);
	void *GetNextHighMonotonicCount;
	void(EFIAPI *ResetSystem)(UINT32 type, UINT64 status, UINTN size, void *data);
} RUNTIME;

typedef struct {
	UINT8 header[24];
	void *others[28];
	UINT64(EFIAPI *Stall)(UINTN microseconds);
	UINT64(EFIAPI *SetWatchdogTimer)(UINTN seconds, UINT64 code, UINTN size, CHAR16 *data);
} BOOT;

typedef struct CONSOLE {
	void *Reset;
	UINT64(EFIAPI *OutputString)(struct CONSOLE *, const CHAR16 *);
} CONSOLE;

typedef struct {
	UINT8 header[24];
	void *vendor;
	UINT64 revision; // of 32 bits
	void *in[3];
	CONSOLE *out;
	void *err[2];
	RUNTIME *runtime;
	BOOT *boot;
} SYSTEM;

static const EFI_GUID global = {0x8be4df61, 0x93ca, 0x11d2, {0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}};
static const EFI_GUID own = {0x5e0ad1f4, 0x7c52, 0x4b3c, {0x9d, 0x0c, 0x2f, 0x6a, 0x1f, 0x7b, 0x8c, 0x11}};
enum { EVERYWHERE = 7, COLD = 0, SHUTDOWN = 2, ENTRY = 0x42 };

static SYSTEM *system;
static UINT8 buffer[4096];

static void say(const CHAR16 *text) { system->out->OutputString(system->out, text); }

static void number(UINT16 n) {
	CHAR16 text[] = L" 0000";
	for (int i = 0; i < 4; i++)
		text[4 - i] = L"0123456789ABCDEF"[n >> 4 * i & 15];
	say(text);
}

// get gives how many bytes a variable has, which are in buffer then.
static UINTN get(const CHAR16 *name, const EFI_GUID *vendor) {
	UINTN size = sizeof buffer;
	return system->runtime->GetVariable(name, vendor, 0, &size, buffer) ? 0 : size;
}

static void set(const CHAR16 *name, const EFI_GUID *vendor, UINTN size, const void *data) {
	if (system->runtime->SetVariable(name, vendor, EVERYWHERE, size, data))
		say(L"GUEST cannot write\r\n");
}

static void settle(void) {
	set(L"Own", &own, 4, "mine");
	if (get(L"BootCurrent", &global) != 2)
		return;
	CHAR16 name[] = L"Boot0000";
	for (int i = 0; i < 4; i++)
		name[7 - i] = L"0123456789ABCDEF"[*(UINT16 *)buffer >> 4 * i & 15];
	UINTN size = get(name, &global);
	set(L"Boot0042", &global, size, buffer);
	UINTN more = get(L"BootOrder", &global);
	for (UINTN i = more; i-- > 0;)
		buffer[i + 2] = buffer[i];
	buffer[0] = ENTRY, buffer[1] = 0;
	set(L"BootOrder", &global, more + 2, buffer);
}

UINT64 EFIAPI start(void *image, SYSTEM *table) {
	(void)image;
	system = table;
	system->boot->SetWatchdogTimer(0, 0, 0, 0);
	say(L"GUEST " NAME L" own=");
	UINTN size = get(L"Own", &own);
	for (UINTN i = 0; i < size; i++)
		say((CHAR16[]){buffer[i], 0});
	say(L" order=");
	size = get(L"BootOrder", &global);
	for (UINTN i = 0; i + 1 < size; i += 2)
		number(buffer[i] | buffer[i + 1] << 8);
	say(L" .\r\n");
	for (;; system->boot->Stall(100000)) {
		switch (get(L"Action", &own) ? buffer[0] : 'F') {
		case 'F':
			settle();
			break;
		case 'R':
			set(L"Action", &own, 1, "O");
			system->runtime->ResetSystem(COLD, 0, 0, 0);
			continue;
		case 'O':
			break;
		default:
			continue;
		}
		system->runtime->ResetSystem(SHUTDOWN, 0, 0, 0);
	}
}
