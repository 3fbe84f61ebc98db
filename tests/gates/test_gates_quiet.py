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
from millrace.core.canonical import digest
sets = ["distinct_values_to_be_in_set", "distinct_values_to_equal_set", "most_common_value_to_be_in_set",
        "distinct_values_to_contain_set"]
suite = {"name": "s", "expectations": [
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "n", "min_value": 2}},
    *({"type": f"expect_column_{t}", "kwargs": {"column": "s", "value_set": ["v1", "w1", "w2"]}} for t in sets),
]}
table = pa.table({"n": [1] * 40, "s": [f"v{i}" for i in range(40)]})
gate = engine.validate(table, suite, "s", lambda c: "public")
html = page.render(gate, "t")
assert len(gate.verdict.failures) == 5 and b"40 of 40 rows are outside" in html
sys.stderr.write("".join(f"{e}\\n" for e in seen))
sys.stdout.write(digest([gate.to_json(), html.decode()]))
"""


def test_a_gate_writes_nothing_calls_nobody_and_is_the_same_in_every_process(tmp_path: Path) -> None:
    env = {**os.environ, "HOME": str(tmp_path), "GX_CLOUD_ACCESS_TOKEN": "x", "GX_CLOUD_ORGANIZATION_ID": "y"}
    printed = []
    for seed in ("1", "2"):  # of text hashes, and so of the order of sets
        done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, cwd=tmp_path,
                              env={**env, "PYTHONHASHSEED": seed}, timeout=120, check=False)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        printed.append(done.stdout)
    assert printed[0].startswith("sha256:") and len(printed[0]) == 71
    assert printed[0] == printed[1]
    assert list(tmp_path.iterdir()) == []
