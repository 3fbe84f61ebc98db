"""What a pod adds to a job: run by `python -m bench pods`, not by the tests."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from cluster_probe import Probe
from cluster_site import PodSite
from test_cluster_failures import start  # noqa: F401  a fixture

ROUNDS = 3
ROWS = Path(os.environ["BENCH_ROWS"])


def test_what_a_pod_adds(site: PodSite, start: Callable[..., list[Probe]], tmp_path: Path) -> None:  # noqa: F811
    bare: list[float] = []
    took: dict[str, list[float]] = {"sync": [], "small": []}
    for _ in range(ROUNDS):
        for profile, seconds in took.items():
            (probe,) = start(profile, rights=("least",), seconds=0)
            assert probe.ended() == "success", probe.log()
            task = probe.task()
            began, ended = (datetime.fromisoformat(task[f"{side}_date"]) for side in ("start", "end"))
            seconds.append((ended - began).total_seconds())
            asked = json.loads(json.dumps(probe.request()))
            asked["place"] |= {"result": None, "checkpoint": None}
            (tmp_path / "request.json").write_text(json.dumps(asked))
            words = [sys.executable, "-m", "millrace.jobs", "train", "--request", str(tmp_path / "request.json")]
            clock = time.monotonic()
            subprocess.run([*words, "--result", str(tmp_path / "result.json")], check=True, capture_output=True)
            bare.append(time.monotonic() - clock)
    rows = {name: statistics.median(values) for name, values in {**took, "bare": bare}.items()}
    ROWS.write_text(json.dumps(rows))
