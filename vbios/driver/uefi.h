// What the driver, and the program of internal/ovmf, use of the UEFI 2.10 specification, with the section that defines
// it. Calls into the firmware, and the firmware's calls into the driver, follow the platform's convention (2.3.4),
// which is the compiler's here: its target is x86_64-unknown-windows.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef u64 status; // EFI_STATUS, appendix D

#define ERROR(n) (0x8000000000000000ull | (n))
enum : u64 {
	SUCCESS = 0,
	INVALID_PARAMETER = ERROR(2),
	BUFFER_TOO_SMALL = ERROR(5),
	DEVICE_ERROR = ERROR(7),
	OUT_OF_RESOURCES = ERROR(9),
	NOT_FOUND = ERROR(14),
	ALREADY_STARTED = ERROR(20),
};

typedef struct { // EFI_GUID
	u8 bytes[16];
} guid;

typedef struct { // EFI_TABLE_HEADER, 4.2
	u64 signature;
	u32 revision, size, crc32, reserved;
} table_header;

typedef struct { // EFI_RUNTIME_SERVICES, 4.5
	table_header header;
	void *GetTime, *SetTime, *GetWakeupTime, *SetWakeupTime, *SetVirtualAddressMap;
	status (*ConvertPointer)(u64 disposition, void **address);
	status (*GetVariable)(u16 *name, guid *vendor, u32 *attributes, u64 *size, void *data);
	status (*GetNextVariableName)(u64 *size, u16 *name, guid *vendor);
	status (*SetVariable)(u16 *name, guid *vendor, u32 attributes, u64 size, void *data);
	void *GetNextHighMonotonicCount;
	void (*ResetSystem)(u32 type, status why, u64 size, void *data);
	void *UpdateCapsule, *QueryCapsuleCapabilities;
	status (*QueryVariableInfo)(u32 attributes, u64 *maximum, u64 *remaining, u64 *largest);
} runtime_services;

typedef struct { // EFI_BOOT_SERVICES, 4.4
	table_header header;
	u64 (*RaiseTPL)(u64 level);
	void (*RestoreTPL)(u64 level);
	void *AllocatePages, *FreePages;
	status (*GetMemoryMap)(u64 *size, void *map, u64 *key, u64 *each, u32 *version);
	status (*AllocatePool)(u32 type, u64 size, void **buffer);
	void *FreePool;
	status (*CreateEvent)(u32 type, u64 level, void (*notify)(void *event, void *context), void *context, void **event);
	void *SetTimer, *WaitForEvent, *SignalEvent;
	status (*CloseEvent)(void *event);
	void *CheckEvent;
	status (*InstallProtocolInterface)(void **handle, const guid *protocol, u32 type, void *interface);
	void *others[12];
	status (*ExitBootServices)(void *image, u64 key);
	void *GetNextMonotonicCount, *Stall;
	status (*SetWatchdogTimer)(u64 seconds, u64 code, u64 size, u16 *data);
	void *more[7];
	status (*LocateProtocol)(const guid *protocol, void *registration, void **interface);
} boot_services;

typedef struct { // EFI_CONFIGURATION_TABLE, 4.6
	guid vendor;
	void *table;
} configuration_table;

typedef struct { // EFI_SYSTEM_TABLE, 4.3
	table_header header;
	u16 *firmware_vendor;
	u32 firmware_revision;
	void *console_in_handle, *console_in, *console_out_handle, *console_out, *error_handle, *error;
	runtime_services *runtime;
	boot_services *boot;
	u64 tables_count;
	configuration_table *tables;
} system_table;

enum { TPL_NOTIFY = 16, TPL_HIGH_LEVEL = 31 };        // 7.1
enum { EfiBootServicesData = 4 };                     // 7.2
enum { EfiResetPlatformSpecific = 3 };                // 8.5.1
enum { BOOTSERVICE_ACCESS = 2, RUNTIME_ACCESS = 4 };  // 8.2.1
enum { EXIT_BOOT_SERVICES = 0x201, VIRTUAL_ADDRESS_CHANGE = 0x60000202 }; // 7.1.1
