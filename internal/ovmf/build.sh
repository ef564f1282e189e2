#!/bin/sh
# Makes the program that package ovmf runs: build.sh FILE. Its compiler and linker are those of the thin virtual BIOS.
set -eu
out=$(realpath "${1:?build.sh FILE}")
cd "$(dirname "$0")"
for tool in clang-14 lld-link-14; do
	command -v $tool >/dev/null || { echo "ovmf: $tool is missing; install it with: apt-get install clang-14 lld-14" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Sections lie in the file as in memory, so that it can be started as it is.
clang-14 -target x86_64-unknown-windows -std=c2x -ffreestanding -fshort-wchar -mno-red-zone -mgeneral-regs-only -Os \
	-fno-jump-tables -fno-asynchronous-unwind-tables -fno-stack-protector -Wall -Wextra -Werror -I ../../vbios/driver \
	-c program/calls.c -o "$work/calls.o"
lld-link-14 /subsystem:efi_application /entry:entry /nodefaultlib /timestamp:0 /align:4096 /filealign:4096 /driver \
	"/out:$out" "$work/calls.o"
