#!/bin/sh
# Runs a program of Mono with the roots that BIOSV_ROOTS names, in a home of its own, and with the client's
# certificate and key as one PKCS #12 file, which is how .NET takes them.
#
#   run.sh PROGRAM.exe
set -eu
home=$(mktemp -d)
trap 'rm -rf "$home"' EXIT
export HOME="$home" XDG_CONFIG_HOME="$home/.config" BIOSV_PKCS12="$home/client.p12"
cert-sync --quiet --user "$BIOSV_ROOTS"
openssl pkcs12 -export -in "$BIOSV_CERT" -inkey "$BIOSV_KEY" -out "$BIOSV_PKCS12" -passout pass:interop \
	-certpbe PBE-SHA1-3DES -keypbe PBE-SHA1-3DES -macalg sha1
mono "$1"
