#!/bin/sh
# Makes dist/biosv_VERSION_ARCHITECTURE.deb of a program that was built. Nothing is fetched. The same commit gives
# the same bytes.
#
#   scripts/build-deb.sh bin/biosv
#
# DEB_VERSION and SOURCE_DATE_EPOCH say what else comes from git: the version, and the time of everything in it.
set -eu
umask 022
export LC_ALL=C
cd "$(dirname "$0")/.."
program=${1:?which program? make deb names it}

for tool in dpkg-deb gzip; do
	command -v $tool >/dev/null || { echo "build-deb: there is no $tool: install the Debian package ${tool%-deb}" >&2; exit 1; }
done

# A tag v1.2.3 is version 1.2.3, and what comes after it is later; before the first tag everything is earlier than 1.
git_version() {
	dirty=$(git diff --quiet HEAD || echo +dirty)
	if tag=$(git describe --tags --long --match 'v[0-9]*' 2>/dev/null); then
		echo "$tag$dirty" | sed -E 's/^v//; s/-0-g[0-9a-f]+(\+dirty)?$/\1/; s/-([0-9]+)-(g[0-9a-f]+)/+\1.\2/'
	else
		echo "0~$(git rev-list --count HEAD).g$(git rev-parse --short HEAD)$dirty"
	fi
}
version=${DEB_VERSION:-$(git_version)}
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
architecture=$(dpkg --print-architecture)

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"
doc=$stage/usr/share/doc/biosv
put() { install -D -m "$1" "$2" "$stage$3"; } # put MODE FILE PATH

put 755 "$program" /usr/bin/biosv
put 644 packaging/biosv.service /usr/lib/systemd/system/biosv.service
put 644 packaging/machine-users.conf /usr/share/doc/biosv/examples/machine-users.conf
put 644 packaging/debian/default /etc/default/biosv
put 644 packaging/debian/lintian-overrides /usr/share/lintian/overrides/biosv
put 644 LICENSE /usr/share/doc/biosv/LICENSE
for file in README.md $(find docs -type f -name "*.md" | sort); do
	put 644 "$file" "/usr/share/doc/biosv/$file"
done
mkdir -p "$stage/usr/share/bash-completion/completions" "$stage/usr/share/zsh/vendor-completions" "$stage/usr/share/fish/vendor_completions.d" "$stage/usr/share/man/man8"
"$program" completion bash >"$stage/usr/share/bash-completion/completions/biosv"
"$program" completion zsh >"$stage/usr/share/zsh/vendor-completions/_biosv"
"$program" completion fish >"$stage/usr/share/fish/vendor_completions.d/biosv.fish"
gzip -9n <packaging/debian/biosv.8 >"$stage/usr/share/man/man8/biosv.8.gz"
printf 'biosv (%s) unstable; urgency=medium\n\n  * Built from its source as it was then.\n\n -- BIOS.v maintainers <maintainers@biosv.invalid>  %s\n' \
	"$version" "$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >"$doc/changelog.gz"

# The licences of what the program is linked with: the modules that it says it was made of, and Go itself.
cp packaging/debian/copyright.in "$doc/copyright"
licenses() { # licenses NAME VERSION FOLDER
	found=$(find "$3" -maxdepth 1 -type f \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'patents*' \) | sort)
	[ -n "$found" ] || { echo "build-deb: $1 has no licence in $3" >&2; exit 1; }
	for file in $found; do
		put 644 "$file" "/usr/share/doc/biosv/licenses/$1/$(basename "$file")"
	done
	printf '\nFiles: /usr/bin/biosv\nComment: %s %s\nCopyright: its authors\nLicense: see-licenses\n see /usr/share/doc/biosv/licenses/%s\n' "$1" "$2" "$1" >>"$doc/copyright"
}
licenses go "$(go env GOVERSION)" "$(go env GOROOT)"
go version -m "$program" | awk '$1 == "dep" {print $2, $3}' >"$stage/modules"
while read -r module release; do
	licenses "$module" "$release" "$(go list -m -f '{{.Dir}}' "$module")"
done <"$stage/modules"
rm "$stage/modules"

mkdir "$stage/DEBIAN"
sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$(du -sk --apparent-size "$stage/usr" | cut -f1)/" packaging/debian/control.in >"$stage/DEBIAN/control"
echo /etc/default/biosv >"$stage/DEBIAN/conffiles"
(cd "$stage" && find usr -type f | sort | xargs -d '\n' md5sum) >"$stage/DEBIAN/md5sums"
for script in postinst prerm postrm; do
	install -m 755 packaging/debian/$script "$stage/DEBIAN/$script"
done
find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

mkdir -p dist
dpkg-deb --root-owner-group --build "$stage" "dist/biosv_${version}_$architecture.deb"
