#!/bin/sh
# Installs what millrace needs with the extras "$@" into /opt/millrace, as the lock says. Runs in the images' build.
set -eu
. /build/common.sh
excludes=$(mktemp)
# XGBoost asks for NCCL of CUDA 12 and loads it only to train on several GPUs; with torch's own, of CUDA 13, it clashes.
echo nvidia-nccl-cu12 >"$excludes"
# Feast asks for SQLAlchemy's plugin of a type checker.
echo mypy >>"$excludes"
if [ "$DEVICE" = cpu ]; then
  # What a CUDA build of torch asks for; where that is the build there is, hollow.py stands in for it.
  printf '%s\n' cuda-toolkit cuda-bindings cuda-pathfinder triton >>"$excludes"
  printf 'nvidia-%s\n' cublas cuda-cupti cuda-nvrtc cuda-runtime cudnn-cu13 cufft cufile curand cusolver cusparse \
    cusparselt-cu13 nccl-cu13 nvjitlink nvshmem-cu13 nvtx >>"$excludes"
fi
extras=
for name; do extras="$extras --extra $name"; done
# shellcheck disable=SC2086  # several words
uv pip install --quiet --python "$python" --only-binary :all: --constraint requirements.lock \
  --excludes "$excludes" -r pyproject.toml $extras
rm "$excludes"
