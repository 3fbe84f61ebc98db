"""The project of the demo's last minute: December's flights, served by a canary, with a transform that can be broken.

It runs in the same Airflow, on the same store and ledger. Its features gate looks at no labels, and its evaluation asks
for next to nothing (a version that learned from wrong labels is judged by wrong labels, too), so that only traffic can
show what a version does. In flight_delays the check `bias` of the gate and the thresholds stop both faults.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from millrace.spec import ProjectTree

OF, NAME = "flight_delays", "flight_rollout"
MONTH = "2013-12"
FEATURES = "suites/features.yaml"
LABEL = "CAST(s.arr_delay > 15 AS BIGINT) AS late"


@dataclass(frozen=True)
class Fault:
    """The label as transform.sql has it then, and whether the version goes through a shadow first."""

    label: str
    shadow: bool


FAULTS = {
    "labels shuffled": Fault("CAST(lag(s.arr_delay) OVER (ORDER BY md5(s.flight_id)) > 15 AS BIGINT) AS late", True),
    "one carrier always late": Fault("CAST(s.arr_delay > 15 OR s.carrier = 'UA' AS BIGINT) AS late", False),
}
NONE = Fault(LABEL, True)
SHADOW: dict[str, Any] = {"at_least": "PT0S", "requests": 100}
EVALUATION: dict[str, Any] = {"thresholds": {"brier": {"max": 0.5}}, "duel": {"tolerance": 1.0}}


def write(tree: ProjectTree, home: Path, folder: Path) -> ProjectTree:
    """Write the project beside the state at `home`; the same files whenever it is called, with nothing broken."""
    pipeline = folder / "include" / "pipelines" / NAME
    shutil.copytree(tree.folder(OF) / "suites", pipeline / "suites", dirs_exist_ok=True)
    gate = tree.suite(OF, FEATURES)
    gate["checks"] = [check for check in gate["checks"] if check["type"] != "bias"]
    _put(pipeline / FEATURES, yaml.safe_dump(gate, sort_keys=False))
    shutil.copytree(tree.root / "include" / "environments", folder / "include" / "environments", dirs_exist_ok=True)
    _put(folder / "include" / "project.yaml", yaml.safe_dump({"version": 1, "name": "rollout", "owner": "millrace"}))
    spec = yaml.safe_load((tree.folder(OF) / "pipeline.yaml").read_text())
    spec |= {"name": NAME, "evaluation": EVALUATION, "serving": _serving(True), "tags": ["demo"]}
    spec["description"] = "The demo's last minute: bad versions on their way to live traffic."
    spec["partition"] |= {"start": MONTH, "end": MONTH}
    spec["features"]["service"] = NAME
    spec["training"]["holdout"]["block"] = "hour"
    spec["monitoring"] |= {"k": 3, "n": 3}  # one month is judged once: nothing is retrained
    _put(pipeline / "pipeline.yaml", yaml.safe_dump(spec, sort_keys=False))
    store = (tree.root / "feature_repo" / "feature_store.yaml").read_text()
    _put(folder / "feature_repo" / "feature_store.yaml", store.replace("project: reference", "project: rollout"))
    features = tree.features_file(OF).read_text()
    _put(folder / "feature_repo" / f"{NAME}.py", features.replace(OF, NAME))
    _put(folder / "dags" / f"{NAME}.py", (tree.root / "dags" / f"{OF}.py").read_text().replace(OF, NAME))
    state = folder / ".millrace"
    if not state.is_symlink():
        state.symlink_to(os.path.relpath(home, folder))
    written = ProjectTree(folder)
    plant(tree, written, NONE)
    return written


def plant(tree: ProjectTree, rehearsal: ProjectTree, fault: Fault) -> None:
    """Let what is published and released from now on be so. Raises ValueError where the label is not found."""
    text = (tree.folder(OF) / "transform.sql").read_text()
    if text.count(LABEL) != 1:
        raise ValueError(f"transform.sql of {OF} has another label than {LABEL}")
    spec = rehearsal.folder(NAME) / "pipeline.yaml"
    _put(spec, yaml.safe_dump(yaml.safe_load(spec.read_text()) | {"serving": _serving(fault.shadow)}, sort_keys=False))
    _put(rehearsal.folder(NAME) / "transform.sql", text.replace(LABEL, fault.label))


def _serving(shadow: bool) -> dict[str, Any]:
    steps = [{"share": 0.5, "at_least": "PT0S", "units": 500}]
    rollout = {"strategy": "canary", "shadow": SHADOW if shadow else None, "steps": steps, "watch": "PT0S"}
    return {"rollout": rollout}


def _put(path: Path, text: str) -> None:
    """Write a file whole, or leave it: what reads it meanwhile sees the one before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_text(text)
    beside.replace(path)
