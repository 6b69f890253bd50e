#!/usr/bin/env bash
# Builds the Bento and its image with what there is: docker, podman or buildah.
#   BASE_IMAGE=python:3.11-slim IMAGE=ekiben BUILDER=docker VERSIONS="flight_delay:20261124-172141" deploy/image/build.sh
# EXTRAS=monitor makes the image of a fleet's one monitor, which can also check what was logged.
# The image gets the tags IMAGE:<the Bento's version> and IMAGE:latest. The last line is the first of these.
set -euo pipefail
cd "$(dirname "$0")/../.."

bentoml=${BENTOML:-.venv/bin/bentoml}
image=${IMAGE:-ekiben}
builder=${BUILDER:-}
if [ -z "$builder" ]; then
  for candidate in docker buildah podman; do
    # A docker without its daemon builds nothing.
    if command -v "$candidate" >/dev/null && "$candidate" info >/dev/null 2>&1; then
      builder=$candidate
      break
    fi
  done
fi
[ -n "$builder" ] || { echo "no image can be built here: install docker, podman or buildah" >&2; exit 1; }

arguments=()
[ -z "${BASE_IMAGE:-}" ] || arguments+=(--arg "base_image=$BASE_IMAGE")
[ -z "${VERSIONS:-}" ] || arguments+=(--arg "versions=$VERSIONS")
[ -z "${EXTRAS:-}" ] || arguments+=(--arg "extras=$EXTRAS")
tag=$("$bentoml" build --output tag "${arguments[@]}" | sed -n 's/^__tag__://p')
[ -n "$tag" ] || { echo "bentoml build gave no Bento; run it alone to see why" >&2; exit 1; }
version=${tag#*:}

labels=(--opt "label=org.opencontainers.image.version=$version" --opt "label=org.opencontainers.image.created=$(date -u +%Y-%m-%dT%H:%M:%SZ)")
if revision=$(git rev-parse HEAD 2>/dev/null); then labels+=(--opt "label=org.opencontainers.image.revision=$revision"); fi

options=()
if [ "$builder" != docker ]; then
  options+=(--opt format=docker) # OCI's format has no health check
  if [ "$(id -u)" = 0 ]; then options+=(--opt isolation=chroot --opt network=host); fi
  # Authorities that this machine trusts, for the time of the build.
  authorities=${SSL_CERT_FILE:-}
  if [ -n "$authorities" ]; then options+=(--opt "volume=$(readlink -f "$authorities"):/etc/ssl/certs/ca-certificates.crt:ro"); fi
fi

"$bentoml" containerize "$tag" --backend "$builder" -t "$image:$version" -t "$image:latest" "${labels[@]}" "${options[@]}"
# BentoML reports a failed build and exits 0.
if [ "$builder" = buildah ]; then "$builder" inspect --type image "$image:$version" >/dev/null; else "$builder" image inspect "$image:$version" >/dev/null; fi
echo "$image:$version"
