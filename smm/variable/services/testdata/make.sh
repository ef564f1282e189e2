#!/bin/bash
# Makes vectors/ again, with keys of its own that are thrown away: efitools (cert-to-efi-sig-list,
# cert-to-efi-hash-list, sign-efi-sig-list), sbsigntool (sbvarsign) and openssl. What they made last is checked in, so
# that tests need none of them. sbvarsign takes the time of day for its time stamp; all others are given theirs.
#
# A file *.auth is the data of one SetVariable call: an authentication descriptor and a value. Its name says
# SIGNER-VARIABLE-VALUE-YEAR and what is special about it.
set -euo pipefail
cd "$(dirname "$0")/vectors"
rm -f -- *
keys=$(mktemp -d)
trap 'rm -rf "$keys"' EXIT

owner=77fa9abd-0359-4d32-bd60-28f4e78f784b
vendor=5e3f2d1c-8b7a-4f6e-9d5c-1a2b3c4d5e6f # of the private variables
global=8be4df61-93ca-11d2-aa0d-00e098032b8c
image=d719b2cb-3d3a-4596-a3bc-dad00e67656f
all=nv,bs,rt,at

# Keys: self NAME COMMON-NAME, below ISSUER NAME COMMON-NAME [ca].
self() {
	openssl req -quiet -x509 -newkey "${3:-rsa:2048}" ${3:+-pkeyopt ec_paramgen_curve:P-256} -nodes -sha256 -days 7300 -subj "/CN=$2" \
		-keyout "$keys/$1.key" -out "$keys/$1.crt" 2>/dev/null ||
		openssl req -x509 -newkey "${3:-rsa:2048}" ${3:+-pkeyopt ec_paramgen_curve:P-256} -nodes -sha256 -days 7300 -subj "/CN=$2" \
			-keyout "$keys/$1.key" -out "$keys/$1.crt" 2>/dev/null
}
below() {
	openssl req -newkey rsa:2048 -nodes -subj "/CN=$3" -keyout "$keys/$2.key" -out "$keys/$2.csr" 2>/dev/null
	openssl x509 -req -in "$keys/$2.csr" -CA "$keys/$1.crt" -CAkey "$keys/$1.key" -CAcreateserial -days "${5:-7300}" -sha256 \
		-extfile <(echo "basicConstraints=critical,CA:${4:-FALSE}") -out "$keys/$2.crt" 2>/dev/null
}
self pk "Platform Key"
self pk2 "Second Platform Key"
self kek "Key Exchange Key"
self stranger "Stranger"
self kekca "Key Exchange CA"
below kekca kekmid "Key Exchange Intermediate" TRUE
below kekmid kekleaf "Key Exchange Leaf"
below kekca kekold "Key Exchange Expired" FALSE 0
below kek nonca "Not From A CA"
below kekleaf underleaf "Under A Leaf"
self ec "Elliptic Key" ec
self dbr "Recovery Key"
self db1 "Signer One"
self db2 "Signer Two"
self owner "Variable Owner"
self twin "Variable Owner"
self ownerca "Owner CA"
below ownerca leaf1 "Variable Leaf"
below ownerca leaf2 "Variable Leaf"
below ownerca leaf3 "Other Leaf"

# Values.
for c in pk pk2 kek stranger db1 db2 dbr; do
	cert-to-efi-sig-list -g $owner "$keys/$c.crt" $c.esl
done
cert-to-efi-sig-list -g $owner "$keys/ec.crt" ec.esl
cert-to-efi-sig-list -g $owner "$keys/kekca.crt" kekca.esl
cat kek.esl kekca.esl ec.esl >keks.esl
cat db1.esl db2.esl >db12.esl
cat db2.esl db1.esl >db21.esl
cat pk.esl pk2.esl >pks.esl
cert-to-efi-hash-list -g $owner -s 256 "$keys/db2.crt" dbx1.esl >/dev/null
cert-to-efi-hash-list -g $owner -s 384 "$keys/db1.crt" dbx2.esl >/dev/null
: >empty.bin
printf 'first value' >v1.bin
printf 'second value' >v2.bin
head -c 100 db1.esl >broken.esl

