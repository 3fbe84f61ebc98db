"""VersityGW: an S3 server over a folder, built from its Go module."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

VERSITYGW = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
BUILD_S = 400


def versitygw() -> str | None:
    """Path of the server: on PATH, or in Go's own folder, where it is built once; None where that cannot be."""
    found, go = shutil.which("versitygw"), shutil.which("go")
    if found or go is None:
        return found
    folder = Path(subprocess.run([go, "env", "GOPATH"], capture_output=True, text=True, check=True).stdout.strip())
    built = folder / "bin" / "versitygw"
    if not built.is_file():
        try:
            # As for the image in tests/compose, which then is built from what this has compiled.
            env = {**os.environ, "CGO_ENABLED": "0"}
            subprocess.run([go, "install", VERSITYGW], env=env, capture_output=True, check=True, timeout=BUILD_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as err:
            print(f"VersityGW could not be built: {str(err.stderr or err)[-300:]}")
            return None
    return str(built)
