#!/bin/sh
# Runs every fuzz target of the tree, one after the other, and says how each ended.
#
#   scripts/fuzz.sh                    all of them, FUZZTIME (10m) each
#   scripts/fuzz.sh ./envelope ...     those of some packages
#
# What each printed stands in .cache/fuzz. An input that breaks something is written below testdata/fuzz of its package,
# where every later `go test` tries it again: mend what it breaks, and commit it.
set -eu
cd "$(dirname "$0")/.."
log=.cache/fuzz
mkdir -p "$log"

if [ $# -eq 0 ]; then
	set -- $(grep -rl --include='*_test.go' '^func Fuzz' --exclude-dir=.cache . | xargs -n 1 dirname | sort -u)
fi
failed=0
for package; do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		out="$log/$(echo "${package#./}" | tr / -).$target.log"
		if go test -run '^$' -fuzz "^$target\$" -fuzztime "${FUZZTIME:-10m}" -fuzzminimizetime 100x "$package" >"$out" 2>&1; then
			echo "ok      $package $target: $(grep -o 'execs: [0-9]*' "$out" | tail -1)"
		else
			failed=1
			echo "FAILED  $package $target: see $out"
		fi
	done
done
exit $failed
