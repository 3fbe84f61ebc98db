"""Recorded traffic of a rollout, and its replay at a server wherever that runs: the same requests, the same decisions.

What is compared are answers as IEEE values, which version gave them, what all servers counted, what guards spoke
against and what `rules.rollout` decides of it. Nothing depends on time: no answer counts as slow, and waiting is long.
"""

from __future__ import annotations

import http.client
import json
import random
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from millrace.core.canonical import canonical_json
from millrace.rules.experiment import report
from millrace.rules.guards import Counts, merge
from millrace.rules.paired import Loss
from millrace.rules.rollout import Standing, decide
from millrace.rules.traffic import meets_new
from millrace.spec.learner import XGBoostLearner
from millrace.spec.serving import ABRollout, ServingSpec
from millrace.store import layout
from millrace.store.plans import TrafficPlan, Veto
from support.running import until
from support.served import VEHICLES, Served
from support.serving import serving

FIRST, CALM = 101, 104
"""Generations of the plans: one for each stage, and one in which the champion answers alone again."""
SHARE = 0.5
STAGES = {"better": 2, "worse": 2, "broken": 3}
"""What is recorded, in this order, and the version that takes part in it: of the last, one that predicts one value."""
UNITS, BLOCKS = 8, {"better": 14, "worse": 14, "broken": 28}
"""Of each block of time, and blocks of each stage; a unit asks once or twice, always for the same vehicle."""
_KEPT = {"better": (0.95, 0.1), "worse": (0.1, 0.95), "broken": (0.5, 0.5)}
"""How likely the outcome is with the version that takes part, and with the champion."""
BEGAN = datetime(2024, 1, 31, tzinfo=UTC)
_WAIT_S = 120
_SURE = 20
"""So many answers in a row, each over a connection of its own, show that all processes follow a plan."""


def write(path: Path, seed: int = 7) -> Path:
    """Write the recording, one request on each line, the same bytes for the same seed: stage, block of time, id, unit,
    vehicle, and the outcome that came (`kept`, 0 or 1) where the champion answered and where the other version did."""
    chance = random.Random(seed)
    lines = []
    for stage in STAGES:
        for number in range(BLOCKS[stage] * UNITS):
            unit, vehicle, block = f"{stage}-{number}", f"v{chance.randrange(VEHICLES)}", number // UNITS
            new, old = (
                chance.random() < p for p in {"better": (0.95, 0.1), "worse": (0.1, 0.95)}.get(stage, (0.5, 0.5))
            )
            for again in range(1 + (chance.random() < 0.3)):
                said = {"stage": stage, "block": f"{block:02d}", "id": f"{unit}-{again}", "unit": unit,
                        "vehicle": vehicle, "kept": {"old": int(old), "new": int(new)}}  # fmt: skip
                lines.append(json.dumps(said, separators=(",", ":")))
    path.write_text("\n".join(lines) + "\n")
    return path


def serving_of(stage: str) -> ServingSpec:
    """What the pipeline says while a stage is recorded. So few vehicles have few predictions: only where a version is
    broken are they held to be distributed as the champion's."""
    return ServingSpec.model_validate({
        "rollout": {"strategy": "ab", "shadow": None, "share": SHARE, "metric": "kept", "minimum_effect": 0.05},
        "guards": {"slow_ms": None, "distribution": 1.25 if stage == "broken" else 10.0},
        "limits": {"deadline_ms": 120_000},
    })  # fmt: skip


class Place(Protocol):
    """Where servers run that follow one store, as a test reaches them."""

    address: str
    token: str
    """Of a tester; empty where nobody is asked."""

    def put(self, objects: Mapping[str, bytes]) -> None:
        """Write objects into the store that the servers follow."""

    def get(self, prefix: str) -> dict[str, bytes]:
        """Its objects below a prefix."""


@dataclass
class Replayed:
    """What came of a replay. `answers`: id of a request -> version, and its prediction as a hexadecimal float."""

    answers: dict[str, tuple[int, str]] = field(default_factory=dict)
    counts: dict[str, Any] = field(default_factory=dict)
    vetoes: set[tuple[str, int, str]] = field(default_factory=set)
    decisions: dict[str, tuple[str, bool, str]] = field(default_factory=dict)


