"""What must hold of a project after each round of kills. Each function returns what is wrong, in words."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from millrace.core.canonical import digest
from millrace.core.settings import Settings
from millrace.ledger import Ledger
from millrace.store import Tables, open_store
from millrace.store.anchors import Anchors


def wrong(settings: Settings, pipeline: str, days: list[str], trainings: list[str]) -> list[str]:
    """All that is wrong with the record, the store and MLflow, when nothing is at work. `days` were run and
    `trainings` (run ids) ended as a success."""
    ledger, objects = Ledger.open(settings.ledger), open_store(settings.store)
    found: list[str] = []
    try:
        ledger.verify(Anchors.of(settings).read())
    except Exception as err:  # whatever it is, it is what the campaign looks for
        found.append(f"the chain: {err}")
    found += champions(ledger, objects, pipeline)
    found += versions(ledger, settings, pipeline, trainings)
    found += partitions(ledger, Tables(objects), pipeline, days)
    return found


def champions(ledger: Ledger, objects: Any, pipeline: str) -> list[str]:
    """Linear generations, each of a version that had passed and whose release was approved; the copies follow."""
    found = []
    promoted = [entry.event for entry in ledger.entries(pipeline, "promoted")]
    if [each.generation for each in promoted] != list(range(1, len(promoted) + 1)):
        found.append(f"generations are not linear: {[each.generation for each in promoted]}")
    if len(ledger.champions(pipeline)) != len(promoted):
        found.append("a promotion was begun and never anchored")
    done = Counter(each.release for each in promoted)
    found += [f"release {release} was carried out {count} times" for release, count in done.items() if count > 1]
    said: dict[str, list[str]] = {}
    for entry in ledger.entries(pipeline, "approval"):
        said.setdefault(entry.subject, []).append(entry.event.state)
    for each in promoted:
        if "approved" not in said.get(each.release or "", []):
            found.append(f"version {each.version} was promoted and not approved")
        data = objects.get(each.evidence.uri)
        evidence = json.loads(data)
        if digest(data) != each.evidence.digest or not evidence["evaluation_passed"]:
            found.append(f"version {each.version} was promoted on Evidence that had not passed")
        if not all(gate["passed"] for gate in evidence["gates"]):
            found.append(f"version {each.version} was promoted on data whose gate had not passed")
    if (now := ledger.champion(pipeline)) is not None:
        copy = json.loads(objects.get(f"champions/{pipeline}.json"))
        if copy["version"] != now.version:
            found.append(f"the store's copy names version {copy['version']} as champion, the ledger {now.version}")
    return found


def versions(ledger: Ledger, settings: Settings, pipeline: str, trainings: list[str]) -> list[str]:
    """One version per training that made new bytes, one request per version, and MLflow has the same ones."""
    from mlflow import MlflowClient

    known = ledger.versions(pipeline)
    runs = Counter(each.run for each in known)
    found = [f"run {run} registered {count} versions" for run, count in runs.items() if count > 1]
    models = Counter(each.model.digest for each in known)
    found += [f"model {name[:19]} was registered {count} times" for name, count in models.items() if count > 1]
    requests = Counter(e.event.version for e in ledger.entries(pipeline, "approval") if e.event.state == "waiting"
                       and not e.event.answers and len(e.event.runs) == 1)  # fmt: skip
    attempts = {e.event.version: e.event.attempt for e in ledger.entries(pipeline, "approval")}
    found += [f"version {v} was asked for {n} times" for v, n in requests.items() if n > 1 or attempts[v] > 1]
    late = overtaken(ledger, pipeline)
    found += [f"no release was asked for version {each.version}" for each in known
              if each.version not in attempts and each.version not in late]  # fmt: skip
    client = MlflowClient(settings.mlflow)
    name = next((model.name for model in client.search_registered_models() if pipeline in model.name), None)
    there = sorted(int(v.version) for v in client.search_model_versions(f"name = '{name}'")) if name else []
    if there != [each.version for each in known]:
        found.append(f"MLflow has versions {there}, the ledger {[each.version for each in known]}")
    alias = client.get_registered_model(name).aliases.get("champion") if name else None
    now = ledger.champion(pipeline)
    if (int(alias) if alias else None) != (now.version if now else None):
        found.append(f"MLflow's alias names {alias}, the ledger {now.version if now else None}")
    if len(known) > len(trainings):
        found.append(f"{len(trainings)} trainings made {len(known)} versions")
    return found


def overtaken(ledger: Ledger, pipeline: str) -> set[int]:
    """Versions that may not be asked for: a newer one is champion, or they met another champion in their duel, since
    their run was held up. A release says so and ends; to train again is somebody's decision."""
    now = ledger.champion(pipeline)
    if now is None:
        return set()
    return {each.version for each in ledger.versions(pipeline)
            if each.version < now.version or each.fought != now.model_digest}  # fmt: skip


def partitions(ledger: Ledger, tables: Tables, pipeline: str, days: list[str]) -> list[str]:
    """Each day is published once, in one Snapshot, is online in it, and was scored."""
    found = []
    table = f"{pipeline}/features"
    if (there := tables.partitions(table)) != sorted(days):
        found.append(f"published are {there}, not {sorted(days)}")
    for day in there:
        if len(moves := tables.pointer(table, day).history) != 1:
            found.append(f"the pointer of {day} moved {len(moves)} times")
    current = {day: tables.resolve(table, day).snapshot for day in there}
    for view in {entry.event.view for entry in ledger.entries(pipeline, "materialized")}:
        if missing := ledger.stale(pipeline, view, current):
            found.append(f"not online in view {view}: {missing}")
    return found
