"""A gate reaches nothing: no network, no file, nothing on the screen. Watched from the first import on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys
seen = []

def watch(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"):
        seen.append((event, str(args[1:])))
    elif event == "open" and isinstance(args[0], (str, bytes)):
        mode, flags = args[1], args[2]
        writes = any(c in (mode or "") for c in "wax+") or (flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        name = os.fsdecode(args[0])
        if writes and "__pycache__" not in name and name != os.devnull:
            seen.append((event, name))
    elif event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "tempfile.mkdtemp", "tempfile.mkstemp"):
        if "__pycache__" not in str(args[0]):
            seen.append((event, str(args[0])))

sys.addaudithook(watch)
import pyarrow as pa
from millrace.gates import engine, page
kwargs = {"column": "n", "min_value": 2}
suite = {"name": "s", "expectations": [{"type": "expect_column_values_to_be_between", "kwargs": kwargs}]}
gate = engine.validate(pa.table({"n": [1]}), suite, "s", lambda c: "public")
html = page.render(gate, "t")
assert not gate.verdict.passed and b"1 of 1 row is outside" in html
sys.stderr.write("".join(f"{e}\\n" for e in seen))
"""


def test_a_gate_writes_nothing_and_calls_nobody(tmp_path: Path) -> None:
    env = {**os.environ, "HOME": str(tmp_path), "GX_CLOUD_ACCESS_TOKEN": "x", "GX_CLOUD_ORGANIZATION_ID": "y"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=env, cwd=tmp_path,
                          timeout=120, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