def plans(served: Served) -> dict[str, TrafficPlan]:
    """The plan of each stage; the same salts everywhere."""
    found = {}
    for generation, (stage, version) in enumerate(STAGES.items(), FIRST):
        arms = (served.arm(1, share=1 - SHARE), served.arm(version, share=SHARE, role="challenger"))
        found[stage] = TrafficPlan(pipeline="trips", generation=generation, since=generation, salt=f"salt of {stage}",
                                   arms=arms, serving=serving_of(stage))  # fmt: skip
    return found


def deployed(served: Served) -> dict[str, bytes]:
    """Deploy the broken version; all that a store must hold of the versions in the plans."""
    served.deploy(3, served.train(3, XGBoostLearner(rounds=1, min_child_weight=1e6)))
    objects = served.objects
    prefixes = ("models/trips/", "deployments/trips/")
    return {found.key: objects.get(found.key) for prefix in prefixes for found in objects.list(prefix)}


def replay(recording: Path, place: Place, served: Served) -> Replayed:
    """Replay a recording at a place, stage by stage, and let the champion answer alone in the end."""
    requests = [json.loads(line) for line in recording.read_text().splitlines()]
    place.put(deployed(served))
    result = Replayed()
    for stage, plan in plans(served).items():
        _follow(place, plan)
        mine = [each for each in requests if each["stage"] == stage]
        for each in mine:
            row = _ask(place, each["vehicle"], {"x-unit": each["unit"], "x-request-id": each["id"]}, plan.generation)
            result.answers[each["id"]] = (row["version"], float(row["prediction"]).hex())
        _judge(place, plan, stage, mine, result)
    _follow(place, calm(served))
    return result


def calm(served: Served) -> TrafficPlan:
    """The plan after all of it: the champion answers alone."""
    return TrafficPlan(pipeline="trips", generation=CALM, since=CALM, salt="calm", arms=(served.arm(1),),
                       serving=ServingSpec())  # fmt: skip


def _follow(place: Place, plan: TrafficPlan) -> None:
    """Write a plan, and wait until all processes follow it. What testers ask by version is not counted."""
    place.put({layout.plan("trips"): canonical_json(plan)})
    ends, right = time.monotonic() + _WAIT_S, 0
    while right < _SURE:
        assert time.monotonic() < ends, f"plan {plan.generation} is not followed"
        status, found = _asked(place, "v1", {"x-version": "1"})
        right = right + 1 if status == 200 and found["generation"] == plan.generation else 0
        time.sleep(0 if right else 0.1)


