"""The loop through a real scheduler on a reduced set: by backfill, REST and hand, also with loopback only."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.driven import driven

ROOT = Path(__file__).resolve().parents[2]
DRIVER = Path(__file__).with_name("driver.py")
LIMIT_S = 900
pytestmark = pytest.mark.timeout(LIMIT_S + 100)
ALONE = sys.platform == "linux" and os.geteuid() == 0 and shutil.which("unshare") is not None

MONTHS = tuple(f"2013-{month:02d}" for month in range(1, 7))
"""The first model is trained on four: fewer days do not show that it beats a constant."""


def clean_environment() -> dict[str, str]:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MILLRACE_", "AIRFLOW", "MLFLOW"))}
    return env | {"PYTHONPATH": str(ROOT)}


def reduced_flights(folder: Path) -> Path:
    """The reference project with six months of flights, smaller trees and low floors."""
    from demo import data

    for name in ("dags", "plugins", "feature_repo"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pipelines", "environments"):
        shutil.copytree(ROOT / "include" / name, folder / "include" / name)
    shutil.copy(ROOT / "include" / "project.yaml", folder / "include")
    for other in ("city_temperature", "digits", "languages"):
        (folder / "dags" / f"{other}.py").unlink()
    incoming = folder / data.INCOMING
    data.write_planes(incoming)
    for month in MONTHS:
        data.write_flights(incoming, month)
        data.write_weather(incoming, month)
    return folder


def run_driver(project: Path, *arguments: str, before: tuple[str, ...] = ()) -> dict:
    command = [*before, sys.executable, str(DRIVER), str(project), *arguments]
    done = driven(command, project, clean_environment(), LIMIT_S)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def check_flights(seen: dict) -> None:
    # Then every partition was published however its run was started, and monitoring ran for each
    assert seen["published"] == seen["monitored"] == list(MONTHS)
    # a run that cannot say its partition failed, and it alone
    assert seen["nameless"] == "failed"
    assert seen["states"]["features"] == ["failed"] + ["success"] * 6
    # the first model is champion, and has scored what came after it
    assert seen["first_champion"]["version"] == 1
    assert seen["first_champion"]["trained_to"] == MONTHS[3]
    assert {*MONTHS[4:]} <= set(seen["predicted"])
    assert set(seen["decisions"]) == {*MONTHS[4:]}
    # and what monitoring set off ended well
    assert set(seen["states"]["training"]) <= {"success", "failed"} and "success" in seen["states"]["training"]
    assert seen["ledger_entries"] > 0


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict:
    """What happened in one run of the loop; in a network namespace that has only loopback, where one can be had."""
    project = reduced_flights(tmp_path_factory.mktemp("reduced") / "project")
    alone = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh") if ALONE else ()
    subprocess.run(
        [*alone, sys.executable, "-m", "millrace.cli.app", "apply"], cwd=project, env=clean_environment(), check=True
    )
    return run_driver(project, "flight_delays", MONTHS[0], *MONTHS[3:], before=alone)


@pytest.mark.loop
def test_flights_through_a_real_scheduler(seen):
    check_flights(seen)
    # and nothing of Airflow or MLflow died by itself, or is left
    assert seen["died"] == []
    assert [name for name, pid in seen["processes"].items() if Path(f"/proc/{pid}").exists()] == []


@pytest.mark.loop
@pytest.mark.skipif(not ALONE, reason="a network namespace needs Linux, root and unshare")
def test_nothing_calls_home_with_loopback_only(seen):
    # The loop above went well where nobody else could be reached
    assert seen["interfaces"] == ["lo"]
