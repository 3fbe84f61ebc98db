#!/usr/bin/env bash
# Builds millrace-jobs, millrace-platform and millrace-serving, tagged <version>; `make images` calls it with the
# environment's python. DEVICE=cuda builds the first two for GPUs, tagged <version>-cuda. Other arguments of the build:
# PYTHON_IMAGE, TORCH_INDEX; names of images after the python build these alone.
set -euo pipefail
cd "$(dirname "$0")/../.."
read -r version contract digest < <("${1:-python3}" -c '
from millrace import __version__
from millrace.contract import CONTRACT_VERSION, code_digest
print(__version__, CONTRACT_VERSION, code_digest())')
device=${DEVICE:-cpu}
options=(--network=host --file include/images/Dockerfile --build-arg "DEVICE=$device" --build-arg "VERSION=$version"
  --build-arg "CONTRACT=$contract" --build-arg "CODE_DIGEST=$digest")
for name in PYTHON_IMAGE TORCH_INDEX; do
  if [ -n "${!name:-}" ]; then options+=(--build-arg "$name=${!name}"); fi
done
# A machine whose connections pass through a proxy of its own hands over the certificates it trusts.
ca=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
if [ -f "$ca" ]; then options+=(--secret "id=ca,src=$ca"); fi
images=("${@:2}")
if [ ${#images[@]} -eq 0 ]; then images=(jobs platform serving); fi
for image in "${images[@]}"; do
  if [ "$image" = serving ]; then device=cpu; fi
  tag=millrace-$image:$version$([ "$device" = cpu ] || echo "-$device")
  DOCKER_BUILDKIT=1 docker build --quiet "${options[@]}" --target "$image" --tag "$tag" . >/dev/null
  docker image inspect --format "$tag {{.Size}}" "$tag" | awk '{printf "%s: %.2f GB\n", $1, $2 / 1e9}'
done