def _asked(place: Place, vehicle: str, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Status and answer, over a connection of its own."""
    said = {"authorization": f"Bearer {place.token}"} if place.token else {}
    at = urlsplit(place.address)
    connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=60)
    try:
        body = json.dumps({"entities": [{"vehicle": vehicle}]})
        connection.request("POST", "/predict/trips", body, {**said, **headers})
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    finally:
        connection.close()


def _ask(place: Place, vehicle: str, headers: Mapping[str, str], generation: int) -> dict[str, Any]:
    status, said = _asked(place, vehicle, headers)
    assert status == 200, said
    assert said["generation"] == generation and said.get("logged", True), said
    (row,) = said["predictions"]
    found: dict[str, Any] = row
    return found


def _judge(place: Place, plan: TrafficPlan, stage: str, requests: list[dict[str, Any]], result: Replayed) -> None:
    """What servers counted and guards said, and what is decided of it."""
    version, generation = STAGES[stage], plan.generation

    def counted() -> list[Counts]:
        found = place.get(layout.tallies("trips", generation))
        return [Counts.model_validate_json(each) for each in found.values()]

    def complete() -> bool:
        return sum(side.answered for each in counted() for side in each.sides.values()) == len(requests)

    def vetoes() -> list[Veto]:
        found = map(Veto.model_validate_json, place.get(layout.vetoes("trips")).values())
        return [each for each in found if each.generation == generation]

    if stage == "broken":
        until(vetoes, _WAIT_S, lambda: f"no guard stops a broken version: {counted()}")
        until(lambda: _champion_alone(place, requests), _WAIT_S, lambda: "the veto is not followed everywhere")
    else:
        until(complete, _WAIT_S, lambda: f"{len(requests)} were asked, and counted {counted()}")
        result.counts[stage] = {
            met.number: {
                number: (side.answered, sorted(side.errors), sorted(side.predictions.items()))
                for number, side in met.sides.items()
            }
            for met in merge(counted())
        }
    result.vetoes |= {(stage, each.version, each.guard) for each in vetoes()}
    spec = serving_of(stage)
    standing = Standing(version=version, former=1, stage=1, planned=generation, began=BEGAN)
    rule, now = spec.rollout, BEGAN + timedelta(hours=1)
    assert isinstance(rule, ABRollout)
    answer = decide(
        spec, standing, counted() if stage != "broken" else (),
        vetoes=[f"{each.guard} spoke against version {each.version}" for each in vetoes()],
        outcomes=report(_outcomes(requests, result), version, 1, rule, began=BEGAN, now=now).verdict, now=now,
    )  # fmt: skip
    result.decisions[stage] = (answer.action, answer.harm, answer.why)


def _champion_alone(place: Place, requests: Iterable[dict[str, Any]]) -> bool:
    """Whether the champion answers whom the vetoed version would have."""
    return all(
        _ask(place, each["vehicle"], {"x-unit": each["unit"]}, FIRST + 2)["version"] == 1
        for each in list(requests)[:_SURE]
    )


def _outcomes(requests: Iterable[dict[str, Any]], result: Replayed) -> list[Loss]:
    """What came of each answer, which depends on who gave it."""
    found = []
    for each in requests:
        version, _ = result.answers[each["id"]]
        kept = each["kept"]["old" if version == 1 else "new"]
        found.append(Loss((each["id"], 0), version, each["block"], float(kept), each["unit"]))
    return found


def differences(one: Replayed, other: Replayed) -> list[str]:
    """Where two replays of one recording differ. While a version is being stopped, when each server hears of it is not
    looked at: whoever it would have answered gets it or the champion."""
    found = []
    for id_ in sorted(one.answers.keys() | other.answers.keys()):
        (mine, value), (theirs, its) = one.answers.get(id_, (0, "")), other.answers.get(id_, (0, ""))
        stopped = id_.startswith("broken") and mine != theirs and {mine, theirs} == {1, STAGES["broken"]}
        if not stopped and (mine, value) != (theirs, its):
            found.append(f"{id_}: version {mine} answered {value}, version {theirs} {its}")
    for what in ("counts", "vetoes"):
        if getattr(one, what) != getattr(other, what):
            found.append(f"{what}: {getattr(one, what)} and {getattr(other, what)}")
    for stage in STAGES:
        # words of a stage that was stopped half way hold numbers of its time
        mine_, theirs_ = (each.decisions.get(stage) for each in (one, other))
        if mine_ != theirs_:
            found.append(f"{stage}: {mine_} and {theirs_}")
    return found


def expected(recording: Path, served: Served) -> dict[str, int]:
    """Id of a request -> the version that its unit meets, by the rule alone."""
    found = {}
    for each in map(json.loads, recording.read_text().splitlines()):
        salt = f"salt of {each['stage']}"
        found[each["id"]] = STAGES[each["stage"]] if meets_new(salt, each["unit"], SHARE) else 1
    return found


@dataclass
class Folder:
    """A place on this machine, whose store is a folder."""

    address: str
    served: Served
    token: str = ""

    def put(self, objects: Mapping[str, bytes]) -> None:
        for key, data in objects.items():
            self.served.objects.put(key, data)

    def get(self, prefix: str) -> dict[str, bytes]:
        objects = self.served.objects
        return {found.key: objects.get(found.key) for found in objects.list(prefix)}


def replayed_here(recording: Path, served: Served, root: Path, *arguments: str) -> Replayed:
    """Replay at a server of this machine, over a copy of a served pipeline in a new folder."""
    shutil.copytree(served.root, root)
    copied = Served(root, served.views)
    with serving(copied, *arguments) as (address, _):
        return replay(recording, Folder(address, copied), copied)