bytes() { printf '%b' "$(sed 's/../\\x&/g' <<<"$1")"; }
le() { # le BYTES NUMBER
	local n=$2 s=
	for ((i = 0; i < $1; i++)); do s+=$(printf %02x $((n & 255))) n=$((n >> 8)); done
	bytes "$s"
}
guid() {
	local g=${1//-/}
	bytes "${g:6:2}${g:4:2}${g:2:2}${g:0:2}${g:10:2}${g:8:2}${g:14:2}${g:12:2}${g:16}"
}
attributes() {
	local n=0
	for a in ${1//,/ }; do
		case $a in nv) ((n |= 1)) ;; bs) ((n |= 2)) ;; rt) ((n |= 4)) ;; at) ((n |= 32)) ;; append) ((n |= 64)) ;; esac
	done
	echo $n
}
stamp() { # of New Year's day; 0 is the time of which every component is 0
	if [ "$1" = 0 ]; then le 16 0; else le 2 "$1"; bytes 0101000000; le 9 0; fi
}
# message NAME GUID ATTRIBUTES YEAR VALUE
message() {
	printf %s "$1" | iconv -t UTF-16LE
	guid "$2"
	le 4 "$(attributes "$3")"
	stamp "$4"
	cat "$5"
}
# wrap OUT YEAR PKCS7 VALUE: puts the descriptor before the value.
wrap() {
	{ stamp "$2"; le 4 $((24 + $(stat -c %s "$3"))); bytes 0002f10e; guid 4aafd29d-68df-49ee-8aa9-347d375665a7; cat "$3" "$4"; } >"$1"
}
# bare FILE: takes the SignedData out of its ContentInfo.
bare() {
	local at
	at=$(openssl asn1parse -inform DER -in "$1" | awk -F: '$2 ~ /d=2/ && /SEQUENCE/ && !at {at = $1} END {print at + 0}')
	openssl asn1parse -inform DER -in "$1" -strparse "$at" -noout -out "$1.bare" && mv "$1.bare" "$1"
}
# sign OUT SIGNER NAME GUID ATTRIBUTES YEAR VALUE [openssl smime options]
sign() {
	local out=$1 signer=$2 name=$3 vendor=$4 attributes=$5 year=$6 value=$7
	shift 7
	message "$name" "$vendor" "$attributes" "$year" "$value" >"$keys/message"
	openssl smime -sign -binary -outform DER -signer "$keys/$signer.crt" -inkey "$keys/$signer.key" \
		-in "$keys/message" -out "$keys/p7" ${form[@]+"${form[@]}"} "$@"
	[ "${how:-bare}" = wrapped ] || bare "$keys/p7"
	wrap "$out" "$year" "$keys/p7" "$value"
}
form=(-noattr -md sha256)

# efi OUT SIGNER NAME YEAR VALUE [-a]: with sign-efi-sig-list.
efi() {
	local g=$global
	case $3 in db | dbx | dbt | dbr) g=$image ;; esac
	sign-efi-sig-list ${6:-} -t "$4-01-01 00:00:00" -g $g -c "$keys/$2.crt" -k "$keys/$2.key" "$3" "$5" "$1" >/dev/null
}
export TZ=UTC

# Secure boot keys, by efitools.
for year in 2020 2022; do
	efi pk-PK-pk-$year.auth pk PK $year pk.esl
	efi pk-PK-pk2-$year.auth pk PK $year pk2.esl
	efi pk-KEK-keks-$year.auth pk KEK $year keks.esl
	efi kek-db-db1-$year.auth kek db $year db1.esl
	efi kek-db-db2-$year.auth kek db $year db2.esl
