#!/bin/sh
# Installs the lock's torch into /opt/millrace where another index than the machine's own has the build that is wanted.
# $1: an index of torch builds, or nothing. Runs in the images' build.
set -eu
. /build/common.sh
torch=$(sed -n 's/^\(torch==[^ ]*\).*/\1/p' requirements.lock)
# Other builds of a version have other bytes than the lock's: their index answers for them.
get() { uv pip install --quiet --python "$python" --no-deps --no-verify-hashes "$@" "$torch"; }
if [ -n "$1" ]; then
  get --index-url "$1"
elif [ "$DEVICE" = cpu ]; then
  get --torch-backend cpu || echo "torch: no index of CPU builds can be reached; taking the machine's own build" >&2
fi
