#!/usr/bin/env bash
# Makes a base image from Debian's packages, for a machine that reaches those and no image registry:
#   deploy/image/base.sh localhost/ekiben-base:bookworm
# Needs root, mmdebstrap and podman. Elsewhere python:3.11-slim is the base, and this is not needed.
set -euo pipefail

image=${1:?the name of the image to make}
suite=bookworm # its Python is 3.11
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The sources this machine itself uses, mirrors and all.
sources=()
for file in /etc/apt/sources.list.d/*.sources /etc/apt/sources.list; do
  if [ -s "$file" ] && grep -q "$suite" "$file"; then sources+=("$file"); fi
done
[ ${#sources[@]} -gt 0 ] || { echo "no apt source of Debian $suite is configured here; make the base image on a machine that has one" >&2; exit 1; }

# pip, which BentoML's build asks for: its package in Debian brings more than it.
mkdir -p "$work/pip/usr/local/lib/python3.11/dist-packages" "$work/pip/usr/local/bin"
"${PYTHON:-python3}" -m pip install --quiet --root-user-action=ignore --disable-pip-version-check --no-compile \
  --target "$work/pip/usr/local/lib/python3.11/dist-packages" pip
rm -rf "$work/pip/usr/local/lib/python3.11/dist-packages/bin"
printf '#!/bin/sh\nexec python3 -m pip "$@"\n' >"$work/pip/usr/local/bin/pip"
chmod 755 "$work/pip/usr/local/bin/pip"
tar --create --file "$work/pip.tar" --directory "$work/pip" --owner=0 --group=0 usr

# usr-is-merged in place of usrmerge, which would bring Perl: 50 MB.
mmdebstrap --quiet --variant=minbase --include=usr-is-merged,python3,python3-distutils,ca-certificates \
  --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
  --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
  --customize-hook='rm -f "$1"/usr/lib/python3*/EXTERNALLY-MANAGED' --customize-hook="tar-in $work/pip.tar /" \
  "$suite" "$work/base.tar" "${sources[@]}" 2>"$work/log" || { cat "$work/log" >&2; exit 1; }

podman import --quiet -c 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' -c 'CMD ["bash"]' "$work/base.tar" "$image" >/dev/null
echo "$image"
