#!/bin/sh
# Signs the certificate request on stdin as a company's certificate authority would (BIOSV_CA, BIOSV_CA_KEY:
# its certificate and key, PEM), and writes the chain that InstallCertificateChain takes.
set -eu
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cat >"$dir/request.pem"
cat >"$dir/extensions" <<END
basicConstraints = critical, CA:TRUE, pathlen:0
keyUsage = critical, keyCertSign, cRLSign, digitalSignature
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always
END
openssl x509 -req -in "$dir/request.pem" -CA "$BIOSV_CA" -CAkey "$BIOSV_CA_KEY" -set_serial "0x$(openssl rand -hex 15)" \
	-sha256 -days 30 -extfile "$dir/extensions" -out "$dir/issuing.pem" 2>"$dir/errors" || {
	cat "$dir/errors" >&2
	exit 1
}
cat "$dir/issuing.pem" "$BIOSV_CA"