done
efi pk2-PK-pk2-2022.auth pk2 PK 2022 pk2.esl
efi pk-PK-empty-2022.auth pk PK 2022 empty.bin
efi kek-PK-empty-2022.auth kek PK 2022 empty.bin
efi pk-PK-pks-2022.auth pk PK 2022 pks.esl
efi pk-PK-dbx1-2022.auth pk PK 2022 dbx1.esl
efi pk-PK-pk2-2022-append.auth pk PK 2022 pk2.esl -a
efi kek-KEK-keks-2022.auth kek KEK 2022 keks.esl
efi pk-KEK-empty-2022.auth pk KEK 2022 empty.bin
efi pk-KEK-kek-2022.auth pk KEK 2022 kek.esl
efi pk-KEK-keks-2022-append.auth pk KEK 2022 keks.esl -a
efi pk-KEK-stranger-2022-append.auth pk KEK 2022 stranger.esl -a
efi pk-db-db2-2022.auth pk db 2022 db2.esl
efi stranger-db-db2-2022.auth stranger db 2022 db2.esl
efi stranger-PK-pk2-2022.auth stranger PK 2022 pk2.esl
efi stranger-KEK-stranger-2022.auth stranger KEK 2022 stranger.esl
efi kek-db-db2-2019.auth kek db 2019 db2.esl
efi kek-db-db2-2019-append.auth kek db 2019 db2.esl -a
efi kek-db-db2-2022-append.auth kek db 2022 db2.esl -a
efi kek-db-db12-2022-append.auth kek db 2022 db12.esl -a
efi kek-db-db1-2022-append.auth kek db 2022 db1.esl -a
efi kek-db-db1-2021.auth kek db 2021 db1.esl
efi kek-db-empty-2022.auth kek db 2022 empty.bin
efi kek-db-empty-2022-append.auth kek db 2022 empty.bin -a
efi kek-db-broken-2022.auth kek db 2022 broken.esl
efi kek-dbx-dbx1-2022.auth kek dbx 2022 dbx1.esl
efi kek-dbx-dbx2-2023-append.auth kek dbx 2023 dbx2.esl -a
efi kek-dbt-db1-2022.auth kek dbt 2022 db1.esl
efi kek-dbr-dbr-2022.auth kek dbr 2022 dbr.esl
efi stranger-dbx-dbx1-2022.auth stranger dbx 2022 dbx1.esl

# The same by sbvarsign, whose time is when this script ran.
sb() { # sb OUT SIGNER NAME GUID VALUE ATTRIBUTES
	sbvarsign --key "$keys/$2.key" --cert "$keys/$2.crt" --guid "$4" --attr "$6" --output "$1" "$3" "$5" >/dev/null
}
rw=NON_VOLATILE,BOOTSERVICE_ACCESS,RUNTIME_ACCESS
sb sbvarsign-kek-db-db2.auth kek db $image db2.esl $rw
sb sbvarsign-kek-db-db2-append.auth kek db $image db2.esl $rw,APPEND_WRITE
sb sbvarsign-pk-KEK-kek.auth pk KEK $global kek.esl $rw
sb sbvarsign-stranger-db-db2.auth stranger db $image db2.esl $rw
sb sbvarsign-owner-Private-v1.auth owner Private $vendor v1.bin $rw

# Forms of PKCS #7, by openssl.
how=wrapped
sign kek-db-db2-2022-wrapped.auth kek db $image $all 2022 db2.esl
how=bare
for md in sha1 sha224 sha384 sha512; do
	form=(-noattr -md $md)
	sign kek-db-db2-2022-$md.auth kek db $image $all 2022 db2.esl
done
how=wrapped
sign kek-db-db2-2022-sha512-wrapped.auth kek db $image $all 2022 db2.esl
how=bare
form=(-md sha256)
sign kek-db-db2-2022-signedattributes.auth kek db $image $all 2022 db2.esl
form=(-noattr -md sha256 -nodetach)
sign kek-db-db2-2022-embedded.auth kek db $image $all 2022 db2.esl
form=(-noattr -md sha256 -nocerts)
sign kek-db-db2-2022-nocerts.auth kek db $image $all 2022 db2.esl
form=(-noattr -md sha256)
sign ec-db-db2-2022.auth ec db $image $all 2022 db2.esl
sign kek-db-db2-2022-twosigners.auth kek db $image $all 2022 db2.esl -signer "$keys/pk.crt" -inkey "$keys/pk.key"
cat "$keys/kekmid.crt" "$keys/kekca.crt" >"$keys/chain.pem"
sign kekleaf-db-db2-2022-chain.auth kekleaf db $image $all 2022 db2.esl -certfile "$keys/chain.pem"
sign kekleaf-db-db2-2022-mid.auth kekleaf db $image $all 2022 db2.esl -certfile "$keys/kekmid.crt"
sign kekleaf-db-db2-2022-nochain.auth kekleaf db $image $all 2022 db2.esl
sign kekold-db-db2-2022.auth kekold db $image $all 2022 db2.esl
cat "$keys/kekleaf.crt" "$keys/kekmid.crt" "$keys/kekca.crt" >"$keys/chain.pem"
sign underleaf-db-db2-2022.auth underleaf db $image $all 2022 db2.esl -certfile "$keys/chain.pem"
sign kekleaf-KEK-kek-2022.auth kekleaf KEK $global $all 2022 kek.esl -certfile "$keys/kekmid.crt"
sign kek-dbx-as-db-2022.auth kek dbx $image $all 2022 db2.esl
sign kek-db-global-2022.auth kek db $global $all 2022 db2.esl
sign kek-db-rtless-2022.auth kek db $image nv,bs,at 2022 db2.esl
sign kek-db-db2-0-append.auth kek db $image $all,append 0 db2.esl

