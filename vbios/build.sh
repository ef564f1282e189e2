#!/bin/sh
# Makes the option ROM: build.sh FILE. The same sources give the same bytes everywhere, with the compiler and linker
# named here. OPTIMIZE=-O2 makes one that does the same by other code, as another version would.
set -eu
out=$(realpath "${1:?build.sh FILE}")
cd "$(dirname "$0")"
for tool in clang-14 lld-link-14; do
	command -v $tool >/dev/null || { echo "vbios: $tool is missing; install it with: apt-get install clang-14 lld-14" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# No code may need the processor's vector registers, relocations, unwind tables or a runtime library.
for source in driver/*.c; do
	clang-14 -target x86_64-unknown-windows -std=c2x -ffreestanding -fshort-wchar -mno-red-zone -mgeneral-regs-only "${OPTIMIZE:--Oz}" \
		-fno-jump-tables -fno-asynchronous-unwind-tables -fno-stack-protector -Wall -Wextra -Werror \
		-c "$source" -o "$work/$(basename "$source" .c).o"
done
lld-link-14 /subsystem:efi_runtime_driver /entry:start /nodefaultlib /timestamp:0 "/out:$work/vbios.efi" "$work"/*.o
"${GO:-go}" run ./rom "$work/vbios.efi" "$work/vbios.rom"
mv "$work/vbios.rom" "$out"
