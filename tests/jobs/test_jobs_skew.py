"""skew: what was served online is what the point-in-time join gives, or the verdict names the columns."""

from __future__ import annotations

import json
from concurrent.futures import wait
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support import feast_project
from support.requests import request

from millrace.contract import Artifact, JobResult, Run
from millrace.core.canonical import canonical_json, digest
from millrace.jobs.runner import run
from millrace.serving.log import Log
from millrace.serving.shipping import ship
from millrace.store import bundles, layout
from millrace.store.served import parts

FeastProject, at, row = feast_project.FeastProject, feast_project.at, feast_project.row
DAY, BEFORE = "2024-01-02", "2024-01-01"
COLUMNS = ["speed", "distance", "driver", "electric", "weight"]
SERVES: dict[str, Any] = {
    "training": {"learner": {"kind": "xgboost", "rounds": 20}, "window": "P1M"},
    "evaluation": {"thresholds": {"log_loss": {"max": 1}}},
    "serving": {},
}


class Server:
    """Reads the online store through Feast as a server would, and keeps what it answered."""

    def __init__(self, root: Path, **spec: Any) -> None:
        self.project = FeastProject.applied(root / "p")
        self.project.spec |= {**SERVES, **spec}
        self.root, self.count = root, 0
        self.features: dict[str, Artifact] = {}
        self.former: list[tuple[str, Artifact]] = []

    def deliver(self, partition: str, rows: list[dict[str, Any]], online: bool = True) -> None:
        if partition in self.features:
            self.former.append((partition, self.features[partition]))
        self.features[partition] = self.project.snapshot(partition, rows)
        if online:
            result = self.project.materialize(partition, self.features[partition], len(self.former) + 1)
            assert result.error is None, result.error

    def answer(self, vehicles: list[str], asked: str, harm: Any = None) -> None:
        store = self.project.open()
        refs = [f"trips:{name}" for name in COLUMNS]
        online = store.get_online_features(features=refs, entity_rows=[{"vehicle": v} for v in vehicles])
        names = list(online.proto.metadata.feature_names.val)
        stamps = online.proto.results[names.index("speed")].event_timestamps
        values = online.to_dict()
        records = []
        for n, vehicle in enumerate(vehicles):
            kept = {name: values[name][n] for name in COLUMNS}
            kept |= (harm or {}) if not callable(harm) else harm(vehicle, kept)
            self.count += 1
            records.append({
                "id": f"r{self.count}", "at": round(at(asked).timestamp() * 1e6), "ms": 1.0, "pipeline": "trips",
                "version": 1, "model": None, "role": "champion", "generation": 1, "predictions": [0.5],
                "entities": [{"vehicle": vehicle}], "times": [{"trips": round(stamps[n].ToMicroseconds())}],
                "found": ["found"], "columns": COLUMNS, "rows": [[kept[name] for name in COLUMNS]],
            })  # fmt: skip
        with Log(self.root / "log", durable=False) as log:
            wait([log.append(json.dumps(each).encode()) for each in records])
        assert ship(self.root / "log", self.project.objects, "s1").away is None

    def send(self, job: str, inputs: list[Any], params: dict[str, Any] | None = None) -> JobResult:
        bundle, settings = self.project.bundle, self.project.settings
        bundles.keep(self.project.objects, bundle)
        result = run(request(
            job, store=settings.store, spec_digest=bundle.digest, scope=[DAY], inputs=inputs, params=params,
            run=Run(pipeline="trips"),
            services={"registry": settings.feast_registry, "online": settings.feast_online},
        ))  # fmt: skip
        assert result.error is None, result.error
        return result

    def skew(self, **params: Any) -> Any:
        objects = self.project.objects
        listed = parts(objects, "trips", at("2024-01-02 00:00"), at("2024-01-03 00:00"))
        data = canonical_json([[each.key, each.size, each.changed.isoformat()] for each in listed])
        made = Artifact(uri=layout.document("listings", "trips", digest(data), "segments.json"), digest=digest(data),
                        kind="listing")  # fmt: skip
        objects.put(made.uri, data)
        features = [("features", artifact, key) for key, artifact in self.features.items()]
        served = self.send("collect", [("segments", made, DAY), features[-1]]).outcome.outputs["data"]
        former = [("former", artifact, key) for key, artifact in self.former]
        return self.send("skew", [("served", served, DAY), *features, *former], params).outcome


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def trips(day: str = BEFORE, hour: int = 6, count: int = 8, **other: Any) -> list[dict[str, Any]]:
    """Values of every type, some of them null."""
    return [
        row(f"v{n}", f"{day} {hour:02d}:00", 2**60 + n, speed=None if n == 3 else n / 3, electric=n % 2 == 0, **other)
        for n in range(count)
    ]


EVERYONE = [f"v{n}" for n in range(8)]


def test_what_was_served_as_it_lies_offline_is_no_skew(server):
    server.deliver(BEFORE, trips())
    server.answer(EVERYONE, f"{DAY} 10:00")
    outcome = server.skew()
    assert outcome.verdict.passed and outcome.facts["views"]["trips"] == {
        "compared": 8, "rows": 0, "behind": 0, "explained": 0, "columns": {},
    }  # fmt: skip
    assert server.skew(rows=3) == server.skew(rows=3) and server.skew(rows=3).facts["views"]["trips"]["compared"] == 3


