"""GX comes without pyspark, which it would import wherever it is installed, unless Spark is the engine."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

CODE = """
import sys
from millrace.gates import gx
gx.load()
assert "pyspark" not in sys.modules, "GX has imported pyspark"
import pyspark
assert pyspark.__version__
gx.load()
assert sys.modules["pyspark"] is pyspark
print("kept out")
"""


@pytest.mark.skipif(importlib.util.find_spec("pyspark") is None, reason="pyspark is not installed")
def test_gx_loads_without_pyspark_which_stays_importable() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "kept out", done.stdout + done.stderr
