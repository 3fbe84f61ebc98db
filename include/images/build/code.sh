#!/bin/sh
# Installs millrace itself into /opt/millrace and leaves its files alone there. Runs in the images' build.
set -eu
. /build/common.sh
work=$(mktemp -d)
echo 'hatchling==1.33.0' >"$work/build"
# By way of a wheel in a folder, so that no installed file tells where or when it was built.
uv build --quiet --wheel --build-constraints "$work/build" --out-dir "$work/wheels" .
uv pip install --quiet --python "$python" --no-deps --no-index --find-links "$work/wheels" millrace
# All the same uv notes when the wheel was made.
for note in /opt/millrace/lib/python3*/site-packages/millrace-*.dist-info; do
  rm -f "$note/uv_cache.json" && sed -i '/uv_cache\.json/d' "$note/RECORD"
done
rm -rf "$work" /opt/millrace/.lock