@pytest.mark.parametrize(
    "harm", [{"speed": 0.7}, {"distance": 2**60}, {"driver": None}, {"electric": "yes"}, {"weight": 2**60}]
)
def test_a_value_that_differs_is_skew_and_its_column_is_named(server, harm):
    server.deliver(BEFORE, trips())
    server.answer(EVERYONE, f"{DAY} 10:00", lambda vehicle, _: harm if vehicle == "v1" else {})
    outcome = server.skew()
    ((column, value),) = harm.items()
    assert not outcome.verdict.passed and outcome.facts["views"]["trips"]["columns"] == {column: 1}
    (check,) = outcome.verdict.checks
    assert f"{column} in 1 rows" in check.message and (check.unexpected, check.total) == (1, 8)
    assert "v1" not in check.message and str(value) not in check.message.replace("in 1 rows", "")


def test_values_of_public_columns_are_shown(tmp_path):
    server = Server(tmp_path, columns={"driver": "public"})
    server.deliver(BEFORE, trips())
    server.answer(["v1"], f"{DAY} 10:00", {"driver": "bob", "speed": 9.0})
    (check,) = server.skew().verdict.checks
    assert "driver: ann offline, bob served" in check.message and "9.0" not in check.message


def test_rounding_within_the_tolerance_of_parity_is_no_skew(server):
    server.deliver(BEFORE, trips())
    server.answer(["v1"], f"{DAY} 10:00", {"speed": 1 / 3 * (1 + 1e-12)})
    assert server.skew().verdict.passed


def test_a_newer_row_that_was_not_online_yet_is_no_skew(server):
    server.deliver(BEFORE, trips())
    server.deliver(DAY, trips(DAY, 9, driver="bob"), online=False)
    server.answer(EVERYONE, f"{DAY} 10:00")
    outcome = server.skew()
    assert outcome.verdict.passed and outcome.facts["views"]["trips"]["behind"] == 8


def test_a_newer_row_that_became_known_after_the_request_is_no_skew_nor_behind(server):
    server.deliver(BEFORE, trips())
    server.answer(EVERYONE, f"{DAY} 10:00")
    server.deliver(DAY, trips(DAY, 9, driver="bob", created=at(f"{DAY} 11:00")))
    outcome = server.skew()
    assert outcome.verdict.passed and outcome.facts["views"]["trips"]["behind"] == 0


def test_a_row_that_was_corrected_after_the_request_is_explained(server):
    server.deliver(BEFORE, trips())
    server.answer(EVERYONE, f"{DAY} 10:00")
    server.deliver(BEFORE, trips(driver="bob", created=at(f"{DAY} 11:00")))
    server.former.clear()  # by the created time alone
    outcome = server.skew()
    assert outcome.verdict.passed and outcome.facts["views"]["trips"]["explained"] == 8


def test_a_row_that_was_corrected_before_the_request_is_skew_where_no_snapshot_had_it_so(server):
    server.deliver(BEFORE, trips())
    server.answer(EVERYONE, f"{DAY} 10:00")
    server.deliver(BEFORE, trips(driver="bob", created=at(f"{DAY} 09:00")))
    server.former.clear()
    assert server.skew().facts["views"]["trips"]["columns"] == {"driver": 8}


def test_without_a_created_time_an_earlier_snapshot_explains(server):
    server.deliver(BEFORE, trips())
    server.answer(EVERYONE, f"{DAY} 10:00")
    server.deliver(BEFORE, trips(driver="bob"))
    assert server.skew().facts["views"]["trips"]["explained"] == 8
    server.answer(["v1"], f"{DAY} 11:00", {"driver": "eve"})
    assert server.skew().facts["views"]["trips"]["columns"] == {"driver": 1}


def test_rows_from_before_the_partitions_that_are_looked_at_are_left_out(server):
    server.deliver(BEFORE, trips())
    server.answer(EVERYONE[:4], f"{DAY} 10:00", {"driver": "eve"})
    server.deliver(DAY, trips(DAY, 9))
    server.answer(EVERYONE[4:], f"{DAY} 11:00")
    del server.features[BEFORE]
    outcome = server.skew()
    assert outcome.verdict.passed and outcome.facts["views"]["trips"]["compared"] == 4


def test_what_did_not_come_from_the_online_store_is_not_compared(server):
    server.deliver(BEFORE, trips())
    with Log(server.root / "log", durable=False) as log:
        given = {"id": "r", "at": round((at(DAY) + timedelta(hours=1)).timestamp() * 1e6), "ms": 1, "pipeline": "trips",
                 "role": "champion", "generation": 1, "predictions": [0.5], "found": ["given"],
                 "columns": ["driver"], "rows": [["eve"]]}  # fmt: skip
        log.append(json.dumps(given).encode()).result()
    ship(server.root / "log", server.project.objects, "s1")
    assert server.skew().verdict is None
