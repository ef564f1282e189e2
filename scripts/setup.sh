#!/bin/sh
# Puts in place what the targets of the Makefile need, says what it does, and does nothing when it is there already.
#
#   scripts/setup.sh run       what the service itself needs: QEMU with its firmware, and a software TPM where the host
#                              has no other
#   scripts/setup.sh check     and what the unit tests need
#   scripts/setup.sh test      and TPM tools, what signs EFI programs and makes disks of them, virt-firmware, zeep,
#                              gSOAP, node-soap and JAX-WS
#   scripts/setup.sh interop   and suds, PHP, CXF and .NET (Mono), and what makes the guest's root disk
#
# Tools come as Debian packages (as root, or with sudo), libraries of Python, Node.js and Java from their own
# package managers, in the versions that testdata/interop pins, into .cache/interop.
set -eu
cd "$(dirname "$0")/.."

clients=testdata/interop
cache="$PWD/.cache/interop"
case ${1:-test} in
run) level=1 ;;
check) level=2 ;;
test) level=3 ;;
interop) level=4 ;;
*)
	echo "setup: $1: use run, check, test or interop" >&2
	exit 2
	;;
esac

missing=
need() {
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}
have() { command -v "$1"; }

if [ ! -w /dev/tpmrm0 ] || [ $level -gt 1 ]; then
	need swtpm have swtpm
	need swtpm-tools have swtpm_setup
fi
need qemu-system-x86 have qemu-system-x86_64
need ovmf test -e /usr/share/OVMF/OVMF_CODE_4M.fd
if [ $level -ge 2 ]; then
	need libxml2-utils have xmllint
	need openssl have openssl
fi
if [ $level -ge 3 ]; then
	need qemu-utils have qemu-img
	need clang-14 have clang-14
	need lld-14 have lld-link-14
	need efitools have sign-efi-sig-list
	need sbsigntool have sbsign
	need dosfstools test -x /usr/sbin/mkfs.vfat
	need mtools have mcopy
	need libvirt-daemon-system test -x /usr/sbin/libvirtd
	need libvirt-clients have virsh
	need tpm2-tools have tpm2_readpublic
	need e2fsprogs test -x /usr/sbin/debugfs
	need xz-utils have xz
	need gsoap have wsdl2h
	need libgsoap-dev test -e /usr/include/stdsoap2.h
	need libssl-dev test -e /usr/include/openssl/ssl.h
	need g++ have g++
	need pkg-config have pkg-config
	need default-jdk-headless have javac
	need maven have mvn
	need nodejs have node
	need npm have npm
	need python3-venv python3 -c 'import venv, ensurepip'
fi
if [ $level -ge 4 ]; then
	need mmdebstrap have mmdebstrap
	need php-cli have php
	need php-soap php -r 'exit(extension_loaded("soap") ? 0 : 1);'
	need php-xml php -r 'exit(extension_loaded("dom") ? 0 : 1);'
	need mono-mcs have mcs
	need mono-devel have cert-sync
fi
if [ -n "$missing" ]; then
	echo "setup: Debian packages:$missing"
	sudo=
	[ "$(id -u)" = 0 ] || sudo=sudo
	$sudo apt-get update -q
	# shellcheck disable=SC2086 # a list
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -q -y --no-install-recommends $missing
fi

[ $level -ge 3 ] || exit 0
mkdir -p "$cache"

# made NAME FILE...: what .cache/interop/NAME was made from is what these files hold now.
sum() { cat "$@" | sha256sum | cut -d' ' -f1; }
made() {
	name=$1
	shift
	[ "$(cat "$cache/$name/made-from" 2>/dev/null)" = "$(sum "$@")" ]
}
# begin NAME WHAT: empties the place. finish NAME FILE...: marks it as made.
begin() {
	echo "setup: $2, into .cache/interop/$1"
	rm -rf "${cache:?}/$1"
	mkdir -p "$cache/$1"
}
finish() {
	name=$1
	shift
	sum "$@" >"$cache/$name/made-from"
}

if ! made python $clients/python/requirements.txt; then
	begin python "zeep, suds-community and virt-firmware from the Python package index"
	python3 -m venv "$cache/python"
	"$cache/python/bin/pip" install -q --disable-pip-version-check --cache-dir "$cache/pip" -r $clients/python/requirements.txt
	finish python $clients/python/requirements.txt
fi

if ! made node $clients/node/package.json $clients/node/package-lock.json; then
	begin node "node-soap from the npm registry"
	cp $clients/node/package.json $clients/node/package-lock.json "$cache/node/"
	(cd "$cache/node" && npm ci --no-audit --no-fund --ignore-scripts --cache "$cache/npm" --loglevel error)
	finish node $clients/node/package.json $clients/node/package-lock.json
fi

java_libraries() {
	made "$1" "$clients/$1/pom.xml" && return
	begin "$1" "$2 from the Maven repository"
	mvn -q -B -f "$clients/$1/pom.xml" -Dmaven.repo.local="$cache/m2" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$cache/$1/jars"
	finish "$1" "$clients/$1/pom.xml"
}
java_libraries jaxws "the JAX-WS reference implementation"
if [ $level -ge 4 ]; then
	java_libraries cxf "Apache CXF"
fi
