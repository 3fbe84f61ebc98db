"""What an ordinary user of Airflow can do to runs changes no decision: on a real Airflow, through its REST API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.driven import driven

DRIVER = Path(__file__).with_name("attack_driver.py")
DAYS = tuple(f"2024-01-{day:02d}" for day in range(1, 7))
LIMIT_S = 1100


@pytest.mark.loop
@pytest.mark.timeout(LIMIT_S + 60)
def test_controls_hold_against_whoever_may_edit_a_run(tmp_path):
    # Given a project where a person must approve, and users of several roles
    root = tmp_path / "shop"
    for words in (["init", str(root)], ["new", "orders", "--project", str(root)], ["apply", "--project", str(root)]):
        subprocess.run([sys.executable, "-m", "millrace.cli.app", *words], check=True, capture_output=True, env=clean())
    environment = root / "include" / "environments" / "dev.yaml"
    environment.write_text(environment.read_text().replace("by: auto", "by: human\n  look_every: PT3S"))
    spec = root / "include" / "pipelines" / "orders" / "pipeline.yaml"
    spec.write_text(spec.read_text().replace("block: day", "block: hour"))  # five days are too few for a duel
    # When they try what their rights let them
    command = [sys.executable, DRIVER, root, "orders", root / "data" / "orders", *DAYS]
    done = driven(command, root, clean(), seconds=LIMIT_S)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    # Then a request waits on in slices whatever is marked and pasted
    assert seen["parked again"] == 3
    assert (seen["forged approval"], seen["then"]) == ("failed", ["waiting", None])
    # a form of nonsense voids nothing
    assert seen["forged release"] == {"v99": "failed", "word": "refused by the form: True", "key": "failed"}
    assert seen["waits on"] == "waiting"
    # a void request leaves 'Required actions', and like a rejected one never becomes another
    assert (seen["voided run"], seen["withdrawn"]) == ("success", True)
    assert (seen["forged void"], seen["void stays"]) == ("failed", ["void", None])
    assert (seen["rejected run"], seen["forged rejection"]) == ("success", "failed")
    assert (seen["cleared rejection"], seen["rejection stays"]) == ("success", ["rejected", "ann", None])
    # nobody approves what he has asked for, and somebody else does
    assert seen["approved by requesters"] == ["waiting", None]
    assert (seen["approved run"], seen["approved"]) == ("success", ["promoted", "ann", 2])
    # the same bytes are nothing new
    assert (seen["same bytes"], seen["same bytes registered"]) == ("success", [1, 2])
    # and what failed its gate goes nowhere
    assert seen["bad data"] == "failed"
    assert seen["forged gate"] == ["failed", "failed"]
    assert (seen["forged transform"], seen["forged features gate"]) == ("failed", "failed")
    assert seen["published"] == list(DAYS[:-1])
    assert (seen["champion"], seen["champions"], seen["requester"], seen["died"]) == (2, [2], "bob", [])
    assert {"promote", "approve", "transform", "gate_features", "publish"} <= set(seen["denied"])


def clean() -> dict[str, str]:
    return {k: v for k, v in os.environ.items() if not k.startswith(("MILLRACE_", "AIRFLOW", "MLFLOW"))}