# Recovery variables.
printf '\001\002\003\004\005\006\007\010\011\012\013\014\015\016\017\020' >order.bin
sign dbr-OsRecoveryOrder-2022.auth dbr OsRecoveryOrder $global $all 2022 order.bin
sign kek-OsRecoveryOrder-2022.auth kek OsRecoveryOrder $global $all 2022 order.bin
sign pk-OsRecoveryOrder-2022.auth pk OsRecoveryOrder $global $all 2022 order.bin
sign stranger-OsRecoveryOrder-2022.auth stranger OsRecoveryOrder $global $all 2022 order.bin
sign dbr-OsRecovery0001-2022.auth dbr OsRecovery0001 $vendor $all 2022 v1.bin

# Private authenticated variables.
private() { # private OUT SIGNER YEAR VALUE [ATTRIBUTES [options]]
	local out=$1 signer=$2 year=$3 value=$4 attributes=${5:-$all}
	shift $(($# > 5 ? 5 : $#))
	sign "$out" "$signer" Private $vendor "$attributes" "$year" "$value" "$@"
}
private owner-Private-v1-2021.auth owner 2021 v1.bin
private owner-Private-v2-2022.auth owner 2022 v2.bin
private owner-Private-v2-2022-append.auth owner 2022 v2.bin $all,append
private owner-Private-v2-2020-append.auth owner 2020 v2.bin $all,append
private owner-Private-v2-2020.auth owner 2020 v2.bin
private owner-Private-empty-2022.auth owner 2022 empty.bin
private owner-Private-empty-2022-append.auth owner 2022 empty.bin $all,append
private owner-Private-v2-2022-bs.auth owner 2022 v2.bin nv,bs,at
private owner-Private-v1-2021-volatile.auth owner 2021 v1.bin bs,rt,at
private stranger-Private-v2-2022.auth stranger 2022 v2.bin
private stranger-Private-empty-2022.auth stranger 2022 empty.bin
private twin-Private-v2-2022.auth twin 2022 v2.bin
private leaf1-Private-v1-2021.auth leaf1 2021 v1.bin $all -certfile "$keys/ownerca.crt"
private leaf2-Private-v2-2022.auth leaf2 2022 v2.bin $all -certfile "$keys/ownerca.crt"
private leaf2-Private-v2-2022-nochain.auth leaf2 2022 v2.bin
private leaf3-Private-v2-2022.auth leaf3 2022 v2.bin $all -certfile "$keys/ownerca.crt"
how=wrapped
private owner-Private-v2-2022-wrapped.auth owner 2022 v2.bin

# What setup mode takes, where no signature counts.
: >"$keys/nothing"
wrap unsigned-PK-pk-2021.auth 2021 "$keys/nothing" pk.esl
wrap unsigned-KEK-keks-2021.auth 2021 "$keys/nothing" keks.esl
wrap unsigned-db-db1-2021.auth 2021 "$keys/nothing" db1.esl
wrap unsigned-db-db1-2020.auth 2020 "$keys/nothing" db1.esl
wrap unsigned-db-broken-2021.auth 2021 "$keys/nothing" broken.esl
wrap unsigned-db-empty-2021.auth 2021 "$keys/nothing" empty.bin
printf '\060\003\002\001\001' >"$keys/garbage"
wrap garbage-db-db1-2021.auth 2021 "$keys/garbage" db1.esl
