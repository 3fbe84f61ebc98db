"""Ten times kill -9 at random moments: no stuck run, no doubled effect, no ungated champion. `make chaos`: 500."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.driven import driven
from support.small import clean

CHAOS = Path(__file__).parents[1] / "chaos"
KILLS, LIMIT_S = 10, 1500


@pytest.mark.loop
@pytest.mark.timeout(LIMIT_S + 60)
def test_a_project_that_is_killed_again_and_again_ends_as_if_nobody_had(tmp_path):
    given = {"CHAOS_HOME": str(tmp_path / "chaos"), "CHAOS_KILLS": str(KILLS), "CHAOS_SEED": "1",
             "CHAOS_PER_ROUND": str(KILLS), "CHAOS_LEDGER": "sqlite"}  # fmt: skip
    (tmp_path / "chaos").mkdir()

    done = driven([sys.executable, CHAOS], tmp_path / "chaos" / "project", clean() | given, LIMIT_S)

    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    assert (len(seen["kills"]), seen["wrong"]) == (KILLS, [])
    assert len(Counter(kind for kind, _ in seen["kills"])) >= 3, "too few kinds of processes were met"
    assert seen["versions"] >= 1 and seen["champions"] >= 1, "nothing was trained and released"
