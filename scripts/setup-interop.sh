#!/bin/sh
# Puts in place what the SOAP clients of testdata/interop need, says what it does, and does nothing when it is
# there already.
#
#   scripts/setup-interop.sh          for zeep, gSOAP, node-soap and JAX-WS
#   scripts/setup-interop.sh all      for suds, PHP, CXF and .NET (Mono) too
#
# Tools come as Debian packages (as root, or with sudo), libraries of Python, Node.js and Java from their own
# package managers, in the versions that testdata/interop pins, into .cache/interop.
set -eu
cd "$(dirname "$0")/.."

clients=testdata/interop
cache="$PWD/.cache/interop"
which=${1:-core}
mkdir -p "$cache"

# need PACKAGE TEST...: the package is missing when the test fails.
missing=
need() {
	package=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $package"
}
have() { command -v "$1"; }

need gsoap have wsdl2h
need libgsoap-dev test -e /usr/include/stdsoap2.h
need libssl-dev test -e /usr/include/openssl/ssl.h
need g++ have g++
need pkg-config have pkg-config
need default-jdk-headless have javac
need maven have mvn
need nodejs have node
need npm have npm
need libxml2-utils have xmllint
need openssl have openssl
need python3-venv python3 -c 'import venv, ensurepip'
if [ "$which" = all ]; then
	need php-cli have php
	need php-soap php -r 'exit(extension_loaded("soap") ? 0 : 1);'
	need php-xml php -r 'exit(extension_loaded("dom") ? 0 : 1);'
	need mono-mcs have mcs
	need mono-devel have cert-sync
fi
if [ -n "$missing" ]; then
	echo "setup-interop: Debian packages:$missing"
	sudo=
	[ "$(id -u)" = 0 ] || sudo=sudo
	$sudo apt-get update -q
	# shellcheck disable=SC2086 # a list
	DEBIAN_FRONTEND=noninteractive $sudo apt-get install -q -y --no-install-recommends $missing
fi

# made NAME FILE...: what .cache/interop/NAME was made from is what these files hold now.
sum() { cat "$@" | sha256sum | cut -d' ' -f1; }
made() {
	name=$1
	shift
	[ "$(cat "$cache/$name/made-from" 2>/dev/null)" = "$(sum "$@")" ]
}
# begin NAME WHAT: empties the place. finish NAME FILE...: marks it as made.
begin() {
	echo "setup-interop: $2, into .cache/interop/$1"
	rm -rf "${cache:?}/$1"
	mkdir -p "$cache/$1"
}
finish() {
	name=$1
	shift
	sum "$@" >"$cache/$name/made-from"
}

if ! made python $clients/python/requirements.txt; then
	begin python "zeep and suds-community from the Python package index"
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
if [ "$which" = all ]; then
	java_libraries cxf "Apache CXF"
fi
