#!/bin/sh
# Makes the guest that tests start, in .cache/guest at the top of the tree:
#
#   build.sh kernel   Debian's stock kernel, fetched by apt-get download and only unpacked: kernel/vmlinuz, its
#                     modules, and kernel/vmlinux, the same kernel taken out of its compressed shell, which QEMU
#                     starts in 2 s instead of 5
#   build.sh init     init, the static program of testdata/guest/init that is the guest's first process
#   build.sh efibootmgr   Debian's efibootmgr with the libraries that it needs, fetched and unpacked in the same way
#   build.sh root     root.ext4, a Debian of the tools named below, for tests that need other people's programs
#   build.sh          all of them
#
# Each part is made again only when this file changes (init: when Go says so). To take newer packages, remove
# .cache/guest. Nothing is installed on this machine: apt is used as the machine has it set up, and what it fetches
# goes into .cache/guest.
set -eu

# What the root disk has. It is read by tests of doors that guests use, and of the boot chain.
tools="python3 python3-zeep tpm2-tools efibootmgr efivar curl openssl jq ca-certificates"

here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
out=$top/.cache/guest
mkdir -p "$out"

say() { printf 'guest: %s\n' "$*" >&2; }
need() { # need PROGRAM PACKAGE
	command -v "$1" >/dev/null || { say "$1 is missing; install it with: apt-get install $2"; exit 1; }
}

# key PART prints what a part depends on. What stands in this file between the part's function and the next closing
# brace is its recipe.
key() { { sed -n "/^make_$1()/,/^}/p" "$0"; [ "$1" != root ] || echo "$tools"; } | sha256sum | cut -d' ' -f1; }
current() { [ -e "$out/$1.key" ] && [ "$(cat "$out/$1.key")" = "$(key "$1")" ]; }

make_kernel() {
	need dpkg-deb dpkg
	need xz xz-utils
	package=$(apt-cache depends linux-image-amd64 2>/dev/null | awk '$1 == "Depends:" {print $2; exit}')
	[ -n "$package" ] || { say "apt knows no linux-image-amd64; run: apt-get update"; exit 1; }
	say "fetching $package"
	(cd "$work" && apt-get download -qq -o APT::Sandbox::User= "$package")
	mkdir "$work/kernel"
	# Left out is what no virtual machine has.
	dpkg-deb --fsys-tarfile "$work"/*.deb | tar -x -C "$work/kernel" \
		--exclude=./usr --exclude='*/kernel/sound' --exclude='*/drivers/gpu' --exclude='*/drivers/media' \
		--exclude='*/drivers/net/wireless' --exclude='*/drivers/infiniband' --exclude='*/drivers/staging' \
		--exclude='*/drivers/iio'
	dpkg-deb -f "$work"/*.deb Package Version >"$work/kernel/package"
	mv "$work"/kernel/boot/vmlinuz-* "$work/kernel/vmlinuz"
	mv "$work"/kernel/lib/modules/*/kernel "$work/kernel/modules"
	rm -r "$work/kernel/boot" "$work/kernel/lib"
	at=$(LC_ALL=C grep -aobP '\xfd7zXZ\x00' "$work/kernel/vmlinuz" | head -n1 | cut -d: -f1)
	[ -n "$at" ] || { say "$package is not compressed with xz: change make_kernel"; exit 1; }
	tail -c "+$((at + 1))" "$work/kernel/vmlinuz" | xz -dc --single-stream >"$work/kernel/vmlinux"
	rm -rf "$out/kernel"
	mv "$work/kernel" "$out/kernel"
	say "kernel: $(tr '\n' ' ' <"$out/kernel/package")"
}

make_init() {
	need go golang
	(cd "$top" && CGO_ENABLED=0 GOOS=linux go build -trimpath -buildvcs=false -ldflags '-s -w' -o "$work/init" ./testdata/guest/init)
	cmp -s "$work/init" "$out/init" || { mv "$work/init" "$out/init"; say "init: made anew"; }
}

make_efibootmgr() {
	need dpkg-deb dpkg
	packages="efibootmgr $(apt-cache depends efibootmgr 2>/dev/null | awk '$1 == "Depends:" {print $2}' | tr '\n' ' ')"
	[ "$packages" != "efibootmgr " ] || { say "apt knows no efibootmgr; run: apt-get update"; exit 1; }
	say "fetching $packages"
	mkdir "$work/packages" "$work/unpacked" "$work/efibootmgr"
	# shellcheck disable=SC2086 # a list
	(cd "$work/packages" && apt-get download -qq -o APT::Sandbox::User= $packages)
	for p in "$work"/packages/*.deb; do dpkg-deb -x "$p" "$work/unpacked"; done
	# What it is linked with, by the names that its loader looks for.
	find "$work/unpacked" \( -name efibootmgr -path '*bin*' -o -name 'libefi*.so.1' -o -name 'libpopt.so.0' -o -name 'libc.so.6' -o -name 'libdl.so.2' \
		-o -name 'ld-linux-x86-64.so.2' \) -exec cp -L {} "$work/efibootmgr/" \;
	rm -rf "$out/efibootmgr"
	mv "$work/efibootmgr" "$out/efibootmgr"
	say "efibootmgr: $(ls "$out/efibootmgr" | tr '\n' ' ')"
}

make_root() {
	need mmdebstrap mmdebstrap
	need mke2fs e2fsprogs
	as=
	[ "$(id -u)" = 0 ] || { need fakeroot fakeroot; as=fakeroot; }
	# The mirrors and how to reach them are the machine's own.
	apt-config dump Acquire >"$work/apt.conf"
	set --
	for f in /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources; do
		[ -s "$f" ] && set -- "$@" "$f"
	done
	say "making a root disk with: $tools"
	mmdebstrap --quiet --variant=minbase --include="$(echo "$tools" | tr ' ' ,)" --aptopt="$work/apt.conf" \
		--dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
		--dpkgopt='path-exclude=/usr/share/doc/*' --skip=cleanup/reproducible \
		--customize-hook='rm -rf "$1"/var/lib/apt/lists/* "$1"/etc/apt/sources.list* "$1"/etc/apt/apt.conf.d/99mmdebstrap' \
		"$suite" "$work/root.tar" "$@"
	mkdir "$work/root"
	# A root disk is used read-only or through a snapshot: no journal, and little room.
	$as sh -eu -c 'tar -x --numeric-owner -C "$1/root" -f "$1/root.tar" --exclude="./dev/*"
		size=$(du -s --apparent-size -BM "$1/root" | sed "s/M.*//")
		mke2fs -q -t ext4 -O ^has_journal -m 0 -L root -d "$1/root" "$1/root.ext4" "$((size * 5 / 4 + 64))M"' - "$work"
	mv "$work/root.ext4" "$out/root.ext4"
	say "root disk: $(du -m "$out/root.ext4" | cut -f1) MB"
}

need flock util-linux
exec 9>"$out/lock"
flock 9
work=$(mktemp -d "$out/work.XXXXXX")
trap 'rm -rf "$work"' EXIT
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")

for part in ${*:-kernel init efibootmgr root}; do
	case $part in
	init) make_init ;;
	kernel | efibootmgr | root) current "$part" || { rm -f "$out/$part.key"; "make_$part"; key "$part" >"$out/$part.key"; } ;;
	*) say "no part is named $part: kernel, init, efibootmgr, root"; exit 2 ;;
	esac
done
