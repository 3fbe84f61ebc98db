# Sourced by the scripts of the images' build.
# shellcheck shell=sh disable=SC2034
python=/opt/millrace/bin/python
export UV_CACHE_DIR=/root/.cache/uv
if [ -f /run/ca.crt ]; then
  export SSL_CERT_FILE=/run/ca.crt
fi
