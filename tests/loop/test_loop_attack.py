"""What an ordinary user of Airflow can do to runs changes no decision: on a real Airflow, through its REST API."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.driven import driven
from support.small import clean, small

DRIVER = Path(__file__).with_name("attack_driver.py")
DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")
"""Two that are published, and one whose data are bad."""
LIMIT_S = 1800


@pytest.mark.loop
@pytest.mark.timeout(LIMIT_S + 60)
def test_controls_hold_against_whoever_may_edit_a_run(tmp_path):
    # Given a project where a person must approve, and users of several roles
    root = tmp_path / "shop"
    data = small(root, DAYS, approval="human\n  look_every: PT3S")
    with (root / "include" / "environments" / "dev.yaml").open("a") as environment:
        environment.write("aliases: revert\nretention:\n  schedule: '0 4 * * *'\n  candidates: PT1S\n")
    command = [sys.executable, "-m", "millrace.cli.app", "apply", "--project", root]
    subprocess.run(command, check=True, capture_output=True, env=clean())
    # When they try what their rights let them
    command = [sys.executable, DRIVER, root, "orders", data, *DAYS]
    done = driven(command, root, clean(), seconds=LIMIT_S)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    seen = json.loads(done.stdout.strip().splitlines()[-1])
    # Then a request waits on in slices whatever is marked and pasted
    assert seen["parked"] == 2
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
    # two that ask at once get one training
    assert (seen["asked twice"], seen["trained"]) == (["success", "success"], ["skipped", "success"])
    # what somebody says in MLflow itself is taken back, and a version that can come to nothing more is retired
    assert (seen["retirement"], seen["alias"]) == ("success", "2")
    assert seen["lives"] == {"1": "retired", "2": "champion", "3": "challenger"}
    assert {"promote", "approve", "transform", "gate_features", "publish"} <= set(seen["denied"])
