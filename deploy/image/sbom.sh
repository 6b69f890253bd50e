#!/usr/bin/env bash
# Lists what is in an image, as CycloneDX 1.6 JSON: deploy/image/sbom.sh IMAGE sbom.json
# Python packages as cyclonedx-py finds them in the image's environment, Debian's packages, and the models.
set -euo pipefail
cd "$(dirname "$0")/../.."

image=${1:?the image} file=${2:?the file to write}
tools=${TOOLS:-.tools}/bin
runner=${RUNNER:-}
if [ -z "$runner" ]; then
  runner=podman
  if command -v docker >/dev/null && docker info >/dev/null 2>&1; then runner=docker; fi
fi
work=$(mktemp -d)
container=$("$runner" create "$image")
trap 'rm -rf "$work"; "$runner" rm "$container" >/dev/null' EXIT

# cyclonedx-py asks an interpreter where its packages are: one of this machine, on the image's packages.
"$tools/python" -m venv --without-pip "$work/env"
"$runner" cp "$container:/app/.venv/lib/python3.11/site-packages/." "$work/packages"
packages=$(echo "$work"/env/lib/python3*/site-packages)
rm -rf "$packages" && mv "$work/packages" "$packages"
"$tools/cyclonedx-py" environment --output-format JSON --spec-version 1.6 --output-reproducible --output-file "$work/python.json" "$work/env"

"$runner" cp "$container:/var/lib/dpkg/status" "$work/dpkg-status"
"$runner" cp "$container:/home/bentoml/bento/bento.yaml" "$work/bento.yaml"
"$tools/python" deploy/image/sbom.py "$image" "$work/python.json" "$work/dpkg-status" "$work/bento.yaml" "$file"
