"""Clients that others wrote, in an environment of their own: theirs of protobuf is older than the lock's."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("kserve==0.21.0", "tritonclient[grpc,http]==2.73.0")
CACHE = Path(__file__).resolve().parents[2] / ".millrace"


@cache
def interpreter() -> Path | str:
    """Python with the clients, installed once below .millrace; else why there is none."""
    folder = CACHE / f"foreign-{sha256(' '.join(PACKAGES).encode()).hexdigest()[:12]}"
    python, done = folder / "bin" / "python", folder / "installed"
    uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")
    if uv is None:
        return "no uv, which installs the clients"
    CACHE.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.is_file():
            for command in (
                [uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
                [uv, "pip", "install", "--quiet", "--python", str(python), *PACKAGES],
            ):
                try:
                    subprocess.run(command, capture_output=True, text=True, check=True, timeout=400)
                except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as err:
                    return f"{' and '.join(PACKAGES)} could not be installed: {str(err.stderr or err)[-200:]}"
            done.touch()
    return python


def answers(script: str, given: Any) -> Any:
    """What a script of a foreign client prints last, as JSON; `given` is in its `sys.argv[1]`, as JSON."""
    python = interpreter()
    if isinstance(python, str):
        pytest.skip(python)
    done = subprocess.run([python, "-c", script, json.dumps(given)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
